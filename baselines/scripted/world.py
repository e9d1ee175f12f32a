"""Ground truth that the scripted LIBERO policy reads: poses, shapes, regions, joints, goals.

Nothing here writes to the simulator. Positions and lengths are metres, angles radians, in the world frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from .geometry import OrientedBox, Pose, solid_geoms, subtree

GRIP_SITE = "gripper0_grip_site"
FINGER_JOINTS = ("gripper0_finger_joint1", "gripper0_finger_joint2")
SHOULDER_JOINT = "robot0_joint2"
# Room for fingers around an object that is set down, and where the hand can work from the shoulder, metres.
HAND_ROOM, NEAREST, FARTHEST = 0.012, 0.35, 0.72
VERTICAL = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Box(OrientedBox):
    """A box around one collision geom."""

    def extent(self, direction: np.ndarray) -> float:
        """How far the box reaches along a unit vector, from the world's origin."""
        return float(self.center @ direction + np.abs(self.rotation.T @ direction) @ self.half)

    def top(self) -> float:
        """Height of its highest point."""
        return self.extent(VERTICAL)

    def narrow_side(self) -> np.ndarray:
        """Unit vector along the shorter of its two most horizontal axes."""
        flat = np.argsort(np.abs(self.rotation[2]), kind="stable")[:2]
        return self.rotation[:, min(flat, key=lambda axis: float(self.half[axis]))]

    def top_above(self, x: float, y: float) -> float:
        """Height at which the vertical line through (x, y) leaves the box; -inf where it misses the box."""
        start = self.rotation.T @ (np.array([x, y, 0.0]) - self.center)
        direction = self.rotation.T @ VERTICAL
        low, high = -np.inf, np.inf
        for s, v, h in zip(start, direction, self.half, strict=True):
            if abs(v) < 1e-9:
                if abs(s) > h:
                    return -np.inf
                continue
            near, far = sorted(((-h - s) / v, (h - s) / v))
            low, high = max(low, near), min(high, far)
        return float(high) if low <= high else -np.inf


@dataclass(frozen=True)
class Joint:
    """A drawer's slide or a door's or knob's hinge: moving body, world axis and anchor, range and value."""

    name: str
    body: int
    is_slide: bool
    axis: np.ndarray
    anchor: np.ndarray
    low: float
    high: float
    value: float


class World:
    """Readings of one LIBERO simulator (upstream's `ControlEnv`); every call reads the present state."""

    def __init__(self, simulator: Any) -> None:
        self.env = simulator.env
        self.model = simulator.sim.model._model
        self.data = simulator.sim.data._data
        self.grip_site = self._site_id(GRIP_SITE)
        shoulder = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, SHOULDER_JOINT)
        self.shoulder = self.data.xanchor[shoulder].copy()

    def _site_id(self, name: str) -> int:
        return mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, name)

    # -- goals

    @property
    def goals(self) -> list[tuple[str, ...]]:
        """The task's goal predicates, such as ("on", "bowl_1", "plate_1"), in the order of its file."""
        return [tuple(goal) for goal in self.env.parsed_problem["goal_state"]]

    def holds(self, goal: Sequence[str]) -> bool:
        """Whether the simulator's own predicate says that this goal is reached."""
        return bool(self.env._eval_predicate(list(goal)))

    # -- poses

    def grip(self) -> Pose:
        """Pose of the grip site: x is the direction in which the fingers close, z the one they point in."""
        rotation = self.data.site_xmat[self.grip_site].reshape(3, 3)
        return Pose(self.data.site_xpos[self.grip_site].copy(), rotation.copy())

    def finger_gap(self) -> float:
        """Sum of the finger joints' way from closed, metres."""
        return float(sum(abs(self.joint(name).value) for name in FINGER_JOINTS))

    def position(self, name: str) -> np.ndarray:
        """Origin of an object's or fixture's body; LIBERO's predicates look at this point."""
        return self.data.xpos[self.env.obj_body_id[name]].copy()

    def is_region(self, name: str) -> bool:
        """Whether the name is a region (a site) rather than an object or a fixture."""
        return name in self.env.object_sites_dict

    def region(self, name: str) -> Box:
        """A region's box."""
        site = self._site_id(name)
        rotation = self.data.site_xmat[site].reshape(3, 3)
        return Box(self.data.site_xpos[site].copy(), rotation.copy(), self.model.site_size[site].copy())

    def region_owner(self, name: str) -> str | None:
        """The object or fixture that a region is part of; None for a patch of the table."""
        owner = self.env.object_sites_dict[name].parent_name if self.is_region(name) else name
        return owner if owner in self.env.obj_body_id else None

    # -- shapes

    def boxes_of_bodies(self, bodies: set[int]) -> list[Box]:
        """Boxes around the collision geoms of some bodies."""
        return [Box.around(self.model, self.data, geom) for geom in solid_geoms(self.model, bodies)]

    def boxes(self, name: str) -> list[Box]:
        """Boxes around the collision geoms of an object or fixture."""
        return self.boxes_of_bodies(subtree(self.model, self.env.obj_body_id[name]))

    def points(self, name: str, spacing: float) -> np.ndarray:
        """Points (n, 3) of an object's or fixture's collision shape, at most `spacing` metres apart."""
        boxes = self.boxes(name)
        if not boxes:
            return self.position(name)[None]
        return np.concatenate([box.points(spacing) for box in boxes])

    def other_points(self, names: Sequence[str], spacing: float) -> np.ndarray:
        """Points of all objects and fixtures except the named ones; shape (n, 3)."""
        clouds = [self.points(name, spacing) for name in self.env.obj_body_id if name not in names]
        return np.concatenate(clouds) if clouds else np.zeros((0, 3))

    def highest_point(
        self, start: np.ndarray, end: np.ndarray, radius: float, without: Sequence[str]
    ) -> float:
        """Height of the highest thing within `radius` of the way from start to end seen from above.

        The things named in `without` do not count; -inf where there is nothing.
        """
        cloud = self.other_points(without, 0.02)
        way = (end - start)[:2]
        along = np.clip((cloud[:, :2] - start[:2]) @ way / max(float(way @ way), 1e-9), 0, 1)
        aside = np.linalg.norm(cloud[:, :2] - start[:2] - along[:, None] * way, axis=1)
        return float(cloud[aside < radius, 2].max(initial=-np.inf))

    def surface(self, name: str, x: float, y: float) -> float:
        """Height of the top of an object or fixture around (x, y); -inf where there is nothing of it."""
        ring = [(0, 0), (0.015, 0), (-0.015, 0), (0, 0.015), (0, -0.015)]
        boxes = self.boxes(name)
        return max((box.top_above(x + dx, y + dy) for box in boxes for dx, dy in ring), default=-np.inf)

    def objects_over(self, patch: np.ndarray) -> list[str]:
        """Objects still to be moved that reach over a patch: lowest and highest (x, y), (2, 2)."""
        wanted = [goal[1] for goal in self.goals if goal[1] in self.env.objects_dict and not self.holds(goal)]
        return [name for name in wanted if self._overlaps(self.points(name, 0.02), patch)]

    def _overlaps(self, cloud: np.ndarray, patch: np.ndarray, margin: float = 0.0) -> bool:
        inside = np.all((cloud[:, :2] > patch[0] - margin) & (cloud[:, :2] < patch[1] + margin), axis=1)
        return bool(inside.any())

    def free_spot(self, name: str, away: np.ndarray) -> np.ndarray | None:
        """The nearest point (3,) for an object's origin where it is clear of things and a patch (2, 2)."""
        origin, cloud = self.position(name), self.points(name, 0.02)
        others = self.other_points([name], 0.02)[:, :2]
        radius = float(np.linalg.norm((cloud - origin)[:, :2], axis=1).max()) + HAND_ROOM
        steps = np.arange(-0.30, 0.301, 0.02)
        shifts = sorted(((x, y) for x in steps for y in steps), key=lambda shift: (np.hypot(*shift), shift))
        for x, y in shifts:
            spot = origin + np.array([x, y, 0.0])
            near = np.linalg.norm(others - spot[:2], axis=1).min() < radius
            if not near and not self._overlaps(spot[None], away, radius) and self._at_hand(spot):
                return spot
        return None

    def _at_hand(self, spot: np.ndarray) -> bool:
        distance = float(np.linalg.norm((spot - self.shoulder)[:2]))
        return NEAREST < distance < FARTHEST

    # -- openings

    def fixed_boxes(self, region: str) -> list[Box]:
        """Boxes of what a region is part of, its hinged doors aside."""
        bodies = subtree(self.model, self.env.obj_body_id[self.region_owner(region)])
        hinged = mujoco.mjtJoint.mjJNT_HINGE
        for index in range(self.model.njnt):
            body = int(self.model.jnt_bodyid[index])
            if self.model.jnt_type[index] == hinged and body in bodies:
                bodies = bodies - subtree(self.model, body)
        return self.boxes_of_bodies(bodies)

    def side_entry(self, target: str) -> np.ndarray | None:
        """Horizontal unit vector into a roofed region through its open side; None where there is no roof."""
        if not self.is_region(target) or self.region_owner(target) is None or self.joints(target):
            return None
        box, cloud = self.region(target), np.concatenate([b.points(0.02) for b in self.fixed_boxes(target)])
        offset = cloud - box.center
        size = np.abs(box.rotation) @ box.half
        over = np.all(np.abs(offset[:, :2]) < 0.5 * size[:2], axis=1) & (offset[:, 2] > 0.8 * size[2])
        if size[2] < 0.02 or not over.any():
            return None
        walls = []
        for axis in (0, 1):
            for sign in (1.0, -1.0):
                middle = np.all(np.abs(np.delete(offset, axis, axis=1)) < 0.4 * np.delete(size, axis), axis=1)
                walls.append((int((middle & (sign * offset[:, axis] < -0.7 * size[axis])).sum()), axis, sign))
        _, axis, sign = min(walls)
        return sign * np.eye(3)[axis]

    def sideways_middle(self, target: str, entry: np.ndarray) -> np.ndarray:
        """Shift (3,) from a roofed region's middle to halfway between the walls on both sides of `entry`."""
        box, cloud = self.region(target), np.concatenate([b.points(0.02) for b in self.fixed_boxes(target)])
        offset, size, side = cloud - box.center, np.abs(box.rotation) @ box.half, np.cross(VERTICAL, entry)
        level = (np.abs(offset[:, 2]) < 0.4 * size[2]) & (np.abs(offset @ entry) < 0.7 * np.abs(entry) @ size)
        walls = offset[level] @ side
        if not (walls < 0).any() or not (walls > 0).any():
            return np.zeros(3)
        return side * (walls[walls < 0].max() + walls[walls > 0].min()) / 2

    def floor(self, target: str) -> float:
        """Height of the floor under a roofed region's middle."""
        box = self.region(target)
        tops = [b.top_above(*box.center[:2]) for b in self.fixed_boxes(target)]
        below = box.center[2] - np.abs(box.rotation[2]) @ box.half
        return max((top for top in tops if top < box.center[2]), default=float(below))

    def uncovered_middle(self, target: str) -> np.ndarray:
        """The point (3,) of a drawer's region farthest from its edges and from what hangs over it."""
        box, boxes = self.region(target), self.fixed_boxes(target)
        low, high = box.center - np.abs(box.rotation) @ box.half, box.center + np.abs(box.rotation) @ box.half
        grid = [(x, y) for x in np.linspace(low[0], high[0], 21) for y in np.linspace(low[1], high[1], 21)]
        covered = np.array([max(b.top_above(x, y) for b in boxes) > high[2] for x, y in grid])
        points = np.array(grid)
        room = np.minimum(points - low[:2], high[:2] - points).min(axis=1)
        if covered.any():
            gaps = np.linalg.norm(points[:, None] - points[None, covered], axis=2).min(axis=1)
            room = np.minimum(room, gaps)
        best = points[room > room.max() - 0.005]
        central = np.argmin(np.linalg.norm(best - best.mean(axis=0), axis=1))
        return np.append(best[central], box.center[2])

    # -- joints

    def joints(self, name: str) -> list[Joint]:
        """Hinges and slides of a fixture, or of the part of it that carries the named region."""
        if self.is_region(name):
            bodies = {int(self.model.site_bodyid[self._site_id(name)])}
        else:
            bodies = subtree(self.model, self.env.obj_body_id[name])
        kinds = (mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE)
        return [
            self._joint(index)
            for index in range(self.model.njnt)
            if int(self.model.jnt_bodyid[index]) in bodies and self.model.jnt_type[index] in kinds
        ]

    def joint(self, name: str) -> Joint:
        """A hinge or slide as it is now."""
        return self._joint(mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name))

    def _joint(self, index: int) -> Joint:
        low, high = self.model.jnt_range[index]
        return Joint(
            name=mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_JOINT, index),
            body=int(self.model.jnt_bodyid[index]),
            is_slide=bool(self.model.jnt_type[index] == mujoco.mjtJoint.mjJNT_SLIDE),
            axis=self.data.xaxis[index].copy(),
            anchor=self.data.xanchor[index].copy(),
            low=float(low),
            high=float(high),
            value=float(self.data.qpos[self.model.jnt_qposadr[index]]),
        )
