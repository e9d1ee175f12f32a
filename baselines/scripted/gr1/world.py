"""What the GR1 scripts read from the simulator: where things are, their shapes, and what is in the way.

Positions and lengths are metres in the world frame; every call reads the present state and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from baselines.scripted.geometry import OrientedBox, solid_geoms, subtree

TABLE_TOP = 0.92
WAIST_JOINT = "robot0_torso_waist_yaw"
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Box(OrientedBox):
    """A box around a thing or one of its geoms."""

    def reach(self, direction: np.ndarray) -> float:
        """How far the box reaches from its centre along a unit vector."""
        return float(np.abs(self.rotation.T @ direction) @ self.half)

    @property
    def top(self) -> float:
        """Height of the highest point."""
        return float(self.center[2]) + self.reach(UP)

    @property
    def bottom(self) -> float:
        """Height of the lowest point."""
        return float(self.center[2]) - self.reach(UP)

    def tops_above(self, spots: np.ndarray) -> np.ndarray:
        """Heights (n,) at which vertical lines through spots (n, 2) leave the box; -inf where they miss it."""
        starts = (np.column_stack([spots, np.zeros(len(spots))]) - self.center) @ self.rotation
        direction = self.rotation[2]
        direction = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
        ends = np.stack([(-self.half - starts) / direction, (self.half - starts) / direction])
        enter, leave = ends.min(axis=0).max(axis=1), ends.max(axis=0).min(axis=1)
        return np.where(enter <= leave, leave, -np.inf)


class World:
    """Readings of one simulation; an `item` is what its scene calls one (name, body, bottom, top, half, region)."""

    def __init__(self, simulation: Any) -> None:
        self.simulation = simulation
        self.model, self.data = simulation.model, simulation.data
        scene = simulation.scene
        self.obj, self.container = scene.obj, scene.container
        self.items = (scene.obj, *([scene.container] if scene.container else []), *scene.others)
        self.middle = float(self.data.xanchor[self.model.joint(WAIST_JOINT).id][0])

    def succeeded(self) -> bool:
        """Whether the task's own predicate holds now."""
        return bool(self.simulation.success())

    def position(self, item: Any) -> np.ndarray:
        """Origin (3,) of an item's body."""
        return self.data.body(item.body).xpos.copy()

    def box(self, item: Any) -> Box:
        """Bounding box of an item."""
        body = self.data.body(item.body)
        rotation = body.xmat.reshape(3, 3).copy()
        center = body.xpos + rotation[:, 2] * (item.top + item.bottom) / 2
        return Box(center, rotation, np.array([*item.half, (item.top - item.bottom) / 2]))

    def boxes(self, item: Any) -> list[Box]:
        """Boxes around the collision geoms of an item."""
        return self.boxes_of_bodies(subtree(self.model, self.model.body(item.body).id))

    def boxes_of_bodies(self, bodies: set[int]) -> list[Box]:
        """Boxes around the collision geoms of bodies, given by their ids."""
        return [Box.around(self.model, self.data, geom) for geom in solid_geoms(self.model, bodies)]

    def geom_box(self, name: str) -> Box:
        """Box around a geom, whether or not it collides."""
        return Box.around(self.model, self.data, self.model.geom(name).id)

    # -- what is in the way

    def points(self, items: Sequence[Any], spacing: float) -> np.ndarray:
        """Points (n, 3) over the collision shapes of items, at most `spacing` apart."""
        clouds = [box.points(spacing) for item in items for box in self.boxes(item)]
        return np.concatenate(clouds) if clouds else np.zeros((0, 3))

    def highest(self, start: np.ndarray, end: np.ndarray, radius: float, items: Sequence[Any]) -> float:
        """Height of the highest point of items within `radius` of a way seen from above; at least the table's."""
        corners = [self.box(item).points(0.05) for item in items]
        cloud = np.concatenate(corners) if corners else np.zeros((0, 3))
        way = (end - start)[:2]
        along = np.clip((cloud[:, :2] - start[:2]) @ way / max(float(way @ way), 1e-9), 0, 1)
        aside = np.linalg.norm(cloud[:, :2] - start[:2] - along[:, None] * way, axis=1)
        return float(cloud[aside < radius, 2].max(initial=TABLE_TOP))

    # -- where an object goes

    def well(self, item: Any) -> np.ndarray:
        """Middle (3,) of a container's hollow: the spot of its floor farthest from rims, z the container's top.

        The floor is what lies below half the container's height seen from above.
        """
        box, boxes = self.box(item), self.boxes(item)
        reach = box.half[:2].max() * 1.2
        axis = np.linspace(-reach, reach, 25)
        spots = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2) + box.center[:2]
        heights = np.max([part.tops_above(spots) for part in boxes], axis=0)
        covered = np.isfinite(heights)
        floor = covered & (heights < (np.median(heights[covered]) + box.top) / 2 + 1e-6)
        if floor.all() or not floor.any():
            return np.array([*box.center[:2], box.top])
        gaps = np.linalg.norm(spots[floor][:, None] - spots[~floor][None], axis=2).min(axis=1)
        best = spots[floor][gaps > gaps.max() - 0.012]
        return np.array([*best.mean(axis=0), box.top])
