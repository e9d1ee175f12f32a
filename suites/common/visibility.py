"""Which geoms a picture cannot show, so that they need not be drawn: out of view they cost as much as in it.

Geoms go to a group that is never shown while a picture is drawn. The picture has the same bits: tests of both suites
compare them, with mirrors and without. Importing this file leaves mujoco alone, which chooses its OpenGL library when
it is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mujoco

#: A geom group that suites never show.
HIDDEN = 5

#: Geom types by MuJoCo's numbers (mjtGeom).
_PLANE, _BOX = 0, 6


@dataclass(frozen=True)
class Window:
    """The part of a frame (height, width) of a camera that somebody will see: rows from above, and columns."""

    height: int
    width: int
    rows: slice
    columns: slice


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
    side of the pyramid of view, which is taken a pixel wider.
    """
    slope = 2 * np.tan(np.radians(model.cam_fovy[camera]) / 2) / window.height  # per pixel, at a depth of 1
    top, bottom = ((window.height / 2 - row) * slope for row in (window.rows.start - 1, window.rows.stop + 1))
    left, right = ((column - window.width / 2) * slope
                   for column in (window.columns.start - 1, window.columns.stop + 1))
    # Normals that point out of the pyramid; the camera looks along -z.
    sides = np.array([(0, 1, top), (0, -1, -bottom), (1, 0, right), (-1, 0, -left), (0, 0, 1)])
    sides = (sides / np.linalg.norm(sides, axis=1, keepdims=True)) @ data.cam_xmat[camera].reshape(3, 3).T

    def beyond(centres: np.ndarray) -> np.ndarray:
        return ((centres - data.cam_xpos[camera]) @ sides.T > model.geom_rbound[:, None] + 1e-6).any(axis=1)

    found = beyond(data.geom_xpos) & (model.geom_rbound > 0)
    mirrors = mirrors_of(model, shown)
    if not found[mirrors].all():
        mirror = mirrors[0]
        normal = data.geom_xmat[mirror].reshape(3, 3)[:, 2]
        face = data.geom_xpos[mirror] + model.geom_size[mirror, 2] * normal * (model.geom_type[mirror] == _BOX)
        if not found[mirror] and (data.cam_xpos[camera] - face) @ normal > -1e-6:
            found &= beyond(data.geom_xpos - 2 * ((data.geom_xpos - face) @ normal)[:, None] * normal)
        found[mirror] = False  # or another would reflect in its place
    if model.light_castshadow.any():
        found[:] = False  # what is out of view may throw a shadow into it
    return found


def mirrors_of(model: mujoco.MjModel, shown: np.ndarray) -> np.ndarray:
    """Geoms that can reflect others: opaque planes and boxes (with their upper side) that are shown and whose material
    reflects. MuJoCo takes the first that it draws, for which it draws the whole scene once more, and no other."""
    matter = model.geom_matid
    own_colour = (model.geom_rgba != np.float32((0.5, 0.5, 0.5, 1.0))).any(axis=1) | (matter < 0)
    alpha = np.where(own_colour, model.geom_rgba[:, 3], model.mat_rgba[matter, 3] if model.nmat else 1.0)
    flat = np.isin(model.geom_type, (_BOX, _PLANE))
    reflects = (matter >= 0) & (model.mat_reflectance[matter] > 0) if model.nmat else np.zeros(model.ngeom, bool)
    return np.flatnonzero(flat & reflects & (alpha > 0.995) & shown[model.geom_group].astype(bool))
