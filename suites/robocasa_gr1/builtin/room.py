"""Room, table, light and the third-person camera, and the twelve styles: colours of materials.

World frame in metres, z up. Sizes and places are the benchmark's; looks are made up.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import mujoco
import numpy as np

from suites.robocasa_gr1.builtin.objects import Colour, Part, turned

#: Centre of the table's top surface, and its half extents in x and y.
TABLE_TOP, TABLE_HALF = (2.65, -1.65, 0.92), (0.61, 0.375)

#: Half thickness of the table's slab.
TABLE_SLAB = 0.015

#: Size of the room (x from 0, y from 0 to minus this, height) and half thickness of its walls.
ROOM, WALL = (5.3, 3.6, 3.0), 0.02

#: The third-person camera looks at a point above the table from 1.9 m: fixture of the task -> azimuth (degrees, of the
#: direction of view) from which the robot's work is seen best: the opening of a fixture faces the robot.
SCENE_TARGET, SCENE_DISTANCE, SCENE_ELEVATION, SCENE_FOVY = (2.65, -1.75, 1.0), 1.9, -30.0, "45"
SCENE_AZIMUTHS = {"": 215.0, "drawer": 145.0, "microwave": 145.0, "cabinet": 40.0}

#: name -> (specular, shininess, reflectance) of the materials that carry no colour of their own.
MATERIALS = {"matte": (0.1, 0.1), "glossy": (0.5, 0.6), "metal": (0.8, 0.8)}

#: Materials that a style colours, with the same numbers.
STYLED = {
    "cabinet": (0.2, 0.3), "trim": (0.2, 0.3), "handle": (0.8, 0.7), "appliance": (0.5, 0.6), "toaster": (0.6, 0.7),
}

#: Materials that a style replaces by that of a pattern.
SURFACES = ("wall", "floor", "counter")

#: Patterns of walls, floors and counters: texture (see `add_textures`) and its repeats per metre in x and y.
PATTERNS = {
    "plain": ("plain", "1 1"), "tiles": ("tiles", "5 5"), "large_tiles": ("tiles", "2.5 2.5"),
    "bricks": ("tiles", "4.5 12"), "planks": ("tiles", "0.8 7"), "marble": ("speckle", "2.5 2.5"),
}


@dataclass(frozen=True)
class Style:
    """Colours of the styled materials, patterns of three of them, and which variants of the fixtures it has."""

    name: str
    wall: tuple[str, Colour]
    floor: tuple[str, Colour]
    counter: tuple[str, Colour]
    cabinet: Colour
    handle: Colour
    grip: str
    microwave: str
    toaster: str
    paper_towel: str


BRIGHT, DARK_METAL, BRASS, BLACK = (0.8, 0.8, 0.82), (0.25, 0.25, 0.27), (0.75, 0.6, 0.3), (0.06, 0.06, 0.06)

#: Which wall, floor, microwave ... a style has is upstream's (kitchen_styles; its traditional_2 names no toaster).
STYLES = (
    Style(
        "industrial", ("bricks", (0.6, 0.32, 0.25)), ("large_tiles", (0.6, 0.6, 0.59)), ("marble", (0.86, 0.85, 0.84)),
        (0.5, 0.5, 0.52), BRIGHT, "bar", "pack_1", "boxy", "holder_2",
    ),
    Style(
        "scandanavian", ("tiles", (0.94, 0.94, 0.92)), ("planks", (0.82, 0.68, 0.5)), ("planks", (0.74, 0.58, 0.4)),
        (0.93, 0.93, 0.92), BRIGHT, "bar", "pack_1", "basic_popup", "holder_2",
    ),
    Style(
        "coastal", ("tiles", (0.92, 0.94, 0.95)), ("large_tiles", (0.68, 0.76, 0.8)), ("marble", (0.9, 0.9, 0.9)),
        (0.16, 0.24, 0.4), BRASS, "boxed", "hamilton_beach", "basic_popup_2", "holder_4",
    ),
    Style(
        "modern_1", ("marble", (0.86, 0.86, 0.88)), ("planks", (0.76, 0.62, 0.46)), ("plain", (0.94, 0.94, 0.94)),
        (0.42, 0.5, 0.58), DARK_METAL, "bar", "pack_1", "vintage", "holder_2",
    ),
    Style(
        "modern_2", ("large_tiles", (0.16, 0.16, 0.18)), ("planks", (0.58, 0.42, 0.28)), ("marble", (0.88, 0.86, 0.83)),
        (0.24, 0.25, 0.27), BRASS, "boxed", "standard", "fancy", "holder_2",
    ),
    Style(
        "traditional_1", ("large_tiles", (0.82, 0.78, 0.72)), ("planks", (0.66, 0.43, 0.26)),
        ("marble", (0.9, 0.88, 0.85)), (0.94, 0.93, 0.9), BRIGHT, "bar", "standard", "vintage", "holder_2",
    ),
    Style(
        "traditional_2", ("tiles", (0.8, 0.73, 0.64)), ("planks", (0.5, 0.33, 0.2)), ("marble", (0.42, 0.38, 0.36)),
        (0.36, 0.23, 0.15), DARK_METAL, "bar", "gray", "boxy", "holder_4",
    ),
    Style(
        "farmhouse", ("bricks", (0.9, 0.89, 0.87)), ("planks", (0.56, 0.53, 0.5)), ("marble", (0.9, 0.9, 0.88)),
        (0.56, 0.54, 0.51), BRIGHT, "bar", "gray", "basic_popup_2", "holder_4",
    ),
    Style(
        "rustic", ("planks", (0.64, 0.48, 0.32)), ("planks", (0.44, 0.3, 0.19)), ("planks", (0.55, 0.38, 0.23)),
        (0.62, 0.7, 0.56), BRIGHT, "bar", "gray", "basic_popup_2", "holder_2",
    ),
    Style(
        "mediterranean", ("tiles", (0.86, 0.6, 0.4)), ("large_tiles", (0.74, 0.44, 0.28)), ("marble", (0.3, 0.29, 0.3)),
        (0.6, 0.38, 0.22), BRIGHT, "bar", "hamilton_beach", "boxy", "holder_4",
    ),
    Style(
        "transitional_1", ("marble", (0.88, 0.87, 0.85)), ("planks", (0.3, 0.2, 0.14)), ("marble", (0.92, 0.92, 0.9)),
        (0.78, 0.79, 0.8), BLACK, "boxed", "standard", "basic_popup", "holder_2",
    ),
    Style(
        "transitional_2", ("tiles", (0.93, 0.93, 0.93)), ("planks", (0.36, 0.25, 0.17)), ("marble", (0.72, 0.72, 0.73)),
        (0.68, 0.69, 0.7), BRIGHT, "bar", "gray", "basic_popup_2", "holder_4",
    ),
)

#: Colours of the appliances' bodies.
APPLIANCES = {"pack_1": (0.75, 0.76, 0.78), "hamilton_beach": (0.13, 0.13, 0.14), "standard": (0.9, 0.9, 0.9),
              "gray": (0.45, 0.46, 0.48)}
TOASTERS = {"boxy": (0.8, 0.8, 0.82), "basic_popup": (0.93, 0.93, 0.92), "basic_popup_2": (0.2, 0.2, 0.22),
            "vintage": (0.62, 0.78, 0.76), "fancy": (0.6, 0.14, 0.14)}


def add_materials(asset: ET.Element) -> None:
    """All materials without textures, colourless: `paint` writes a style's colours."""
    plain = dict.fromkeys(SURFACES, (0.2, 0.3))
    for name, (specular, shininess) in {**MATERIALS, **STYLED, **plain}.items():
        ET.SubElement(asset, "material", name=name, specular=str(specular), shininess=str(shininess))


def add_textures(asset: ET.Element) -> None:
    """A white sky, and the patterns: a texture and a material each."""
    ET.SubElement(asset, "texture", type="skybox", builtin="flat", rgb1="1 1 1", rgb2="1 1 1", width="64", height="384")
    flat = {"type": "2d", "builtin": "flat", "rgb1": "1 1 1", "rgb2": "1 1 1"}
    ET.SubElement(asset, "texture", flat, name="plain", width="16", height="16")
    ET.SubElement(asset, "texture", flat, name="tiles", width="512", height="512", mark="edge", markrgb="0.6 0.59 0.58")
    ET.SubElement(asset, "texture", flat, name="speckle", width="256", height="256", mark="random", random="0.12",
                  markrgb="0.9 0.89 0.88")
    for name, (texture, repeats) in PATTERNS.items():
        ET.SubElement(asset, "material", name=name, texture=texture, texrepeat=repeats, texuniform="true",
                      specular="0.2", shininess="0.3")


def room_parts() -> list[Part]:
    """Floor and three walls, in the world frame; a box's face towards the room lies in the wall's plane."""
    length, depth, height = ROOM
    x, y, z = length / 2 + 2 * WALL, depth / 2 + 2 * WALL, height / 2
    quarter = (0.70710678, 0.70710678, 0.0, 0.0)
    sides = [((-WALL, -depth / 2, z), (0.5, 0.5, 0.5, 0.5)), ((length + WALL, -depth / 2, z), (0.5, 0.5, -0.5, -0.5))]
    return [
        Part("box", (x, y, WALL), (length / 2, -depth / 2, -WALL), material="floor"),
        Part("box", (x, z, WALL), (length / 2, WALL, z), quarter, material="wall"),
        *[Part("box", (y, z, WALL), pos, quat, material="wall") for pos, quat in sides],
    ]


def table_parts() -> list[Part]:
    """The table's slab in the frame of its top's centre.

    One piece, where upstream's collides in three: a dish across a seam gets horizontal contacts that push it aside
    (measured: containers jumped 3 - 8 cm in 10 - 40 % of the resets).
    """
    (x, y), z = TABLE_HALF, TABLE_SLAB
    return [Part("box", (x, y, z), (0, 0, -z), material="counter")]


def cupboard_parts() -> list[Part]:
    """What stands under the table, in the same frame: four drawers on the left, a door and a panel on the right."""
    top, floor, foot, row, front = -2 * TABLE_SLAB, -TABLE_TOP[2], 0.05, 0.21, -0.305
    low = floor + foot
    parts = [
        Part("box", (0.61, 0.33, (top - low) / 2), (0, 0.035, (top + low) / 2), material="cabinet"),
        Part("box", (0.61, 0.28, foot / 2), (0, 0.035, floor + foot / 2), rgb=(0.12, 0.12, 0.12)),
    ]
    faces = [(-0.305, low + row * (index + 0.5), row / 2) for index in range(4)]
    faces += [(0.305, low + 1.5 * row, 1.5 * row), (0.305, low + 3.5 * row, row / 2)]
    for x, z, half in faces:
        parts.append(Part("box", (0.296, 0.01, half - 0.004), (x, front, z), material="trim", solid=False))
        parts.append(Part("capsule", (0.008, 0.07), (x, front - 0.03, z), turned("y", math.pi / 2), material="handle",
                          solid=False))
    return parts


def surfaces(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    """Surface -> numbers of its geoms, in a model that was never painted."""
    return {name: np.flatnonzero(model.geom_matid == model.material(name).id) for name in SURFACES}


def paint(model: mujoco.MjModel, style: Style, geoms: dict[str, np.ndarray]) -> None:
    """Write a style's colours into the materials, and colours and patterns into the geoms of `surfaces`.

    Textures stay with their materials: a renderer copies those once and would not see a change.
    """
    trim = tuple(0.93 * value for value in style.cabinet)
    colours = {"cabinet": style.cabinet, "trim": trim, "handle": style.handle, "toaster": TOASTERS[style.toaster],
               "appliance": APPLIANCES[style.microwave]}
    for name, colour in colours.items():
        model.mat_rgba[model.material(name).id, :3] = colour
    for name, (pattern, colour) in zip(SURFACES, (style.wall, style.floor, style.counter)):
        model.geom_matid[geoms[name]] = model.material(pattern).id
        model.geom_rgba[geoms[name], :3] = colour


def add_light_and_camera(world: ET.Element, fixture: str) -> None:
    """Upstream's only light (beside MuJoCo's headlight) and the camera for videos of a task with this fixture."""
    ET.SubElement(world, "light", pos="2 -2 2", dir="0.01 0.01 -1", directional="true", castshadow="false",
                  diffuse="0.3 0.3 0.3", ambient="0.3 0.3 0.3", specular="0.3 0.3 0.3")
    azimuth, elevation = math.radians(SCENE_AZIMUTHS[fixture]), math.radians(SCENE_ELEVATION)
    level = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    view = math.cos(elevation) * level + (0.0, 0.0, math.sin(elevation))
    right = np.array([level[1], -level[0], 0.0])
    axes = [f"{value:.6f}" for value in (*right, *np.cross(right, view))]
    pos = [f"{value:.6f}" for value in SCENE_TARGET - SCENE_DISTANCE * view]
    ET.SubElement(world, "camera", name="scene", mode="fixed", pos=" ".join(pos), xyaxes=" ".join(axes),
                  fovy=SCENE_FOVY)
