"""Pictures of one model, with no more drawn than somebody will see.

Policies see a part of the ego camera's frame (views.py), 46 % of it. The picture is drawn as if the whole frame were
there, into a buffer that ends where that part ends: what lies beyond is clipped, what lies inside has the same bits.
Geoms outside the camera's view of that part are not handed to OpenGL at all.
"""

from __future__ import annotations

import atexit
from functools import cache

import mujoco
import numpy as np

from suites.robocasa_gr1.suite import EGO_FRAME, SCENE_VIEW
from suites.robocasa_gr1.views import COLUMNS_KEPT, ROWS_KEPT

#: Samples per pixel of upstream's pictures.
MULTISAMPLING = 4

#: A geom group that is never drawn.
_HIDDEN = 5


class Pictures:
    """Draws one model off screen. `option` says which groups are shown; group 5 never is."""

    def __init__(self, model: mujoco.MjModel, option: mujoco.MjvOption):
        # OpenGL's rows count from below.
        self._ego = mujoco.MjrRect(COLUMNS_KEPT.start, EGO_FRAME[0] - ROWS_KEPT.stop,
                                   COLUMNS_KEPT.stop - COLUMNS_KEPT.start, ROWS_KEPT.stop - ROWS_KEPT.start)
        self._scene = mujoco.MjrRect(0, 0, SCENE_VIEW[1], SCENE_VIEW[0])
        model.vis.global_.offheight = max(self._ego.bottom + self._ego.height, self._scene.height)
        model.vis.global_.offwidth = max(self._ego.left + self._ego.width, self._scene.width)
        model.vis.quality.offsamples = MULTISAMPLING
        self._model, self._option = model, option
        self._option.geomgroup[_HIDDEN] = 0
        gl_context().make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        self._drawn = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + 100)

    def ego(self, data: mujoco.MjData) -> np.ndarray:
        """What `views.ego_view` needs of the ego camera's frame: RGB (460, 1020, 3) uint8, upright."""
        camera, groups = self._model.camera("egoview").id, self._model.geom_group
        before = groups.copy()
        groups[unseen(self._model, data, camera, self._option.geomgroup)] = _HIDDEN
        try:
            return self._draw(data, fixed(camera), mujoco.MjrRect(0, 0, *EGO_FRAME[::-1]), self._ego)
        finally:
            groups[:] = before

    def scene(self, data: mujoco.MjData, camera: mujoco.MjvCamera) -> np.ndarray:
        """The view of `camera`: RGB (480, 640, 3) uint8, upright."""
        return self._draw(data, camera, self._scene, self._scene)

    def _draw(self, data, camera, frame: mujoco.MjrRect, part: mujoco.MjrRect) -> np.ndarray:
        gl_context().make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        mujoco.mjv_updateScene(self._model, data, self._option, None, camera, mujoco.mjtCatBit.mjCAT_ALL.value,
                               self._drawn)
        picture = np.empty((part.height, part.width, 3), dtype=np.uint8)
        mujoco.mjr_render(frame, self._drawn, self._context)
        mujoco.mjr_readPixels(picture, None, part, self._context)
        return picture[::-1]

    def close(self) -> None:
        gl_context().make_current()
        self._context.free()


def fixed(camera: int) -> mujoco.MjvCamera:
    """A camera of the model, by its index."""
    view = mujoco.MjvCamera()
    view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED.value, camera
    return view


def unseen(model: mujoco.MjModel, data: mujoco.MjData, camera: int, shown: np.ndarray) -> np.ndarray:
    """Which geoms (ngeom,) show in the kept part of the ego frame neither themselves nor in the scene's mirror.

    shown: which geom groups are. A geom is inside its bounding sphere; it is unseen where that lies beyond one side of
    the pyramid of view.
    """
    height, width = EGO_FRAME
    slope = 2 * np.tan(np.radians(model.cam_fovy[camera]) / 2) / height  # per pixel, at a depth of 1
    top, bottom = ((height / 2 - row) * slope for row in (ROWS_KEPT.start - 1, ROWS_KEPT.stop + 1))
    left, right = ((column - width / 2) * slope for column in (COLUMNS_KEPT.start - 1, COLUMNS_KEPT.stop + 1))
    # Normals that point out of the pyramid; the camera looks along -z.
    sides = np.array([(0, 1, top), (0, -1, -bottom), (1, 0, right), (-1, 0, -left), (0, 0, 1)])
    sides = (sides / np.linalg.norm(sides, axis=1, keepdims=True)) @ data.cam_xmat[camera].reshape(3, 3).T

    def beyond(centres: np.ndarray) -> np.ndarray:
        return ((centres - data.cam_xpos[camera]) @ sides.T > model.geom_rbound[:, None] + 1e-6).any(axis=1)

    found = beyond(data.geom_xpos) & (model.geom_rbound > 0)
    mirror = mirror_of(model, shown)
    if mirror is not None:
        found[mirror] = False  # or the next one would reflect in its place
        normal = data.geom_xmat[mirror].reshape(3, 3)[:, 2]
        face = data.geom_xpos[mirror] + model.geom_size[mirror, 2] * normal * (model.geom_type[mirror] == _BOX)
        if (data.cam_xpos[camera] - face) @ normal > -1e-6:
            found &= beyond(data.geom_xpos - 2 * ((data.geom_xpos - face) @ normal)[:, None] * normal)
    if model.light_castshadow.any():
        found[:] = False  # what is out of view may throw a shadow into it
    return found


_BOX = mujoco.mjtGeom.mjGEOM_BOX.value


def mirror_of(model: mujoco.MjModel, shown: np.ndarray) -> int | None:
    """The geom that reflects others. MuJoCo makes it the first opaque plane or box (with its upper side) that is shown
    and whose material reflects, and lets no other reflect."""
    matter = model.geom_matid
    own_colour = (model.geom_rgba != np.float32((0.5, 0.5, 0.5, 1.0))).any(axis=1) | (matter < 0)
    alpha = np.where(own_colour, model.geom_rgba[:, 3], model.mat_rgba[matter, 3] if model.nmat else 1.0)
    flat = np.isin(model.geom_type, (_BOX, mujoco.mjtGeom.mjGEOM_PLANE.value))
    reflects = (matter >= 0) & (model.mat_reflectance[matter] > 0) if model.nmat else np.zeros(model.ngeom, bool)
    found = np.flatnonzero(flat & reflects & (alpha > 0.995) & shown[model.geom_group].astype(bool))
    return int(found[0]) if len(found) else None


@cache
def gl_context() -> mujoco.GLContext:
    """This process's OpenGL context; making one anew for every model would compile all shaders anew."""
    context = mujoco.GLContext(*EGO_FRAME[::-1])
    atexit.register(context.free)
    return context
