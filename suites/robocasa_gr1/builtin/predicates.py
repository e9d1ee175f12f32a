"""When a task is done: upstream's success predicates (tabletop_24dc.py `_check_success`, object_utils.py).

They read body poses and contacts of the last physics substep as MuJoCo left them, like upstream, and compute nothing
anew. One difference: upstream moves a drawer's interior box with the drawer one control step late, here it is at once.
"""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

from suites.robocasa_gr1.builtin.placement import key_points
from suites.robocasa_gr1.simulation import WRIST_SITES, Item, Scene

#: Both wrists must be farther than this, in metres, from the container's and from the object's origin.
HAND_CLEARANCE = 0.25

#: Horizontal distance of the origins, as a share of the container's half diagonal, up to which a thing is inside.
INSIDE_SHARE = 0.7

#: Key points of 15 that must be in the highest tier of a tiered container.
POINTS_IN_TIER = 2

#: The container's z axis must point up at least this much (cosine).
UPRIGHT = 0.8

#: A door is shut at this share of fully open: 0.8 mm of the drawer, 0.45 degrees of a door.
SHUT = 0.005

#: Body of the table.
TABLE_BODY = "table"

Predicate = Callable[[mujoco.MjData], bool]


def pick_predicate(model: mujoco.MjModel, scene: Scene) -> Predicate:
    """The predicate of a pick-and-place task. Five conditions on one state, all must hold."""
    obj, container = model.body(scene.obj.body).id, model.body(scene.container.body).id
    table = model.body(TABLE_BODY).id
    sites = [model.site(name).id for name in WRIST_SITES.values()]
    contacts = Contacts(model)
    inside = _inside(model, contacts, scene.obj, scene.container)
    others = [_inside(model, contacts, item, scene.container) for item in scene.others if item.name == "distractor_obj"]

    def holds(data: mujoco.MjData) -> bool:
        wrists = data.site_xpos[sites]
        far = all(np.linalg.norm(wrists - data.xpos[body], axis=1).min() > HAND_CLEARANCE for body in (container, obj))
        upright = data.xmat[container, 8] > UPRIGHT
        if not (far and upright and inside(data)):
            return False
        return not contacts.between(data, obj, table) and not any(other(data) for other in others)

    return holds


def _inside(model: mujoco.MjModel, contacts: Contacts, item: Item, container: Item) -> Predicate:
    """Whether `item` is in `container`: by touch and distance, or for tiered ones by points in the highest tier."""
    body, goal = model.body(item.body).id, model.body(container.body).id
    if container.region:
        region, points = model.geom(container.region).id, key_points(item.half, item.bottom, item.top)

        def in_tier(data: mujoco.MjData) -> bool:
            world = points @ data.xmat[body].reshape(3, 3).T + data.xpos[body]
            local = (world - data.geom_xpos[region]) @ data.geom_xmat[region].reshape(3, 3)
            return int((np.abs(local) <= model.geom_size[region]).all(axis=1).sum()) >= POINTS_IN_TIER

        return in_tier
    reach = INSIDE_SHARE * float(np.hypot(*container.half))

    def in_dish(data: mujoco.MjData) -> bool:
        distance = np.linalg.norm(data.xpos[body, :2] - data.xpos[goal, :2])
        return bool(distance < reach) and contacts.between(data, body, goal)

    return in_dish


def close_predicate(model: mujoco.MjModel, scene: Scene, interior: Callable[[], np.ndarray]) -> Predicate:
    """The predicate of a close task: the object's origin inside the interior box and the door shut.

    interior: returns the box as (4, 3) world points, a corner and its three neighbours.
    """
    obj = model.body(scene.obj.body).id

    def holds(data: mujoco.MjData) -> bool:
        return door_state(data, scene) <= SHUT and in_box(data.xpos[obj], interior())

    return holds


def door_state(data: mujoco.MjData, scene: Scene) -> float:
    """0 shut, 1 fully open."""
    return float(data.joint(scene.fixture.joint).qpos[0]) / scene.fixture.open_at


def in_box(point: np.ndarray, box: np.ndarray) -> bool:
    """Whether a world point (3,) is in the box of (4, 3) world points: a corner and its three neighbours."""
    edges = box[1:] - box[0]
    along = edges @ (point - box[0])
    return bool(((along >= 0) & (along <= (edges * edges).sum(axis=1))).all())


class Contacts:
    """Who touches whom. A thing is named by its outermost body below the world: all geoms of its subtree count."""

    def __init__(self, model: mujoco.MjModel):
        self._root = model.body_rootid[model.geom_bodyid]

    def pairs(self, data: mujoco.MjData) -> np.ndarray:
        """The outermost bodies (n, 2) of the things in each present contact."""
        return self._root[data.contact.geom]

    def between(self, data: mujoco.MjData, one: int, other: int) -> bool:
        """Whether things `one` and `other` (body ids) have a contact."""
        pairs = self.pairs(data)
        first, second = pairs[:, 0], pairs[:, 1]
        return bool((((first == one) & (second == other)) | ((first == other) & (second == one))).any())
