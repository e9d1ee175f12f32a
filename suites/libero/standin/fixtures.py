"""The furniture with joints: two cabinets, the flat stove, the microwave.

Metres, radians, kilograms. source: measured bounding boxes, joints, sites and inertias of upstream's
collision geometry; clearances between drawers and shelves are kept to the tenth of a millimetre, because
drawers rub on what they touch.
"""

import math

from suites.libero.standin.mjcf import DEFAULT, SHELL, Body, Joint, Placing, Site
from suites.libero.standin.objects import Thing
from suites.libero.standin.shapes import (
    Geom,
    Shape,
    about,
    block,
    blocks,
    hollow,
    join,
    only_drawn,
    only_solid,
    prism,
    rod,
    slab,
)

FOLDER = "articulated_objects"
HEAVY = (3.0, 1.0)  # kg, kg m^2: upstream gives drawers and the knob this inertia
LYING = about((0, 1, 0), math.pi / 2)  # drawer regions are stored turned about y: size (z, y, x)

# --- cabinets -------------------------------------------------------------------------------------

#: name, joint, z of the drawer's middle, z of the region, z of the handle's middle
DRAWERS = (
    ("top", 0.1831, 0.18563, 0.1839),
    ("middle", 0.1134, 0.11690, 0.1104),
    ("bottom", 0.0448, 0.04701, 0.0411),
)


def cabinet(wood: str, handle: str) -> Body:
    """A chest of three drawers that open towards -y by up to 16 cm."""
    shell = blocks(
        wood,
        ((-0.1174, -0.0792, 0.0085), (-0.1070, 0.1117, 0.2201)),  # sides
        ((0.1138, -0.0792, 0.0085), (0.1242, 0.1117, 0.2201)),
        ((-0.1174, 0.1070, 0.0087), (0.1212, 0.1117, 0.2201)),  # back
        ((-0.1190, -0.0735, 0.0046), (0.1270, 0.1061, 0.0092)),  # bottom
        ((-0.1080, -0.0709, 0.0082), (0.1159, 0.1083, 0.0104)),  # under each drawer
        ((-0.1080, -0.0709, 0.0782), (0.1157, 0.1083, 0.0804)),
        ((-0.1080, -0.0709, 0.1483), (0.1156, 0.1083, 0.1505)),
        ((-0.1234, -0.0783, 0.2202), (0.1312, 0.1099, 0.2230)),  # top
    )
    top_side = Site("top_side", (0.00354, 0.01567, 0.22152), (0.12534, 0.09438, 0.00147))
    drawers = tuple(_drawer(name, z, region, grip, wood, handle) for name, z, region, grip in DRAWERS)
    return Body("object", children=(Body("base", shell, sites=(top_side,), children=drawers),))


def _drawer(name: str, z: float, region: float, grip: float, wood: str, handle: str) -> Body:
    """One drawer around height z: an open box with a bar handle in front."""
    front = block((-0.1060, -0.0780, z - 0.0343), (0.1127, -0.0704, z + 0.0343), wood)
    box = hollow((-0.1046, -0.0704, z - 0.0320), (0.1117, 0.0943, z + 0.0322), (0.0055, 0.0070), 0.0080, wood)
    posts = [
        block((x - 0.0051, -0.0941, grip - 0.0055), (x + 0.0051, -0.0729, grip + 0.0055), handle)
        for x in (-0.0356, 0.0292)
    ]
    bar = rod((-0.0473, -0.1016, grip), (0.0417, -0.1016, grip), 0.0077, 0.0077, handle, drawn_radius=0.0077)
    return Body(
        f"cabinet_{name}", join(front, box, bar, *posts), inertia=HEAVY,
        joint=Joint(f"{name}_level", "slide", (0, 1, 0), (-0.16, 0.01), 50),
        sites=(Site(f"{name}_region", (0.00328, 0.01128, region), (0.02993, 0.07561, 0.10224), LYING),),
    )  # fmt: skip


# --- stove ----------------------------------------------------------------------------------------


def stove() -> Body:
    """A flat stove: a hot plate 15 cm beside a knob that is turned by up to 2.1 rad (on from 0.5)."""
    plate = join(
        only_drawn(block((-0.095, -0.095, -0.02), (0.095, 0.095, 0.02), "metal")),
        # upstream has a 1 mm sheet at this height above the plate: a bowl that falls on it may slip through,
        # so ours is solid down to the plate
        only_solid(block((-0.095, -0.095, -0.02), (0.095, 0.095, 0.0255), "metal")),
        only_drawn(prism(0.080, 0.02, 0.0215, "dark_metal"), prism(0.018, 0.02, 0.025, "dark_metal")),
        *(only_drawn(_ring(r, 0.0235, 0.0035, "dark_metal")) for r in (0.036, 0.056, 0.074)),
    )
    cook = Site("cook_region", (0, 0, 0), (0.075, 0.075, 0.0025))
    flame = Site("burner", (0, 0, 0.022), (0.0625, 0.0005), kind="cylinder", rgba=(0.9, 0.05, 0.05, 1))
    burner = Body(
        "burner",
        plate,
        surface=DEFAULT,
        pos=(0.15, 0, 0),
        sites=(cook, flame),
        children=(Body("burner_plate"),),
    )
    dial = join(
        # 16 sides: the corners of 8 would catch on the plate, whose edge is 55 mm from the axis
        prism(0.0475, 0.0004, 0.0128, "knob_black", sides=16).moved((0.0013, 0.0044, 0)),
        block((-0.0110, -0.0406, 0.0128), (0.0136, 0.0520, 0.0500), "knob_black"),
    )
    knob = Body(
        "button", dial, quat=about((0, 0, 1), math.pi / 2), inertia=HEAVY,
        joint=Joint("button", "hinge", (0, 0, 1), (-0.005, 2.1), 1),
    )  # fmt: skip
    return Body("object", children=(Body("base", children=(burner, knob)),))


def _ring(radius: float, z: float, half: float, look: str) -> Shape:
    """A drawn ring of 24 short capsules."""
    length = radius * math.tan(math.pi / 24)
    piece = Geom("capsule", (radius, 0, z), (half, length), about((1, 0, 0), math.pi / 2), look)
    turns = (about((0, 0, 1), 2 * math.pi * k / 24) for k in range(24))
    return Shape((), tuple(piece.moved((0, 0, 0), turn) for turn in turns))


# --- microwave ------------------------------------------------------------------------------------


def microwave() -> Body:
    """A microwave oven, open towards -y; the door hangs on the left and swings out by up to 120 degrees."""
    case = blocks(
        "appliance",
        ((-0.1725, -0.0880, 0.0000), (-0.1435, 0.1110, 0.1870)),  # left wall
        ((0.0635, -0.0880, 0.0000), (0.1725, 0.1110, 0.1870)),  # electronics
        ((-0.1440, 0.0805, 0.0000), (0.0630, 0.1105, 0.1870)),  # back
        ((-0.1435, -0.0880, 0.1680), (0.0635, 0.0810, 0.1870)),  # top
        ((-0.1435, -0.0880, 0.0000), (0.0635, 0.0800, 0.0240)),  # floor
        ((0.0875, -0.1105, 0.0000), (0.1725, -0.0865, 0.1870)),  # panel
    )
    panel = only_drawn(
        block((0.098, -0.1115, 0.150), (0.162, -0.1100, 0.172), "screen"),
        *(
            slab((0.108 + 0.022 * column, -0.111, 0.038 + 0.026 * row), (0.008, 0.001, 0.008), "metal")
            for column in range(3)
            for row in range(4)
        ),
    )
    sites = (
        Site("top_side", (0, 0.01, 0.20), (0.12, 0.0835, 0.005)),
        Site("heating_region", (0, 0.01, 0.096), (0.12, 0.0835, 0.08)),
    )
    # the handle is a bar on two posts, 24 cm from the hinge
    leaf = only_solid(block((0.0, -0.0250, -0.0925), (0.2590, -0.0010, 0.0925), "black")) + only_drawn(
        blocks(
            "appliance",
            ((0.0, -0.0250, -0.0925), (0.2590, -0.0010, -0.062)),
            ((0.0, -0.0250, 0.062), (0.2590, -0.0010, 0.0925)),
            ((0.0, -0.0250, -0.062), (0.045, -0.0010, 0.062)),
            ((0.205, -0.0250, -0.062), (0.2590, -0.0010, 0.062)),
        ),
        block((0.045, -0.018, -0.062), (0.205, -0.008, 0.062), "glass"),
    )
    handle = join(
        rod((0.2375, -0.054, -0.070), (0.2375, -0.054, 0.070), 0.0095, 0.0095, "metal", drawn_radius=0.0095),
        *(rod((0.2375, -0.054, z), (0.2375, -0.0225, z), 0.0095, 0.0095, "metal") for z in (-0.065, 0.065)),
    )
    door = Body(
        "microdoorroot", leaf + handle, 0.26, SHELL, pos=(-0.1725, -0.088, 0.096),
        joint=Joint("microjoint", "hinge", (0, 0, 1), (-2.094, 0), 0.5),
    )  # fmt: skip
    return Body("object", case + panel, 3.0, SHELL, sites=sites, children=(door,))


LARGE = Placing(0.045, 0.045, 0.045, 0.05)

#: Furniture by upstream's name of it.
FIXTURES: dict[str, Thing] = {
    "flat_stove": Thing(FOLDER, stove(), LARGE),
    "microwave": Thing(FOLDER, microwave(), Placing(0.06, 0.06, 0.015)),
    "white_cabinet": Thing(FOLDER, cabinet("white_wood", "dark_metal"), LARGE),
    "wooden_cabinet": Thing(FOLDER, cabinet("black_wood", "metal"), LARGE),
}
