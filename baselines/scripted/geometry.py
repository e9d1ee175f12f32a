"""Poses, and boxes around the geoms of a MuJoCo model: what every scripted policy reads. World frame, metres."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pose:
    """A position (3,) in metres and a rotation matrix (3, 3), both in the world frame."""

    position: np.ndarray
    rotation: np.ndarray

    def at(self, position: np.ndarray) -> Pose:
        """The same orientation at another position."""
        return Pose(np.asarray(position, dtype=float), self.rotation)

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Pose:
        """The same orientation, shifted."""
        return self.at(self.position + np.array([x, y, z]))


@dataclass(frozen=True)
class OrientedBox:
    """Centre (3,), rotation (3, 3), half sizes (3,)."""

    center: np.ndarray
    rotation: np.ndarray
    half: np.ndarray

    def points(self, spacing: float) -> np.ndarray:
        """Grid points (n, 3) over the box, corners included, at most `spacing` metres apart."""
        axes = [np.linspace(-half, half, 2 + int(2 * half / spacing)) for half in self.half]
        local = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        return local @ self.rotation.T + self.center

    @classmethod
    def around(cls, model: Any, data: Any, geom: int):
        """The box around a geom, whether or not it collides."""
        rotation = data.geom_xmat[geom].reshape(3, 3).copy()
        bounds = model.geom_aabb[geom]
        return cls(data.geom_xpos[geom] + rotation @ bounds[:3], rotation, bounds[3:].copy())


def subtree(model: Any, root: int) -> set[int]:
    """Ids of a body and all bodies below it."""
    bodies = {root}
    for body in range(root + 1, model.nbody):
        if int(model.body_parentid[body]) in bodies:
            bodies.add(body)
    return bodies


def solid_geoms(model: Any, bodies: Iterable[int]) -> list[int]:
    """Ids of the geoms of some bodies that can collide, in the model's order."""
    solid = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    return [int(geom) for geom in np.flatnonzero(solid & np.isin(model.geom_bodyid, list(bodies)))]
