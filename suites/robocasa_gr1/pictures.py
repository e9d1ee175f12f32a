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

from suites.common.visibility import HIDDEN, Window, hidden, unseen
from suites.robocasa_gr1.suite import EGO_FRAME, SCENE_VIEW
from suites.robocasa_gr1.views import COLUMNS_KEPT, ROWS_KEPT

#: Samples per pixel of upstream's pictures.
MULTISAMPLING = 4

#: What policies see of the ego camera.
EGO = Window(*EGO_FRAME, ROWS_KEPT, COLUMNS_KEPT)


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
        self._option.geomgroup[HIDDEN] = 0
        gl_context().make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        self._drawn = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + 100)

    def ego(self, data: mujoco.MjData) -> np.ndarray:
        """What `views.ego_view` needs of the ego camera's frame: RGB (460, 1020, 3) uint8, upright."""
        camera = self._model.camera("egoview").id
        with hidden(self._model, unseen(self._model, data, camera, EGO, self._option.geomgroup)):
            return self._draw(data, fixed(camera), mujoco.MjrRect(0, 0, *EGO_FRAME[::-1]), self._ego)

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


@cache
def gl_context() -> mujoco.GLContext:
    """This process's OpenGL context; making one anew for every model would compile all shaders anew."""
    context = mujoco.GLContext(*EGO_FRAME[::-1])
    atexit.register(context.free)
    return context
