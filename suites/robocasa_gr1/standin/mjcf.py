"""Writing objects as the model folders that upstream loads: model.xml, one mesh, one picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from suites.robocasa_gr1.standin.inventory import SCALES, Shelf, shelves
from suites.robocasa_gr1.standin.meshes import Mesh, join, write_obj
from suites.robocasa_gr1.standin.objects import OBJECTS
from suites.robocasa_gr1.standin.textures import generator, write_png
from suites.robocasa_gr1.standin.things import Part, Solid, Thing

#: Models of each category and registry. The 18 pick-and-place tasks draw from the first half only (split A).
INSTANCES = 4

#: Relative differences between instances: largest of size, standard deviation of brightness.
SIZE_SPREAD, SHADE_SPREAD = 0.06, 0.04

#: Pixels across of one part's picture.
SIZE = 128

#: Share of a cell that is left free at either side, so that neighbours do not shine through.
MARGIN = 0.03

#: Attributes of geoms that collide, and of those that are only seen.
SOLID = {"group": "0", "rgba": "0.5 0 0 0.5"}
DRAWN = {"group": "1", "contype": "0", "conaffinity": "0", "mass": "0"}


def write_objects(folder: Path, categories: Iterable[str] | None = None) -> None:
    """Write the models of `categories` (None: all of the inventory) into the ``objects`` folder."""
    for shelf in shelves():
        (folder / shelf.registry).mkdir(parents=True, exist_ok=True)
        if categories is None or shelf.category in categories:
            for name in model_names(shelf):
                write_object(folder / shelf.folder / name, shelf)


def model_names(shelf: Shelf) -> tuple[str, ...]:
    """Names that upstream does not exclude. Its pots lie among the pans, told apart by upstream's own names."""
    if shelf.names:
        return shelf.names
    if shelf.others:
        return tuple(f"{shelf.category}_{index}" for index in range(1, INSTANCES + 1))
    return tuple(f"{shelf.category}_stand_in_{index}" for index in range(1, INSTANCES + 1))


def write_object(folder: Path, shelf: Shelf) -> None:
    """Write one instance. Its looks and size follow from the category and the names of folder and registry."""
    rng = generator(f"{shelf.registry}/{shelf.category}/{folder.name}")
    thing = OBJECTS[shelf.category](rng)
    size = 1 + SIZE_SPREAD * (2 * rng.random() - 1)
    shade = 1 + SHADE_SPREAD * rng.normal(size=3)
    mesh, picture = atlas(thing.parts, rng)
    folder.mkdir(parents=True)
    # upstream multiplies by the category's scale: divided out here, so that the table's sizes are the final ones
    factor = size / SCALES[shelf.category][shelf.registry]
    write_obj(folder / "visual.obj", mesh.scaled(factor))
    write_png(folder / "visual.png", picture * shade)
    (folder / "model.xml").write_text(model_xml(folder.name, thing, factor), encoding="utf-8", newline="\n")


def atlas(parts: tuple[Part, ...], rng: np.random.Generator, size: int = SIZE) -> tuple[Mesh, np.ndarray]:
    """All parts as one mesh, and their pictures side by side: (size, size * parts, 3)."""
    count = len(parts)
    pictures = [part.paint(rng, size) for part in parts]
    meshes = [place(part.mesh, index, count) for index, part in enumerate(parts)]
    return join(meshes), np.concatenate(pictures, axis=1)


def place(mesh: Mesh, index: int, count: int) -> Mesh:
    """The mesh with its uv in cell `index` of `count` cells side by side."""
    u = (index + MARGIN + (1 - 2 * MARGIN) * mesh.uv[:, 0]) / count
    v = MARGIN / 2 + (1 - MARGIN) * mesh.uv[:, 1]
    return Mesh(mesh.vertices, np.stack([u, v], 1), mesh.faces)


def model_xml(name: str, thing: Thing, factor: float) -> str:
    """The text of model.xml; all lengths of `thing` are multiplied by `factor`.

    Upstream wants a body named object, geoms of group 0 that collide and of group 1 that are seen, three sites that
    give its bounding box, and spawn regions with names that begin with spawn_ (models/objects/objects.py).
    """
    root = ElementTree.Element("mujoco", model=name)
    asset = ElementTree.SubElement(root, "asset")
    ElementTree.SubElement(asset, "texture", type="2d", name=f"tex-{name}", file="visual.png")
    ElementTree.SubElement(asset, "material", name=name, texture=f"tex-{name}", specular="0.3", shininess="0.2")
    ElementTree.SubElement(asset, "mesh", name=f"{name}_vis", file="visual.obj")
    outer = ElementTree.SubElement(ElementTree.SubElement(root, "worldbody"), "body")
    body = ElementTree.SubElement(outer, "body", name="object")
    ElementTree.SubElement(body, "geom", type="mesh", mesh=f"{name}_vis", material=name, **DRAWN)
    for solid in thing.solids:
        ElementTree.SubElement(body, "geom", **geom(solid, factor), **SOLID)
    for index, spawn in enumerate(thing.spawns):
        ElementTree.SubElement(body, "geom", name=f"spawn_{index}", rgba="0 0 0 0", **geom(spawn, factor),
                               **DRAWN)
    x, y, z = thing.half
    for site, pos in (("bottom_site", (0, 0, -z)), ("top_site", (0, 0, z)), ("horizontal_radius_site", (x, y, 0))):
        ElementTree.SubElement(outer, "site", name=site, pos=numbers(pos, factor), size="0.005", rgba="0 0 0 0")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def geom(solid: Solid, factor: float) -> dict[str, str]:
    """The attributes of a solid's shape."""
    return {"type": solid.kind, "pos": numbers(solid.pos, factor), "size": numbers(solid.size, factor),
            "quat": numbers(solid.quat)}


def numbers(values: Iterable[float], factor: float = 1.0) -> str:
    """Numbers times `factor`, to a micrometre, separated by blanks."""
    return " ".join(format(round(factor * float(value), 6) + 0.0, ".9g") for value in values)
