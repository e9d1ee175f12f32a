"""What is fixed to the table: drawer, microwave and cabinet to be shut, and toaster, plant and paper towel.

Boxes, joints, ranges and interiors of the first three are the benchmark's facts (upstream's fixtures); the microwave's
walls and all looks are made up around them. Metres, radians; frames are those of the fixtures' own bodies.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, hypot, pi, sin

from suites.robocasa_gr1.builtin.objects import Part, Vector, decor, turned, turned_twice
from suites.robocasa_gr1.builtin.room import TABLE_TOP, Style

METAL = (0.75, 0.75, 0.77)

#: Names of the static body and of the moving one, and of the joint between them.
BODY, DOOR = "fixture", "fixture_door"
JOINTS = {"drawer": "drawer_slidejoint", "microwave": "microwave_microjoint", "cabinet": "cabinet_doorhinge"}


@dataclass(frozen=True)
class Closing:
    """One variant of a fixture that a task shuts.

    origin: of the fixture's body in the world; half: half extents (x, y) of its footprint. box: geoms that stand still,
    door: geoms that move, in the same frame while shut. joint: MJCF attributes; pivot: its position. interior: low and
    high corner of the goal box, in the frame of the moving body (drawer) or of the still one. weight: of what moves
    (kg, upstream's).
    """

    origin: Vector
    half: tuple[float, float]
    box: tuple[Part, ...]
    door: tuple[Part, ...]
    joint: dict[str, str]
    pivot: Vector
    interior: tuple[Vector, Vector]
    weight: float


@dataclass(frozen=True)
class Decoration:
    """A thing that stands still. half: half extents of its bounding box, centred on the body's origin."""

    parts: tuple[Part, ...]
    half: Vector


def drawer(style: Style) -> Closing:
    """A drawer, 0.45 x 0.30 x 0.25, that opens towards the robot."""
    wall = {"material": "cabinet"}
    box = (
        Part("box", (0.225, 0.135, 0.015), (0, 0.015, 0.11), **wall),
        Part("box", (0.225, 0.135, 0.015), (0, 0.015, -0.11), **wall),
        Part("box", (0.195, 0.015, 0.095), (0, 0.135, 0), **wall),
        Part("box", (0.015, 0.135, 0.095), (0.21, 0.015, 0), **wall),
        Part("box", (0.015, 0.135, 0.095), (-0.21, 0.015, 0), **wall),
    )
    inner = {"rgb": (0.78, 0.68, 0.54)}
    door = (
        Part("box", (0.194, 0.12, 0.015), (0, 0, -0.079), **inner),
        Part("box", (0.164, 0.015, 0.064), (0, 0.105, 0), **inner),
        Part("box", (0.015, 0.12, 0.064), (0.179, 0, 0), **inner),
        Part("box", (0.015, 0.12, 0.064), (-0.179, 0, 0), **inner),
        *panel(0.2235, 0.1235),
        *grip(style.grip, (0.0, -0.135, 0.0), 0.0835, level=True),
    )
    return Closing(
        origin=(TABLE_TOP[0] + 0.244, TABLE_TOP[1] + 0.15, 1.045), half=(0.225, 0.15), box=box, door=door,
        joint={"type": "slide", "axis": "0 1 0", "range": "-0.3 0", "damping": "10"}, pivot=(0.0, -0.15, 0.0),
        interior=((-0.164, -0.12, -0.064), (0.164, 0.09, 0.094)), weight=0.82,
    )


def cabinet(style: Style) -> Closing:
    """A cabinet, 0.30 x 0.30 x 0.80, with a shelf half way up and a door hinged on the right."""
    wall = {"material": "cabinet"}
    box = (
        Part("box", (0.15, 0.135, 0.015), (0, 0.015, 0.385), **wall),
        Part("box", (0.15, 0.135, 0.015), (0, 0.015, -0.385), **wall),
        Part("box", (0.12, 0.015, 0.37), (0, 0.135, 0), **wall),
        Part("box", (0.015, 0.135, 0.37), (0.135, 0.015, 0), **wall),
        Part("box", (0.015, 0.135, 0.37), (-0.135, 0.015, 0), **wall),
        Part("box", (0.12, 0.10, 0.015), (0, 0.035, 0), rgb=(0.78, 0.68, 0.54)),
    )
    door = (*panel(0.1485, 0.3985), *grip(style.grip, (-0.0985, -0.135, -0.1985), 0.12, level=False))
    return Closing(
        origin=(TABLE_TOP[0], TABLE_TOP[1] + 0.01875, 1.32), half=(0.15, 0.15), box=box, door=door,
        joint={"type": "hinge", "axis": "0 0 1", "range": "0 3", "damping": "2"}, pivot=(0.135, -0.15, 0.0),
        interior=((-0.12, -0.12, -0.37), (0.12, 0.12, 0.37)), weight=0.04,
    )


def panel(width: float, height: float) -> list[Part]:
    """A framed front, half `width` x half `height`, 5 mm in front of the housing's front at y = -0.12."""
    frame = 0.04
    sides = [((x, -0.1375, 0), (frame, 0.0125, height)) for x in (frame - width, width - frame)]
    sides += [((0, -0.1375, z), (width - 2 * frame, 0.0125, frame)) for z in (frame - height, height - frame)]
    inset = Part("box", (width - 2 * frame, 0.005, height - 2 * frame), (0, -0.13, 0), material="trim")
    return [inset, *[Part("box", half, pos, material="cabinet") for pos, half in sides]]


def grip(kind: str, root: Vector, length: float, level: bool) -> list[Part]:
    """A handle 5 cm in front of `root`, `length` its half length. kind: bar (round) or boxed; level: horizontal."""
    x, y, z = root
    spread = 0.6 * length
    posts = [(x + s * spread, y - 0.025, z) if level else (x, y - 0.025, z + s * spread) for s in (-1, 1)]
    look = {"material": "handle"}
    if kind == "boxed":
        size = (length, 0.01, 0.01) if level else (0.01, 0.01, length)
        return [Part("box", size, (x, y - 0.05, z), **look),
                *[Part("box", (0.01, 0.025, 0.01), post, **look) for post in posts]]
    along = turned("y", pi / 2) if level else (1.0, 0.0, 0.0, 0.0)
    out = turned("x", pi / 2)
    return [Part("cylinder", (0.013, length), (x, y - 0.05, z), along, **look),
            *[Part("cylinder", (0.008, 0.025), post, out, **look) for post in posts]]


@dataclass(frozen=True)
class Oven:
    """One microwave: height of its origin in the world, hinge (x, y), interior (low, high) per axis, right edge of its
    door, thickness of its door."""

    height: float
    hinge: tuple[float, float]
    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]
    edge: float
    thick: float


#: Height, hinge and interior are upstream's four microwaves, scaled to 0.35 x 0.40 x 0.30.
OVENS = {
    "pack_1": Oven(
        1.0581, hinge=(-0.1750, -0.1530), x=(-0.1570, 0.0675), y=(-0.1530, 0.1512), z=(-0.1062, 0.1296),
        edge=0.085, thick=0.03),
    "hamilton_beach": Oven(
        1.0576, hinge=(-0.1663, -0.1774), x=(-0.1358, 0.0770), y=(-0.1529, 0.1765), z=(-0.0853, 0.1211),
        edge=0.095, thick=0.03),
    "standard": Oven(
        1.0644, hinge=(-0.1544, -0.1779), x=(-0.1475, 0.0892), y=(-0.1309, 0.1794), z=(-0.1020, 0.1224),
        edge=0.105, thick=0.05),
    "gray": Oven(
        1.0692, hinge=(-0.1616, -0.1468), x=(-0.1699, 0.1681), y=(-0.1072, 0.2144), z=(-0.1415, 0.1492),
        edge=0.0975, thick=0.065),
}

#: Half width and height of all microwaves (the gray one is a little higher: see its interior).
OVEN_WIDTH, OVEN_HEIGHT = 0.175, 0.30

#: Weight of the doors (kg; upstream's gray one: 4.7).
DOOR_WEIGHT = 4.7

#: Gap between door and housing: nothing but the joint's limit stops the door.
OVEN_GAP = 0.001


def microwave(style: Style) -> Closing:
    """A microwave whose door is hinged on the left; the panel with the buttons is on the right."""
    oven = OVENS[style.microwave]
    low, high = (tuple(axis[end] for axis in (oven.x, oven.y, oven.z)) for end in (0, 1))
    bottom = TABLE_TOP[2] - oven.height
    top, back, width = max(bottom + OVEN_HEIGHT, high[2] + 0.006), high[1] + 0.008, OVEN_WIDTH
    shell = {"material": "appliance"}
    swing = hypot(oven.edge - oven.hinge[0], low[1] - oven.hinge[1])  # of the door's rear edge around the hinge
    side = oven.hinge[0] + swing + 0.002
    box = [
        between((-width, low[1], bottom), (width, back, low[2]), **shell),
        between((-width, low[1], high[2]), (width, back, top), **shell),
        between((-width, high[1], low[2]), (width, back, high[2]), **shell),
        between((-width, low[1], low[2]), (low[0], high[1], high[2]), **shell),
        between((high[0], low[1], low[2]), (width, high[1], high[2]), **shell),
        between((side, low[1] - oven.thick, bottom + 0.004), (width, low[1], top - 0.004), **shell),
        *buttons(side, low[1] - oven.thick, bottom, top),
    ]
    turn = (low[0] + min(high[0], oven.edge)) / 2
    radius = 0.85 * min(turn - low[0], (high[1] - low[1]) / 2)
    box.append(decor("cylinder", (radius, 0.001), (turn, (low[1] + high[1]) / 2, low[2]), (0.75, 0.8, 0.82), "glossy"))
    return Closing(
        origin=(TABLE_TOP[0] + 0.183, TABLE_TOP[1] + 0.075, oven.height), half=(OVEN_WIDTH, 0.2), box=tuple(box),
        door=tuple(oven_door(oven, low[1], bottom, top)),
        joint={"type": "hinge", "axis": "0 0 1", "range": "-1.57 0", "damping": "2", "frictionloss": "2",
               "armature": "0.01"},
        pivot=(*oven.hinge, 0.0),
        interior=(low, high), weight=DOOR_WEIGHT,
    )


def oven_door(oven: Oven, face: float, bottom: float, top: float) -> list[Part]:
    """The door's frame, its window and its handle, in front of y = face."""
    left, right, front, back = oven.hinge[0] + 0.001, oven.edge, face - oven.thick, face - OVEN_GAP
    low, high = bottom + 0.006, top - 0.006
    frame = 0.03
    parts = [
        between((left, front, low), (right, back, high), material="appliance"),
        decor("box", ((right - left) / 2 - frame, 0.001, (high - low) / 2 - frame),
              ((left + right) / 2 - 0.012, front, (low + high) / 2), (0.05, 0.05, 0.06), "glossy"),
    ]
    x, middle = right - 0.012, (low + high) / 2
    reach, half = 0.03, 0.36 * (high - low)
    parts.append(Part("box", (0.008, 0.007, half), (x, front - reach, middle), material="handle"))
    posts = [(x, front - reach / 2, middle + side * 0.85 * half) for side in (-1, 1)]
    parts += [Part("box", (0.008, reach / 2, 0.009), post, material="handle") for post in posts]
    return parts


def buttons(left: float, front: float, bottom: float, top: float) -> list[Part]:
    """A display above and two columns of keys below on the panel beside the door."""
    x, half = (left + OVEN_WIDTH) / 2, (OVEN_WIDTH - left) / 2 - 0.01
    parts = [decor("box", (half, 0.001, 0.018), (x, front, top - 0.045), (0.05, 0.16, 0.12), "glossy")]
    for row in range(4):
        for side in (-1, 1):
            pos = (x + side * half / 2, front, bottom + 0.05 + 0.035 * row)
            parts.append(decor("box", (0.4 * half, 0.002, 0.01), pos, (0.85, 0.85, 0.85)))
    return parts


def between(low: Vector, high: Vector, **look: object) -> Part:
    """The box with these two corners."""
    half = tuple((b - a) / 2 for a, b in zip(low, high))
    return Part("box", half, tuple((a + b) / 2 for a, b in zip(low, high)), **look)


#: Half extents of the toasters (width from upstream's five models at 0.30 m depth).
TOASTER_SIZES = {"boxy": (0.092, 0.15, 0.092), "vintage": (0.097, 0.15, 0.105), "fancy": (0.078, 0.15, 0.087),
                 "basic_popup": (0.078, 0.15, 0.098), "basic_popup_2": (0.087, 0.15, 0.0795)}


def toaster(style: Style) -> Decoration:
    """Two slots along y, a lever in front."""
    x, y, z = TOASTER_SIZES[style.toaster]
    slots = [decor("box", (0.016, 0.75 * y, 0.001), (side * 0.4 * x, 0, z), (0.06, 0.06, 0.06)) for side in (-1, 1)]
    base = decor("box", (1.005 * x, 1.005 * y, 0.08 * z), (0, 0, -0.92 * z), (0.1, 0.1, 0.1))
    lever = decor("box", (0.014, 0.012, 0.006), (0, -y - 0.008, 0.3 * z), (0.1, 0.1, 0.1))
    dial = decor("cylinder", (0.012, 0.006), (0.45 * x, -y - 0.004, -0.3 * z), METAL, "metal", turned("x", pi / 2))
    return Decoration((Part("box", (x, y, z), material="toaster"), *slots, base, lever, dial), (x, y, z))


#: Rings of leaves of the plant: how many, distance from the axis (m), height of their middle (m), lean (rad).
LEAVES = ((7, 0.05, 0.01, 0.9), (6, 0.036, 0.05, 0.55), (4, 0.016, 0.07, 0.2))


def plant(style: Style) -> Decoration:
    """A pot with leaves; it collides as its bounding box."""
    half = (0.105, 0.105, 0.15)
    pot = [decor("cylinder", (0.062, 0.055), (0, 0, -0.095), (0.93, 0.92, 0.9), "glossy"),
           decor("cylinder", (0.068, 0.01), (0, 0, -0.045), (0.93, 0.92, 0.9), "glossy"),
           decor("cylinder", (0.056, 0.002), (0, 0, -0.036), (0.25, 0.17, 0.11))]
    leaves = []
    for ring, (count, reach, rise, lean) in enumerate(LEAVES):
        for index in range(count):
            yaw = 2 * pi * (index + 0.5 * ring) / count
            leaves.append(leaf(yaw, reach, rise, lean, (0.2 + 0.05 * ring, 0.46 + 0.04 * ring, 0.2)))
    return Decoration((Part("box", half, visible=False), *pot, *leaves), half)


def leaf(yaw: float, reach: float, rise: float, lean: float, rgb: Vector) -> Part:
    """An upright leaf, `reach` from the axis, leaning outwards."""
    pos = (reach * cos(yaw), reach * sin(yaw), rise)
    return decor("ellipsoid", (0.006, 0.02, 0.07), pos, rgb, quat=turned_twice(yaw, lean))


#: Half width of the two paper towel holders that the styles use, 0.35 m high.
TOWEL_WIDTHS = {"holder_2": 0.096, "holder_4": 0.0875}


def paper_towel(style: Style) -> Decoration:
    """A roll on a stand; it collides as its bounding box."""
    width = TOWEL_WIDTHS[style.paper_towel]
    half = (width, width, 0.175)
    metal = METAL if style.paper_towel == "holder_2" else (0.36, 0.25, 0.16)
    return Decoration((
        Part("box", half, visible=False),
        decor("cylinder", (width, 0.008), (0, 0, -0.167), metal, "metal"),
        decor("cylinder", (0.008, 0.165), (0, 0, 0), metal, "metal"),
        decor("sphere", (0.014,), (0, 0, 0.161), metal, "metal"),
        decor("cylinder", (0.068, 0.135), (0, 0, -0.02), (0.96, 0.96, 0.95)),
        decor("cylinder", (0.02, 0.1355), (0, 0, -0.02), (0.7, 0.6, 0.45)),
    ), half)


CLOSINGS = {"drawer": drawer, "microwave": microwave, "cabinet": cabinet}
DECORATIONS = {"toaster": toaster, "plant": plant, "paper_towel": paper_towel}

#: Joint value at which a door counts as fully open: the drawer's is 0.55 of its depth (upstream's fixtures).
OPEN_AT = {"drawer": -0.55 * 0.3, "microwave": -pi / 2, "cabinet": pi / 2}
