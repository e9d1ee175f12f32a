"""What a picture cannot show, so that it need not be drawn: out of view it costs as much as in it.

Geoms go to a group that is never shown while a picture is drawn. The picture has the same bits: tests of both suites
compare them, with mirrors and without. Importing this file leaves mujoco alone, which chooses its OpenGL library when
it is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import mujoco

#: A geom group that suites never show.
HIDDEN = 5

#: Geom types by MuJoCo's numbers (mjtGeom).
PLANE, BOX, MESH = 0, 6, 7

#: MuJoCo draws what is less opaque than this as transparent (render_gl3.c).
OPAQUE = 0.995


@dataclass(frozen=True)
class Window:
    """The part of a frame (height, width) of a camera that somebody will see: rows from above, and columns."""

    height: int
    width: int
    rows: slice
    columns: slice


class View(NamedTuple):
    """What a camera sees in a Window: eye (3,) in the world; sides (5, 3) unit normals that point out of the pyramid of
    view, which is taken a pixel wider; pixel: a pixel's width at a depth of 1; axes (3, 3): the camera's right, up and
    back, in columns."""

    eye: np.ndarray
    sides: np.ndarray
    pixel: float
    axes: np.ndarray

    @classmethod
    def through(cls, window: Window, eye: np.ndarray, axes: np.ndarray, slope: float) -> View:
        """slope: half the frame's height at a depth of 1."""
        pixel = 2 * slope / window.height
        top, bottom = ((window.height / 2 - row) * pixel for row in (window.rows.start - 1, window.rows.stop + 1))
        left, right = ((column - window.width / 2) * pixel
                       for column in (window.columns.start - 1, window.columns.stop + 1))
        return cls(eye, _sides(left, right, bottom, top) @ axes.T, pixel, axes)

    def misses(self, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """Which spheres (n, 3), (n,) are out of view."""
        return ((centres - self.eye) @ self.sides.T > radii[:, None] + 1e-6).any(axis=1)

    def onto(self, corners: np.ndarray) -> View:
        """The view of what has these corners (n, 3), a pixel wider; all of this view without corners, or with one at
        the eye's side."""
        seen = (corners - self.eye) @ self.axes
        if not len(seen) or not (seen[:, 2] < -0.01).all():
            return self
        right, up = (seen[:, axis] / -seen[:, 2] for axis in (0, 1))
        frame = _sides(right.min() - self.pixel, right.max() + self.pixel, up.min() - self.pixel,
                       up.max() + self.pixel) @ self.axes.T
        return self._replace(sides=np.concatenate([self.sides, frame]))


class Mirror(NamedTuple):
    """A reflecting face: a point on it and its unit normal (3,), in the world."""

    point: np.ndarray
    normal: np.ndarray

    @classmethod
    def on(cls, kind: int, position: np.ndarray, rotation: np.ndarray, size: np.ndarray) -> Mirror:
        """Of a plane, or of the upper side of a box."""
        normal = rotation[:, 2]
        return cls(position + size[2] * normal * (kind == BOX), normal)

    def height(self, points: np.ndarray) -> np.ndarray:
        """Above it, of points (..., 3)."""
        return (points - self.point) @ self.normal

    def image(self, points: np.ndarray) -> np.ndarray:
        """Where points (..., 3) seem to be."""
        return points - 2 * self.height(points)[..., None] * self.normal


def _sides(left: float, right: float, bottom: float, top: float) -> np.ndarray:
    """Outward unit normals (5, 3) of a pyramid along -z, given its edges at a depth of 1."""
    normals = np.array([(0, 1, top), (0, -1, -bottom), (1, 0, right), (-1, 0, -left), (0, 0, 1)])
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


@contextmanager
def hidden(model: mujoco.MjModel, geoms: np.ndarray) -> Iterator[None]:
    """Inside the block `geoms`, a mask (ngeom,), are not drawn."""
    before = model.geom_group.copy()
    model.geom_group[geoms] = HIDDEN
    try:
        yield
    finally:
        model.geom_group[:] = before


def unseen(model: mujoco.MjModel, data: mujoco.MjData, camera: int, window: Window, shown: np.ndarray) -> np.ndarray:
    """Which geoms (ngeom,) show in `window` neither themselves nor in the scene's mirror.

    shown: which geom groups are drawn. A geom is inside its bounding sphere; it is unseen where that lies beyond one
    side of the pyramid of view.
    """
    view = View.through(window, data.cam_xpos[camera], data.cam_xmat[camera].reshape(3, 3),
                        np.tan(np.radians(model.cam_fovy[camera]) / 2))
    found = view.misses(data.geom_xpos, model.geom_rbound) & (model.geom_rbound > 0)
    mirrors = mirrors_of(model, shown)
    if not found[mirrors].all():
        first = mirrors[0]
        mirror = Mirror.on(model.geom_type[first], data.geom_xpos[first], data.geom_xmat[first].reshape(3, 3),
                           model.geom_size[first])
        if not found[first] and mirror.height(view.eye) > -1e-6:
            found &= view.misses(mirror.image(data.geom_xpos), model.geom_rbound)
        found[first] = False  # or another would reflect in its place
    if model.light_castshadow.any():
        found[:] = False  # what is out of view may throw a shadow into it
    return found


def mirrors_of(model: mujoco.MjModel, shown: np.ndarray) -> np.ndarray:
    """Geoms that can reflect others: opaque planes and boxes (with their upper side) that are shown and whose material
    reflects. MuJoCo takes the first that it draws, for which it draws the whole scene once more, and no other."""
    matter = model.geom_matid
    own_colour = (model.geom_rgba != np.float32((0.5, 0.5, 0.5, 1.0))).any(axis=1) | (matter < 0)
    alpha = np.where(own_colour, model.geom_rgba[:, 3], model.mat_rgba[matter, 3] if model.nmat else 1.0)
    flat = np.isin(model.geom_type, (BOX, PLANE))
    reflects = (matter >= 0) & (model.mat_reflectance[matter] > 0) if model.nmat else np.zeros(model.ngeom, bool)
    return np.flatnonzero(flat & reflects & (alpha >= OPAQUE) & shown[model.geom_group].astype(bool))
