"""One MuJoCo model per task, compiled once; a reset writes into it what the scene has, and compiles nothing.

A movable thing is a *slot*: a free body with as many geoms as its largest variant has. Each variant is compiled alone
when the task is built; selecting it writes its geoms, mass, inertia and bounding volumes over those of the slot. The
same holds for the fixtures, whose variants belong to the styles.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import mujoco
import numpy as np

from suites.robocasa_gr1.builtin import containers, fixtures, objects, room
from suites.robocasa_gr1.builtin.fixtures import Closing, Decoration
from suites.robocasa_gr1.builtin.objects import Part, Thing, Vector
from suites.robocasa_gr1.builtin.robot import BASE, add_robot
from suites.robocasa_gr1.builtin.room import Style
from suites.robocasa_gr1.simulation import Fixture
from suites.robocasa_gr1.suite import EGO_FRAME, Row

#: Physics of upstream's tasks (robosuite's base.xml and macros.py; what that leaves out are MuJoCo's defaults), but for
#: the flag that `empty_document` adds: without it mujoco 3.2.6 gives horizontal contacts to a flat cylinder on a thin
#: wide box, and cans slide off trays by themselves (measured: 85 slides in 150 resets without, none with it).
OPTION = {"timestep": "0.002", "integrator": "Euler", "solver": "Newton", "iterations": "100", "cone": "elliptic",
          "impratio": "20", "density": "1.2", "viscosity": "0.00002"}

#: Memory of an MjData for contacts and constraints. Measured: 0.24 MB at most in two resets of each task with 100
#: control steps each (upstream reserves 1.28 GB).
ARENA = "32M"

#: Length (m) in which the cameras' near plane is measured, 0.001 of it (upstream's scenes compile to 13.7 to 13.8).
EXTENT, NEAR = "13.75", "0.001"

#: Geom groups: collided with only, drawn, neither.
COLLISION, VISUAL, HIDDEN = 0, 1, 5

#: Contacts of movable things, of cup and tiered containers among them, and of all that is fixed (upstream's objects
#: and fixtures).
STIFF = {"friction": "0.95 0.3 0.1", "solref": "0.001 2", "solimp": "0.998 0.998 0.001"}
SOFT = {"friction": "0.95 0.3 0.1", "solref": "0.004 1", "solimp": "0.95 0.98 0.001"}
FIXED: dict[str, str] = {}

#: Damping of the free joints of movable things (upstream's objects).
FREE_DAMPING = "0.0005"

#: Where what is not in the scene is parked: under the floor, side by side.
PARKING, SPACING = (0.3, -3.0, -2.0), 0.45

#: Arrays of mujoco.MjModel that say what a body is; what is left out is derived from them or the same for all bodies.
GEOM_ARRAYS = ("type", "contype", "conaffinity", "condim", "group", "priority", "matid", "solmix", "solref", "solimp",
               "size", "aabb", "rbound", "pos", "quat", "friction", "margin", "gap", "rgba")
BODY_ARRAYS = ("mass", "inertia", "ipos", "iquat", "contype", "conaffinity", "margin")
TREE_ARRAYS = ("child", "depth", "nodeid", "aabb")


@dataclass(frozen=True)
class Variant:
    """One thing that a slot can be. Lengths in metres in the frame of its body.

    bottom, top: heights of its lowest and highest point above the body's origin. half: half extents (x, y) of its
    bounding box. region: tiered things: name of the invisible box geom that bounds the highest tier. handle: how far a
    handle sticks out beyond +half[0].
    """

    category: str
    instance: int
    bottom: float
    top: float
    half: tuple[float, float]
    region: str = ""
    handle: float = 0.0


@dataclass(frozen=True)
class Rows:
    """A body compiled alone: its entries in MjModel's geom_*, body_* and bvh_* arrays."""

    geoms: Mapping[str, np.ndarray]
    body: Mapping[str, np.ndarray]
    tree: Mapping[str, np.ndarray]


class Pool:
    """A body of a model with room for any of several variants."""

    def __init__(self, model: mujoco.MjModel, name: str) -> None:
        self.model, self.number = model, model.body(name).id
        first = model.body_geomadr[self.number]
        self.geoms = slice(first, first + model.body_geomnum[self.number])
        model.geom_sameframe[self.geoms] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE  # geoms move within the body

    def write(self, rows: Rows) -> None:
        """Become what was compiled alone."""
        model = self.model
        for name, values in rows.geoms.items():
            getattr(model, f"geom_{name}")[self.geoms] = values
        for name, values in rows.body.items():
            getattr(model, f"body_{name}")[self.number] = values
        nodes = len(rows.tree["depth"])
        first = model.body_bvhadr[self.number]
        for name, values in rows.tree.items():
            getattr(model, f"bvh_{name}")[first:first + nodes] = values
        leaves = model.bvh_nodeid[first:first + nodes]
        leaves[leaves >= 0] += self.geoms.start
        model.body_bvhnum[self.number] = nodes

    def hide(self) -> None:
        """Neither collide nor be seen."""
        model = self.model
        model.geom_contype[self.geoms] = model.geom_conaffinity[self.geoms] = 0
        model.geom_group[self.geoms] = HIDDEN
        model.body_contype[self.number] = model.body_conaffinity[self.number] = 0


class TaskModel:
    """The model of one task and what can be changed in it.

    slots: slot name -> its variants in a fixed order. fixture: what a close task shuts, else None; interior_body and
    interior (low and high corner in that body's frame, (3,) each, m) bound its goal box. After a call of `select`,
    `set_style`, `place_fixture` or `set_base` the model must not be simulated before `finish`.
    """

    model: mujoco.MjModel
    slots: Mapping[str, tuple[Variant, ...]]
    fixture: Fixture | None
    interior_body: str
    interior: tuple[np.ndarray, np.ndarray]

    def __init__(self, row: Row) -> None:
        """Compile the model of `row`, with style 0, every slot empty and no decoration on the table."""
        things = {slot: dict(variants(slot, kinds)) for slot, kinds in slot_things(row).items()}
        self.slots = MappingProxyType({slot: tuple(choices) for slot, choices in things.items()})
        self._closing = fixtures.CLOSINGS.get(row.fixture)
        self._decorations = decorations(row)
        self.fixture = None
        if row.fixture:
            self.fixture = Fixture(row.fixture, fixtures.JOINTS[row.fixture], fixtures.OPEN_AT[row.fixture])
        self.interior_body = fixtures.DOOR if row.fixture == "drawer" else fixtures.BODY

        self._slot_rows = {slot: thing_rows(choices) for slot, choices in things.items()}
        self._style_rows = style_rows(self._closing, self._decorations)
        self.model = mujoco.MjModel.from_xml_string(self._document(row))
        mujoco.MjModel.from_xml_string("<mujoco/>")  # MuJoCo keeps the document compiled last: 240 MB of meshes
        self._pools = {name: Pool(self.model, name) for name in (*self._slot_rows, *self._style_rows)}
        self._surfaces = room.surfaces(self.model)
        self._extent, self._centre = self.model.stat.extent, self.model.stat.center.copy()
        self._scratch = mujoco.MjData(self.model)
        for slot in self.slots:
            self.select(slot, None)
        self.set_style(0)
        self.finish()

    def body(self, slot: str) -> str:
        """Name of a slot's body; its free joint is `<slot>_joint`."""
        return slot

    def select(self, slot: str, variant: Variant | None) -> None:
        """Make the slot's body this variant; None: nothing, without weight or contacts (its joint's qpos0 parks it).

        Raises ValueError for a variant that is not in `slots[slot]`.
        """
        if variant is not None and variant not in self._slot_rows[slot]:
            raise ValueError(f"slot {slot!r} cannot be {variant}; take one of slots[{slot!r}]")
        pool = self._pools[slot]
        pool.write(self._slot_rows[slot][variant or self.slots[slot][0]])
        self.model.body_gravcomp[pool.number] = 0.0 if variant else 1.0
        if variant is None:
            pool.hide()

    def set_style(self, style: int) -> None:
        """Style 0 to 11: colours, and the handles, microwave, toaster and paper towel that go with it.

        It takes the decorations off the table; `place_fixture` comes after it.
        """
        self._style = style
        room.paint(self.model, room.STYLES[style], self._surfaces)
        for name in self._decorations:
            self.place_fixture(name, 0.0, 0.0, 0.0, present=False)
        if self._closing:
            for name in (fixtures.BODY, fixtures.DOOR):
                self._pools[name].write(self._style_rows[name][style])
            closing = self._closing(room.STYLES[style])
            self.model.body(fixtures.BODY).pos = closing.origin
            self.model.joint(self.fixture.joint).pos = closing.pivot
            self.interior = tuple(np.array(corner) for corner in closing.interior)

    def place_fixture(self, name: str, x: float, y: float, yaw: float, present: bool) -> None:
        """Stand toaster, plant or paper_towel on the table, centre at world x, y (m), yaw (rad); or take it away."""
        pool, height = self._pools[name], self._decoration(name).half[2]
        pool.write(self._style_rows[name][self._style])
        self.model.body_pos[pool.number] = (x, y, room.TABLE_TOP[2] + height) if present else PARKING
        self.model.body_quat[pool.number] = objects.turned("z", yaw) if present else (1.0, 0.0, 0.0, 0.0)
        if not present:
            pool.hide()

    def fixture_size(self, name: str) -> tuple[float, float]:
        """Half extents (x, y) of the footprint of toaster, plant, paper_towel or, as "fixture", of what is shut."""
        if name == fixtures.BODY:
            return self._closing(room.STYLES[self._style]).half
        return self._decoration(name).half[:2]

    def set_base(self, position: Sequence[float]) -> None:
        """Put the robot's base at this world position (3,)."""
        self.model.body(BASE).pos = position

    def finish(self) -> None:
        """Bring what MuJoCo derives from the model up to date; once, after all other calls of a reset."""
        mujoco.mj_setConst(self.model, self._scratch)
        self.model.stat.extent = self._extent  # else the cameras' near plane would depend on the scene
        self.model.stat.center[:] = self._centre

    def _decoration(self, name: str) -> Decoration:
        return self._decorations[name](room.STYLES[self._style])

    def _document(self, row: Row) -> str:
        """MJCF of the whole task; bodies that have variants hold placeholders."""
        root, world = empty_document("0 0")
        ET.SubElement(root, "size", memory=ARENA)
        ET.SubElement(root, "statistic", extent=EXTENT, center=numbers(room.TABLE_TOP))
        visual = ET.SubElement(root, "visual")
        ET.SubElement(visual, "map", znear=NEAR)
        ET.SubElement(visual, "quality", offsamples="4")
        ET.SubElement(visual, "global", offheight=str(EGO_FRAME[0]), offwidth=str(EGO_FRAME[1]))
        room.add_textures(root.find("asset"))
        add_robot(root)
        room.add_light_and_camera(world, row.fixture)
        for name, pos, parts in (("room", (0.0, 0.0, 0.0), room.room_parts()),
                                 ("cupboards", room.TABLE_TOP, room.cupboard_parts()),
                                 ("table", room.TABLE_TOP, room.table_parts())):
            body = ET.SubElement(world, "body", name=name, pos=numbers(pos))
            for part in parts:
                add_geom(body, part, FIXED)
        for name in self._decorations:
            placeholder(world, name, len_geoms(self._style_rows[name]), PARKING)
        if self._closing:
            still = placeholder(world, fixtures.BODY, len_geoms(self._style_rows[fixtures.BODY]), PARKING)
            door = placeholder(still, fixtures.DOOR, len_geoms(self._style_rows[fixtures.DOOR]))
            closing = self._closing(room.STYLES[0])
            ET.SubElement(door, "joint", closing.joint, name=fixtures.JOINTS[row.fixture], pos=numbers(closing.pivot))
        for index, (slot, rows) in enumerate(self._slot_rows.items()):
            spot = (PARKING[0] + SPACING * index, *PARKING[1:])
            body = placeholder(world, slot, len_geoms(rows.values()), spot)
            body.set("gravcomp", "1")  # else MuJoCo would skip gravity compensation altogether
            ET.SubElement(body, "joint", name=f"{slot}_joint", type="free", damping=FREE_DAMPING)
            body.find("geom").set("name", region_name(slot))
        return ET.tostring(root, encoding="unicode")


def slot_things(row: Row) -> dict[str, dict[str, Thing]]:
    """Slot -> category -> the thing in its nominal size."""
    if row.fixture:
        vegetables = {name: make() for name, make in objects.VEGETABLES.items() if name != row.category}
        thing = objects.CLOSE[row.category]().scaled(objects.CLOSE_SCALES[row.category])
        return {"obj": {row.category: thing}, **{f"vegetable_{index}": vegetables for index in range(4)}}
    novel = {name: make() for name, make in objects.NOVEL.items()}
    slots = {
        "obj": novel,
        "obj_container": {row.source: containers.CONTAINERS[row.source]()},
        "container": {row.target: containers.CONTAINERS[row.target]().scaled(
            containers.TARGET_SCALES.get(row.target, 1.0))},
    }
    if "obj" in row.distractors:
        slots["distractor_obj"] = novel
    if "src" in row.distractors:
        slots["distractor_source"] = others(row.source, containers.SOURCES)
        slots["distractor_source_obj"] = novel
    if "tgt" in row.distractors:
        slots["distractor_target"] = others(row.target, containers.TARGETS)
    slots["back_edge"] = {name: make() for name, make in objects.BACK_EDGE.items()}
    return slots


def others(taken: str, kinds: Iterable[str]) -> dict[str, Thing]:
    """The containers that may stand beside one that is `taken`."""
    out = (taken, *containers.SIMILAR.get(taken, ()))
    return {name: containers.CONTAINERS[name]() for name in kinds if name not in out}


def variants(slot: str, kinds: Mapping[str, Thing]) -> Iterable[tuple[Variant, Thing]]:
    """All instances of all categories of a slot."""
    for category, nominal in kinds.items():
        for instance, (factor, tint) in enumerate(zip(objects.SIZE_FACTORS, objects.TINTS)):
            thing = nominal.scaled(factor, tint)
            x, y, z = thing.half
            yield Variant(category, instance, -z, z, (x, y), region_name(slot) if thing.region else "",
                          thing.handle), thing


def region_name(slot: str) -> str:
    """Name of the geom that bounds the highest tier of what is in a slot."""
    return f"{slot}_region"


def decorations(row: Row) -> dict[str, Callable[[Style], Decoration]]:
    """The decorations that a task's resets can stand on the table."""
    names = ("toaster", "plant", "paper_towel") if row.fixture else ("toaster", "plant")
    return {name: fixtures.DECORATIONS[name] for name in names}


def thing_rows(things: Mapping[Variant, Thing]) -> dict[Variant, Rows]:
    """Each variant of a slot compiled alone, all with the same number of geoms; the first geom is the region."""
    nowhere = Part("sphere", (0.001,), solid=False, visible=False)
    lists = {variant: (thing.region or nowhere, *thing.parts) for variant, thing in things.items()}
    count = max(len(parts) for parts in lists.values())
    return {variant: compile_alone(parts, count, STIFF if things[variant].stiff else SOFT, things[variant].density)
            for variant, parts in lists.items()}


def style_rows(closing: Callable[[Style], Closing] | None,
               stands: Mapping[str, Callable[[Style], Decoration]]) -> dict[str, list[Rows]]:
    """Body -> what it is in each of the styles: of the fixture that is shut and of the decorations."""
    looks = {name: [make(style).parts for style in room.STYLES] for name, make in stands.items()}
    weights: dict[str, float] = {}
    if closing:
        made = [closing(style) for style in room.STYLES]
        looks[fixtures.BODY] = [one.box for one in made]
        looks[fixtures.DOOR] = [one.door for one in made]
        weights[fixtures.DOOR] = made[0].weight
    rows = {}
    for name, lists in looks.items():
        count = max(len(parts) for parts in lists)
        rows[name] = [compile_alone(parts, count, FIXED, objects.DENSITY, weights.get(name)) for parts in lists]
    return rows


def compile_alone(parts: Sequence[Part], count: int, contact: dict[str, str], density: float,
                  weight: float | None = None) -> Rows:
    """Entries of a body with these geoms, filled up to `count`; weight: its mass (kg), else density (kg/m^3) says."""
    root, world = empty_document(f"{COLLISION} {VISUAL}")
    body = ET.SubElement(world, "body")
    for part in parts:
        add_geom(body, part, contact, density)
    model = mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
    geoms = {name: filled(getattr(model, f"geom_{name}"), count) for name in GEOM_ARRAYS}
    geoms["contype"][len(parts):] = geoms["conaffinity"][len(parts):] = 0
    geoms["group"][len(parts):] = HIDDEN
    values = {name: np.array(getattr(model, f"body_{name}")[1]) for name in BODY_ARRAYS}
    if weight is not None:
        values["inertia"] *= weight / values["mass"]
        values["mass"][...] = weight
    return Rows(geoms, values, {name: getattr(model, f"bvh_{name}").copy() for name in TREE_ARRAYS})


def filled(values: np.ndarray, count: int) -> np.ndarray:
    """`values` with its first row repeated at the end, so that it has `count` rows."""
    return np.concatenate([values, np.repeat(values[:1], count - len(values), axis=0)])


def len_geoms(rows: Iterable[Rows]) -> int:
    """Number of geoms of a body's variants."""
    return len(next(iter(rows)).geoms["type"])


def empty_document(inertia_groups: str) -> tuple[ET.Element, ET.Element]:
    """A document with options and materials, and its world body. inertia_groups: geom groups that weigh."""
    root = ET.Element("mujoco")
    ET.SubElement(root, "compiler", angle="radian", autolimits="true", inertiagrouprange=inertia_groups)
    ET.SubElement(ET.SubElement(root, "option", OPTION), "flag", nativeccd="enable")
    room.add_materials(ET.SubElement(root, "asset"))
    return root, ET.SubElement(root, "worldbody")


def placeholder(parent: ET.Element, name: str, count: int, pos: Vector = (0.0, 0.0, 0.0)) -> ET.Element:
    """A body with `count` geoms; their volumes' tree and an inertia off the origin make MuJoCo assume nothing special.
    """
    body = ET.SubElement(parent, "body", name=name, pos=numbers(pos))
    ET.SubElement(body, "inertial", pos="0.01 0.02 0.03", quat="0.9 0.1 0.2 0.3", mass="1", diaginertia="0.1 0.2 0.25")
    for index in range(count):
        ET.SubElement(body, "geom", type="sphere", size="0.01", pos=numbers((0.03 * index, 0.0, 0.0)))
    return body


def add_geom(body: ET.Element, part: Part, contact: dict[str, str], density: float = objects.DENSITY) -> None:
    """One part as MJCF; only solid parts collide and weigh."""
    group = VISUAL if part.visible else COLLISION if part.solid else HIDDEN
    geom = ET.SubElement(body, "geom", contact, type=part.shape, size=numbers(part.size), pos=numbers(part.pos),
                         quat=numbers(part.quat), group=str(group), material=part.material,
                         density=str(density if part.solid else 0))
    if part.rgb is not None:
        geom.set("rgba", numbers((*part.rgb, 1.0)))
    if not part.solid:
        geom.set("contype", "0")
        geom.set("conaffinity", "0")


def numbers(values: Iterable[float]) -> str:
    """Numbers as MJCF writes them, exactly."""
    return " ".join(repr(float(value)) for value in values)
