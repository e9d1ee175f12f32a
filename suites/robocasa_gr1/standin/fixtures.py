"""What the appliances of upstream's repository look like: meshes and pictures for the models of the inventory.

Upstream's repository holds their model.xml with collision boxes, joints and sites, which stay as they are. The meshes
here follow those boxes; a picture holds the colours of a mesh's parts side by side.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from suites.robocasa_gr1.standin.inventory import FIXTURES
from suites.robocasa_gr1.standin.meshes import Mesh, box, cylinder, join, rounded, tube, write_obj
from suites.robocasa_gr1.standin.mjcf import atlas
from suites.robocasa_gr1.standin.textures import Colour, brushed, clouds, generator, label, plain, streaks, write_png
from suites.robocasa_gr1.standin.things import Part

#: Pixels across of one part's picture.
SIZE = 64

STEEL, WHITE, CREAM, BLACK, RED = (176, 178, 182), (232, 232, 230), (226, 214, 186), (30, 30, 32), (166, 44, 40)

#: Microwave -> file stems of the two meshes that are drawn (case, door), the picture on both, colour of the case.
#: Its other meshes are other materials of the same surfaces; they are hidden in its walls.
MICROWAVES: dict[str, tuple[str, str, str, Colour]] = {
    "gray": ("model_0", "door_0", "image0", (150, 152, 156)),
    "hamilton_beach": ("model_2", "door_4", "image4", (84, 86, 90)),
    "pack_1": ("model_1", "door_1", "image5", (196, 198, 202)),
    "standard": ("microwave2_0", "microwave2_door_0", "image0", WHITE),
}

#: Toaster -> stem of the mesh and of the picture that are drawn, colour of the case.
TOASTERS: dict[str, tuple[str, str, Colour]] = {
    "basic_popup": ("model_0", "image0", STEEL),
    "basic_popup_2": ("model_1", "image0", WHITE),
    "boxy": ("model_0", "image0", (70, 72, 76)),
    "fancy": ("model_0", "image0", RED),
    "vintage": ("model_0", "image0", CREAM),
}


@dataclass(frozen=True)
class Collider:
    """A collision geom of upstream's, upright. half: half extents of its box."""

    name: str
    kind: str
    pos: np.ndarray
    half: np.ndarray

    def mesh(self) -> Mesh:
        """Its surface."""
        if self.kind == "cylinder":
            return cylinder(self.half[0], self.half[2]).moved(*self.pos)
        return box(self.pos, self.half)


@dataclass(frozen=True)
class Model:
    """One model.xml. meshes, pictures: the files it names; solids: body name -> its collision geoms."""

    meshes: tuple[str, ...]
    pictures: tuple[str, ...]
    solids: dict[str, tuple[Collider, ...]]


@dataclass(frozen=True)
class Look:
    """What is drawn of a model: file stems of meshes -> surface, and of pictures -> colours (H, W, 3)."""

    meshes: dict[str, Mesh]
    pictures: dict[str, np.ndarray]


def write_fixtures(folder: Path) -> None:
    """Write the meshes and pictures of all models of the inventory below the ``fixtures`` folder."""
    for name in FIXTURES:
        family, model_name = name.split("/")[-2:]
        model = read_model(folder / name / "model.xml")
        look = LOOKS[family](model_name, model, generator(name))
        first = next(solid for solids in model.solids.values() for solid in solids)
        hidden = box(first.pos, 0.2 * first.half.min() * np.ones(3))
        for file in model.meshes:
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            write_obj(path, look.meshes.get(path.stem, hidden))
        for file in model.pictures:
            path = folder / name / file
            write_png(path, look.pictures.get(path.stem, np.full((SIZE, SIZE, 3), 128.0)))


def read_model(path: Path) -> Model:
    """The files and the upright collision geoms of a model.xml."""
    root = ElementTree.parse(path).getroot()
    solids = {body.get("name"): tuple(_solids(body.findall("geom"))) for body in root.iter("body")}
    meshes, pictures = (tuple(element.get("file") for element in root.iter(tag) if element.get("file"))
                        for tag in ("mesh", "texture"))
    return Model(meshes, pictures, solids)


def _solids(geoms: Iterable[ElementTree.Element]) -> Iterable[Collider]:
    for geom in geoms:
        turned = any(geom.get(key) for key in ("quat", "euler", "axisangle"))
        if geom.get("class") == "collision" and geom.get("type") in ("box", "cylinder") and not turned:
            size = np.array(geom.get("size").split(), float)
            half = size if geom.get("type") == "box" else np.array([size[0], size[0], size[1]])
            yield Collider(geom.get("name", ""), geom.get("type"), np.array(geom.get("pos").split(), float), half)


def microwave(name: str, model: Model, rng: np.random.Generator) -> Look:
    """Walls, a panel with a display and two buttons, a glass plate; a door with a dark window and a handle."""
    case, door, picture, colour = MICROWAVES[name]
    dark = tuple(int(0.55 * value) for value in colour)
    inside = {solid.name: solid for solid in model.solids["object"] if solid.name}
    walls = [solid.mesh() for solid in model.solids["object"] if not solid.name]
    start, stop = inside["start_button"], inside["stop_button"]
    middle = (start.pos + stop.pos) / 2
    screen = box(middle, (0.065, start.half[1], 0.04)).moved(0, 0, 2 * start.half[2] + 0.2)
    keys = [box(middle, (0.016, start.half[1], 0.012)).moved(x, 0, z) for x in (-0.045, 0, 0.045)
            for z in (0.06, 0.10, 0.14)]
    panel, *handle = model.solids["door"]
    frame, window = _window(panel)
    parts = (Part(join([*walls, *keys]), brushed(colour)), Part(screen, label((20, 44, 40), (20, 44, 40),
                                                                              (110, 236, 190), 0.1, 0.9)),
             Part(start.mesh(), plain((70, 140, 80))), Part(stop.mesh(), plain((170, 60, 54))),
             Part(inside["tray"].mesh(), plain((190, 200, 204))), Part(frame, brushed(dark)),
             Part(window, plain((16, 18, 20))), Part(join([solid.mesh() for solid in handle]), brushed(STEEL)))
    whole, colours = atlas(parts, rng, SIZE)
    at = sum(len(part.mesh.vertices) for part in parts[:5])
    return Look({case: _slice(whole, 0, at), door: _slice(whole, at, len(whole.vertices))}, {picture: colours})


def _window(panel: Collider) -> tuple[Mesh, Mesh]:
    """A door's frame, and the thinner pane in it."""
    (x, y, z), edge = panel.half, 0.2 * panel.half[2]
    bars = [box(panel.pos, (edge, y, z)).moved(s * (x - edge), 0, 0) for s in (-1, 1)]
    bars += [box(panel.pos, (x - 2 * edge, y, edge)).moved(0, 0, s * (z - edge)) for s in (-1, 1)]
    return join(bars), box(panel.pos, (x - 2 * edge, 0.6 * y, z - 2 * edge))


def _slice(mesh: Mesh, start: int, end: int) -> Mesh:
    """The part of a joined mesh made of the vertices from `start` to before `end`."""
    faces = mesh.faces[(mesh.faces[:, 0] >= start) & (mesh.faces[:, 0] < end)]
    return Mesh(mesh.vertices[start:end], mesh.uv[start:end], faces - start)


def toaster(name: str, model: Model, rng: np.random.Generator) -> Look:
    """A rounded case on feet with two slots, a lever and a knob at its end; its long axis is y."""
    mesh, picture, colour = TOASTERS[name]
    x, y, z = model.solids["object"][0].half
    case = rounded((0.96 * x, 0.94 * y, 0.94 * z), 6.0).moved(0, 0, 0.05 * z)
    slots = [box((s * 0.36 * x, 0, 0.96 * z), (0.12 * x, 0.68 * y, 0.04 * z)) for s in (-1, 1)]
    feet = [box((i * 0.6 * x, j * 0.7 * y, -0.93 * z), (0.12 * x, 0.08 * y, 0.07 * z))
            for i in (-1, 1) for j in (-1, 1)]
    lever = box((0, -0.96 * y, 0.35 * z), (0.22 * x, 0.04 * y, 0.06 * z))
    knob = cylinder(0.16 * x, 0.04 * y).turned(0, np.pi / 2).moved(0, -0.95 * y, -0.25 * z)
    parts = (Part(case, brushed(colour) if colour == STEEL else plain(colour)),
             Part(join([*slots, *feet, lever, knob]), plain(BLACK)))
    whole, colours = atlas(parts, rng, SIZE)
    return Look({mesh: whole}, {picture: colours})


def paper_towel(name: str, model: Model, rng: np.random.Generator) -> Look:
    """A roll of paper on a stand."""
    x, y, z = model.solids["object"][0].half
    paper = Part(cylinder(0.9 * min(x, y), 0.84 * z), streaks((240, 238, 232), (228, 226, 220), 90))
    base = cylinder(min(x, y), 0.04 * z, 0.01).moved(0, 0, -0.96 * z)
    rod = join([cylinder(0.08 * x, z), rounded((0.14 * x, 0.14 * x, 0.05 * z), 2.0, 11).moved(0, 0, 0.95 * z)])
    if name == "holder_2":  # one mesh a material: core, ends, side of the roll, metal
        core = cylinder(0.25 * x, 0.85 * z)
        ends = join([cylinder(0.88 * x, 0.005 * z).moved(0, 0, s * 0.845 * z) for s in (-1, 1)])
        return Look({"model_0": core, "model_1": ends, "model_2": paper.mesh, "model_3": join([base, rod])},
                    {"image0": paper.paint(rng, SIZE), "image1": plain((236, 234, 228))(rng, SIZE)})
    whole, colours = atlas((paper, Part(join([base, rod]), brushed(STEEL))), rng, SIZE)
    return Look({"model_0": whole}, {"image0": colours})


def plant(name: str, model: Model, rng: np.random.Generator) -> Look:
    """A pot of earth with two rings of thick, pointed leaves."""
    x, _, z = model.solids["object"][0].half
    pot = cylinder(0.55 * x, 0.32 * z, 0.01, top=0.75 * x).moved(0, 0, -0.68 * z)
    earth = cylinder(0.72 * x, 0.03 * z).moved(0, 0, -0.37 * z)
    outer = join([_leaf(2 * np.pi * k / 9, 0.92 * x, 0.85 * z) for k in range(9)])
    inner = join([_leaf(2 * np.pi * (k + 0.5) / 6, 0.45 * x, 1.25 * z) for k in range(6)])
    return Look({"model_0": pot, "model_1": earth, "model_2": outer, "model_3": inner}, {
        "image1": clouds((184, 106, 74), (164, 90, 62))(rng, SIZE), "image0": clouds((72, 52, 38), (48, 34, 26))(
            rng, SIZE), "image3": streaks((104, 148, 92), (70, 116, 70), 12)(rng, SIZE),
        "image2": streaks((132, 172, 104), (92, 140, 80), 12)(rng, SIZE)})


def _leaf(turn: float, reach: float, height: float) -> Mesh:
    """A leaf that rises from the earth and bends outwards by `reach`."""
    t = np.linspace(0, 1, 9)
    rise = -0.19 + height * np.sqrt(t) * (1 - 0.2 * t)
    points = np.stack([(0.06 + 0.94 * t**1.6) * reach, 0 * t, rise], 1)
    return tube(points, list(0.13 * reach * (1 - t) ** 0.6 + 0.004), 8, 0.45).turned(2, turn)


#: Folder of the models -> builder of one model's looks.
LOOKS: dict[str, Callable[[str, Model, np.random.Generator], Look]] = {
    "microwaves": microwave, "toasters": toaster, "paper_towel_holders": paper_towel, "plants": plant,
}
