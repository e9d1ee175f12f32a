"""The five rooms: table on its own, floor, kitchen, living room, study.

Metres, world frame: the robot looks along +x, the rear wall is at x = -2. source: names that upstream's
arena code looks up, and measured positions of upstream's tables, walls and cameras; what stands in the
background is ours and touches nothing.
"""

import math
import xml.etree.ElementTree as ET

from suites.libero.standin.looks import Look
from suites.libero.standin.mjcf import Body, add_body, add_drawn, add_material, numbers, text
from suites.libero.standin.shapes import (
    Shape,
    Vec,
    about,
    ball,
    block,
    blocks,
    join,
    only_drawn,
    only_solid,
    prism,
    rod,
    rounded_plate,
    slab,
)

TEXTURES = "../textures"

#: name, position (m), quaternion. Upstream's task code moves agentview and frontview and adds its own.
CAMERAS = (
    ("frontview", (1.0, 0, 1.45), (0.56, 0.43, 0.43, 0.56)),
    ("birdview", (-0.2, 0, 3.0), (0.7071, 0, 0, 0.7071)),
    ("agentview", (0.5, 0, 1.35), (0.653, 0.271, 0.271, 0.653)),
    ("sideview", (-0.056518, 1.276122, 1.487957), (0.009905, 0.006878, 0.591223, 0.806418)),
)

#: name, position, half sizes (x, y, z) of the walls, which are only seen.
WALLS = (
    ("wall_left_visual", (0.5, 3, 1.5), (2.5, 0.01, 1.5)),
    ("wall_right_visual", (0.5, -3, 1.5), (2.5, 0.01, 1.5)),
    ("wall_rear_visual", (-2, 0, 1.5), (0.01, 3, 1.5)),
    ("wall_front_visual", (3, 0, 1.5), (0.01, 3, 1.5)),
)


def scenes() -> dict[str, str]:
    """File name -> text of every scene."""
    return {
        "libero_tabletop_base_style.xml": tabletop(),
        "libero_floor_base_style.xml": floor(),
        "libero_kitchen_tabletop_base_style.xml": kitchen(),
        "libero_living_room_tabletop_base_style.xml": living_room(),
        "libero_study_base_style.xml": study(),
    }


def tabletop() -> str:
    """A table in an empty room (libero_spatial, libero_goal)."""
    root, asset, world = _room(floor_body=False)
    _table(world, asset)
    return text(root)


def floor() -> str:
    """Nothing but the floor (libero_object)."""
    root, _, _ = _room(floor_body=True)
    return text(root)


def kitchen() -> str:
    """A table before a counter, wall cupboards, a hob and a fridge."""
    root, asset, world = _room(floor_body=False, light=(-1.75, 0, 2.2))
    _table(world, asset)
    add_drawn(world, _counter().drawn, asset, TEXTURES)
    return text(root)


def living_room() -> str:
    """A low table with round corners before a wall unit with a television."""
    root, asset, world = _room(floor_body=True)
    solid = only_solid(  # the outline of the top in two boxes that cross, and the block that it stands on
        block((-0.695, -0.822, 0.41308), (0.195, 0.902, 0.43676), "walnut"),
        block((-0.825, -0.632, 0.41308), (0.340, 0.712, 0.43676), "walnut"),
        block((-0.662, -0.435, 0.0), (0.162, 0.515, 0.41308), "walnut"),
    )
    seen = rounded_plate((-0.2425, 0.04), (0.60, 0.88), 0.405, 0.43676, "walnut_top")
    stand = only_drawn(block((-0.60, -0.40, 0.0), (0.10, 0.48, 0.405), "walnut"))
    table = Body("living_room_table", children=(Body("living_room_table_col", join(solid, seen, stand)),))
    add_body(world, table, asset, TEXTURES)
    add_drawn(world, join(_wall_unit(), _picture((-1.98, 0.60, 1.75), 0.30, 0.22)).drawn, asset, TEXTURES)
    return text(root)


def study() -> str:
    """A desk before a shelf, a plant, a lamp and a picture."""
    root, asset, world = _room(floor_body=False)
    desk = blocks(
        "desk_wood",
        ((-0.689, -1.393, 0.8134), (0.689, 1.393, 0.88513)),
        *(((x - 0.02, y - 0.05, 0.0), (x + 0.02, y + 0.05, 0.8134)) for x in (-0.50, 0.496) for y in (-0.69, 0.712)),
        *(((-0.517, y - 0.05, 0.0053), (0.508, y + 0.05, 0.0453)) for y in (-0.698, 0.715)),
    )
    add_body(world, Body("study_table", desk), asset, TEXTURES)
    background = join(_bookshelf(), _plant(), _lamp(), _picture((-1.98, 0.0, 1.9), 0.35, 0.25))
    add_drawn(world, background.drawn, asset, TEXTURES)
    return text(root)


# --- what every room has --------------------------------------------------------------------------


def _room(floor_body: bool, light: Vec | None = None) -> tuple[ET.Element, ET.Element, ET.Element]:
    """Floor, walls, lights and cameras of a new file: (root, assets, world).

    Args:
        floor_body: put the floor into a body of its own, where upstream's code for this room looks for it.
        light: position of a third light.
    """
    root = ET.Element("mujoco", model="arena")
    asset, world = ET.SubElement(root, "asset"), ET.SubElement(root, "worldbody")
    _surfaces(asset)
    home = ET.SubElement(world, "body", name="floor", pos="0 0 0") if floor_body else world
    ET.SubElement(
        home, "geom", name="floor", type="plane", pos="0 0 0", size="3 3 0.125", condim="3", group="1",
        material="floorplane",
    )  # fmt: skip
    _walls(world)
    lights = [("light1", (1, 1, 4)), ("light2", (-3, -3, 4))] + ([("light_kitchen", light)] if light else [])
    shine = {"diffuse": "0.8 0.8 0.8", "specular": "0.3 0.3 0.3", "castshadow": "false", "directional": "false"}
    for name, pos in lights:
        ET.SubElement(world, "light", name=name, pos=numbers(pos), dir="0 -0.15 -1", **shine)
    for name, pos, quat in CAMERAS:
        ET.SubElement(world, "camera", name=name, mode="fixed", pos=numbers(pos), quat=numbers(quat))
    return root, asset, world


def _surfaces(asset: ET.Element) -> None:
    """Sky, and the materials of floor and walls.

    The arena code puts the chosen style's file names into the textures called texplane and tex-wall.
    """
    sky = {"builtin": "gradient", "rgb1": "0.9 0.9 1", "rgb2": "0.2 0.3 0.4", "width": "256", "height": "256"}
    ET.SubElement(asset, "texture", type="skybox", **sky)
    ground = Look(shine=0.0, texture="light-gray-floor-tile.png", mapping="2d", repeat=(3, 3), uniform=True)
    plaster = Look(shine=0.1, texture="light-gray-plaster.png", mapping="2d", repeat=(1, 1), uniform=True)
    for name, texture, look in (("floorplane", "texplane", ground), ("walls_mat", "tex-wall", plaster)):
        add_material(name, look, asset, TEXTURES)
        asset.find(f"./texture[@name='tex-{name}']").set("name", texture)
        asset.find(f"./material[@name='{name}']").set("texture", texture)


def _walls(world: ET.Element) -> None:
    """Four walls: a flat texture lies on z faces, so each wall is a plate on xy that is put upright."""
    for name, pos, half in WALLS:
        along_x = half[0] > half[1]
        upright = about((1, 0, 0), math.pi / 2)
        quat = upright if along_x else (0.5, 0.5, 0.5, 0.5)
        size = (max(half[0], half[1]), half[2], 0.01)
        ET.SubElement(
            world, "geom", name=name, type="box", pos=numbers(pos), quat=numbers(quat), size=numbers(size),
            group="1", contype="0", conaffinity="0", material="walls_mat",
        )  # fmt: skip


def _table(world: ET.Element, asset: ET.Element) -> None:
    """The table of tabletop and kitchen. The arena code sets sizes and places by the names of its parts."""
    for name, look in (
        ("table_texture", Look(shine=0.1, texture="table_wood.png")),
        ("table_legs", Look((0.5, 0.5, 0.5), 0.6)),
    ):
        add_material(name, look, asset, TEXTURES)
    table = ET.SubElement(world, "body", name="table", pos="0 0 0.4")
    seen = {"group": "1", "contype": "0", "conaffinity": "0"}
    box = {"type": "box", "pos": "0 0 0", "size": "0.4 0.4 0.4"}
    ET.SubElement(table, "geom", name="table_collision", group="0", friction="1 0.005 0.0001", **box)
    ET.SubElement(table, "geom", name="table_visual", material="table_texture", **box, **seen)
    ET.SubElement(table, "site", name="table_top", pos="0 0 0.4", size=numbers([0.001] * 3), rgba="0 0 0 0")
    for k in range(1, 5):
        ET.SubElement(
            table, "geom", name=f"table_leg{k}_visual", type="cylinder", pos="0 0 0", size="0.05 0.1",
            material="table_legs", **seen,
        )  # fmt: skip


# --- backgrounds ----------------------------------------------------------------------------------


def _counter() -> Shape:
    """Kitchen: cupboards with drawers under a marble top, wall cupboards above, hob with a pot, fridge."""
    parts = [
        block((-1.98, -1.9, 0.0), (-1.40, 1.9, 0.86), "cupboard"),
        block((-1.99, -1.9, 0.86), (-1.36, 1.9, 0.90), "marble"),
        block((-1.99, -1.9, 0.90), (-1.97, 1.9, 1.50), "marble"),
        block((-1.98, -1.9, 1.50), (-1.62, 1.9, 2.30), "cupboard"),
        block((-1.90, -0.30, 0.90), (-1.45, 0.30, 0.915), "screen"),
        block((-1.98, -2.80, 0.0), (-1.35, -1.95, 1.80), "metal"),
        prism(0.10, 0.915, 1.06, "dark_metal", sides=8).moved((-1.66, 0.10, 0.0)),
        prism(0.07, 0.90, 1.10, "cream", sides=8).moved((-1.70, -0.85, 0.0)),
    ]
    for k in range(7):
        y = -1.62 + 0.54 * k
        parts.append(block((-1.405, y - 0.26, 0.62), (-1.385, y + 0.26, 0.84), "cupboard"))
        parts.append(block((-1.405, y - 0.26, 0.06), (-1.385, y + 0.26, 0.60), "cupboard"))
        parts.append(block((-1.385, y - 0.09, 0.72), (-1.365, y + 0.09, 0.74), "metal"))
        parts.append(block((-1.385, y - 0.09, 0.54), (-1.365, y + 0.09, 0.56), "metal"))
        parts.append(block((-1.625, y - 0.26, 1.53), (-1.605, y + 0.26, 2.27), "cupboard"))
    return only_drawn(*parts)


def _wall_unit() -> Shape:
    """Living room: low board with a television between two high shelves."""
    parts = [
        block((-1.98, -1.6, 0.0), (-1.55, 1.6, 0.50), "wall_unit"),
        block((-1.96, -0.70, 0.62), (-1.90, 0.70, 1.42), "screen"),
        block((-1.98, -1.8, 1.75), (-1.70, 1.8, 1.95), "wall_unit"),
    ]
    for y in (-1.15, 1.15):
        parts.append(block((-1.98, y - 0.30, 0.50), (-1.60, y + 0.30, 1.75), "wall_unit"))
        parts += [block((-1.605, y - 0.26, z), (-1.595, y + 0.26, z + 0.34), "glass") for z in (0.55, 0.95, 1.35)]
    return only_drawn(*parts)


def _bookshelf() -> Shape:
    """Study: a white case with four boards and books in several colours."""
    boards = [block((-1.98, -1.50, z), (-1.62, -0.50, z + 0.03), "wall_unit") for z in (0.1, 0.5, 0.9, 1.3, 1.7)]
    sides = [block((-1.98, y, 0.0), (-1.62, y + 0.03, 1.75), "wall_unit") for y in (-1.53, -0.50)]
    colours = ("dark_red", "blue", "soft_black", "yellow", "leaf_green", "cream")
    books = [
        block(
            (-1.90, -1.45 + 0.055 * k, z),
            (-1.68, -1.405 + 0.055 * k, z + 0.20 + 0.02 * (k % 3)),
            colours[k % 6],
        )
        for z, count in ((0.53, 9), (0.93, 14), (1.33, 7))
        for k in range(count)
    ]
    return only_drawn(*boards, *sides, *books)


def _plant() -> Shape:
    """Study: a pot with two stems and a crown of leaves."""
    pot = only_drawn(prism(0.14, 0.0, 0.30, "cream", sides=8))
    stems = only_drawn(
        *(rod((dx, 0, 0.3), (2 * dx, 0, 1.3), 0.03, 0.03, "amber", drawn_radius=0.03) for dx in (-0.04, 0.05))
    )
    leaves = []
    for k in range(14):
        turn, z = about((0, 0, 1), 2.4 * k), 0.55 + 0.06 * k
        leaf = ball((0.20, 0, z), (0.20, 0.035, 0.012), "leaf_green")
        leaves.append(leaf.moved((0, 0, 0), turn))
    return join(pot, stems, *leaves).moved((-1.80, 0.50, 0.0))


def _lamp() -> Shape:
    """Study: a floor lamp beside the desk, out of the way of the cameras."""
    return only_drawn(
        prism(0.12, 0.0, 0.03, "soft_black", sides=8),
        prism(0.012, 0.03, 1.50, "soft_black", sides=8),
        prism(0.14, 1.45, 1.70, "cream", sides=8),
    ).moved((-0.9, -1.7, 0.0))


def _picture(centre: Vec, half_width: float, half_height: float) -> Shape:
    """A framed picture on the rear wall."""
    x, y, z = centre
    frame = slab(centre, (0.01, half_width + 0.03, half_height + 0.03), "soft_black")
    canvas = slab((x + 0.008, y, z), (0.006, half_width, half_height), "painting")
    return only_drawn(frame, canvas)
