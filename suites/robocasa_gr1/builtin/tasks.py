"""What a reset draws: style, things, where everything stands, the robot's pose, how far the door is open.

Tables and rules are upstream's (tabletop_24dc.py, tabletop_{drawer,cabinet,microwave}_pnp.py, tabletop.py,
cotrain_utils.py). A draw is a pure function of its generator. It has two stages, so that a scene without room costs
its places and not its things: `draw_cast` says what there is, `draw_layout` where it is; upstream draws all of it
anew. What else differs from upstream:

* pools of distractors are those that upstream's tables mean; there, the first task class built in a process changes
  the pools of all later ones;
* an instance is drawn among all of its category; upstream keeps half of its instances from the 18
  pick-and-place tasks ("the 18" below);
* the kind of object at the back edge is drawn at each reset; upstream fixes it per process by a hash.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from suites.robocasa_gr1.builtin.containers import SIMILAR, SOURCES, TARGETS
from suites.robocasa_gr1.builtin.model import TaskModel, Variant
from suites.robocasa_gr1.builtin.objects import BACK_EDGE as BACK_OBJECTS
from suites.robocasa_gr1.builtin.objects import NOVEL, VEGETABLES
from suites.robocasa_gr1.builtin.placement import (
    BACK_EDGE,
    CLUTTER,
    FIXTURE,
    GAP,
    LEFT_EDGE,
    OBJECT,
    OTHERS,
    PAPER_TOWEL_Y,
    SOURCE,
    TABLE,
    TARGET,
    Footprint,
    Region,
    Sampler,
)
from suites.robocasa_gr1.builtin.room import STYLES
from suites.robocasa_gr1.simulation import STATE_JOINTS
from suites.robocasa_gr1.suite import Row

#: Region of `Row.distractors` -> the slots that it fills.
REGION_SLOTS = {"obj": ("distractor_obj",), "src": ("distractor_source", "distractor_source_obj"),
                "tgt": ("distractor_target",)}

#: In the 18, what starts on a container and on which.
SUPPORTS = {"obj": "obj_container", "distractor_obj": "obj_container", "distractor_source_obj": "distractor_source"}

#: Robot base, metres in the world; in the 18 moved by `BASE_SHIFT` less a uniform draw of up to `BASE_RANGE` per axis.
BASE, BASE_SHIFT, BASE_RANGE = np.array([2.65, -2.175, 0.97]), np.array([0.05, 0.05, -0.05]), 0.05

#: Joint pose of a close task: upstream's init_qpos with both elbows at 70 % of their range, and the standard deviation
#: of the noise on every joint.
CLOSE_POSE = {"right_arm": (0, -0.1, 0, -2.1, 0, 0, 0), "left_arm": (0, 0.1, 0, -2.1, 0, 0, 0), "waist": (0, 0, 0)}
JOINT_NOISE = 0.02

#: Joint pose of the 18 (cotrain_utils.py), and the half range of the uniform draw around it. The waist is noise alone.
PICK_POSE = {
    "right_arm": (-0.22963779, -0.38363408, 0.14360377, -1.5289252, -0.2897802, -0.07134621, -0.04550289),
    "left_arm": (-0.10933163, 0.43292055, -0.15983289, -1.48233023, 0.2359135, 0.26184522, 0.00830735),
}
ARM_RANGE = 0.2

#: Range of the door at reset, as a share of fully open.
DOOR = (0.9, 1.0)


@dataclass(frozen=True)
class Cast:
    """What a scene is made of: the style and, in the order in which they are placed, the variant in each slot."""

    style: int
    things: dict[str, Variant]


@dataclass(frozen=True)
class Layout:
    """Where everything is. poses: slot -> (x, y, z, yaw) of its body, world; decorations: fixture -> (x, y, yaw),
    world, None where it is left out; joints: joint name -> radians; door: share of fully open."""

    base: np.ndarray
    poses: dict[str, tuple[float, float, float, float]]
    decorations: dict[str, tuple[float, float, float] | None]
    joints: dict[str, float]
    door: float


def draw_cast(row: Row, model: TaskModel, rng: np.random.Generator) -> Cast:
    """What there is. Raises ValueError where a slot of the model lacks a category that it may be."""
    style = int(rng.integers(len(STYLES)))
    pools = _close_pools(row, rng) if row.fixture else _pick_pools(row, rng)
    return Cast(style, {slot: _choose(slot, pool, model, rng) for slot, pool in pools.items()})


def _close_pools(row: Row, rng: np.random.Generator) -> dict[str, tuple[str, ...]]:
    """Categories for the object and for one to four vegetables."""
    vegetables = {f"vegetable_{index}": _without(VEGETABLES, row.category) for index in range(rng.integers(1, 5))}
    return {"obj": (row.category,), **vegetables}


def _pick_pools(row: Row, rng: np.random.Generator) -> dict[str, tuple[str, ...]]:
    """Categories for each slot of one of the 18, in the order of placement."""
    obj = tuple(NOVEL)[rng.integers(len(NOVEL))]
    pools = {
        "obj_container": (row.source,),
        "distractor_source": _without(SOURCES, row.source, *SIMILAR.get(row.source, ()), row.target),
        "container": (row.target,),
        "obj": (obj,),
        "back_edge": tuple(BACK_OBJECTS),
        "distractor_obj": _without(NOVEL, obj),
        "distractor_source_obj": _without(NOVEL, obj),
        "distractor_target": _without(TARGETS, row.target, *SIMILAR.get(row.target, ()), row.source),
    }
    absent = {slot for region, slots in REGION_SLOTS.items() if region not in row.distractors for slot in slots}
    if rng.integers(2):
        absent.add("back_edge")
    return {slot: pool for slot, pool in pools.items() if slot not in absent}


def _without(pool: Iterable[str], *names: str) -> tuple[str, ...]:
    return tuple(name for name in pool if name not in names)


def _choose(slot: str, pool: tuple[str, ...], model: TaskModel, rng: np.random.Generator) -> Variant:
    """A category of the pool, then an instance of it, both uniformly."""
    category = pool[rng.integers(len(pool))]
    instances = [variant for variant in model.slots[slot] if variant.category == category]
    if not instances:
        raise ValueError(f"slot {slot} of the model cannot be a {category}; add that category to it in model.py")
    return instances[rng.integers(len(instances))]


def draw_layout(row: Row, cast: Cast, model: TaskModel, rng: np.random.Generator) -> Layout:
    """Where it is. Raises placement.NoRoom; what is optional and has no room is missing in `poses`.

    `model` must have the style of `cast`: the sizes of toaster and paper towel holder depend on it.
    """
    sampler = Sampler(rng)
    decorations = _place_decorations(row, model, sampler, rng)
    base = BASE if row.fixture else BASE + BASE_SHIFT - rng.uniform(0.0, BASE_RANGE, 3)
    poses = _place_things(row, cast.things, sampler)
    joints = _draw_close_joints(rng) if row.fixture else _draw_pick_joints(rng)
    return Layout(base, poses, decorations, joints, float(rng.uniform(*DOOR)))


def _place_decorations(row: Row, model: TaskModel, sampler: Sampler, rng: np.random.Generator) -> dict:
    """Everything that cannot move: main fixture, paper towel holder, toaster, plant."""
    names = ["toaster", "plant"]
    if row.fixture:
        sampler.fix("fixture", Footprint(*FIXTURE[row.fixture], 0.0, model.fixture_size("fixture")))
        _place_paper_towel(model.fixture_size("paper_towel"), sampler, rng)
        names.insert(0, "paper_towel")
    for name in ("toaster", "plant"):
        sampler.place(name, model.fixture_size(name), CLUTTER if row.fixture else BACK_EDGE, optional=True)
    return {name: _world_xy(sampler.placed[name]) if name in sampler.placed else None for name in names}


def _place_paper_towel(half: tuple[float, float], sampler: Sampler, rng: np.random.Generator) -> None:
    low, high = PAPER_TOWEL_Y
    y = float(rng.uniform(low + half[1], high - half[1]))
    sampler.fix("paper_towel", Footprint(LEFT_EDGE + half[0], y, 0.0, half))


def _place_things(row: Row, things: dict[str, Variant], sampler: Sampler) -> dict:
    """Put the things down in their order; the poses of those that found room."""
    poses = {}
    for slot, thing in things.items():
        support = "" if row.fixture else SUPPORTS.get(slot, "")
        if support:
            sampler.place_on(slot, thing.half, support)
        elif not sampler.place(slot, thing.half, _region(slot, row), optional=_optional(slot)):
            continue
        floor = poses[support][2] + things[support].top if support else TABLE[2]
        x, y, yaw = _world_xy(sampler.placed[slot])
        poses[slot] = (x, y, float(floor + GAP - thing.bottom), yaw)
    return poses


def _region(slot: str, row: Row) -> Region:
    if row.fixture:
        return OBJECT[row.fixture] if slot == "obj" else CLUTTER
    return {"obj_container": SOURCE, "container": TARGET, "back_edge": BACK_EDGE}.get(slot, OTHERS)


def _optional(slot: str) -> bool:
    """Upstream requires everything but the back edge and the second to fourth vegetable."""
    return slot in ("back_edge", "vegetable_1", "vegetable_2", "vegetable_3")


def _world_xy(footprint: Footprint) -> tuple[float, float, float]:
    return float(footprint.x + TABLE[0]), float(footprint.y + TABLE[1]), float(footprint.yaw)


def _draw_close_joints(rng: np.random.Generator) -> dict[str, float]:
    joints = {}
    for group, pose in CLOSE_POSE.items():
        values = np.array(pose) + rng.normal(0.0, JOINT_NOISE, len(pose))
        joints.update(zip(STATE_JOINTS[group], values.tolist()))
    elbows = (STATE_JOINTS["right_arm"][3], STATE_JOINTS["left_arm"][3])
    joints.update({elbow: CLOSE_POSE["right_arm"][3] for elbow in elbows})
    return joints


def _draw_pick_joints(rng: np.random.Generator) -> dict[str, float]:
    waist = rng.normal(0.0, JOINT_NOISE, 3)
    joints = dict(zip(STATE_JOINTS["waist"], waist.tolist()))
    for group, pose in PICK_POSE.items():
        values = np.array(pose) + rng.uniform(-ARM_RANGE, ARM_RANGE, len(pose))
        joints.update(zip(STATE_JOINTS[group], values.tolist()))
    return joints
