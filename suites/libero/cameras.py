"""Render upstream's cameras only when somebody looks, with the pixels it would have had anyway.

robosuite samples each observable inside the control step, at a substep that the observable's own clock picks. Turning
an observable off resets that clock, and rendering after the step shows another substep: both give other pixels. So
the clock is left alone and only the sensor function behind it is gated. What the camera cannot see is not drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np

from suites.common.visibility import HIDDEN, Window, hidden, unseen
from suites.libero.meshes import MeshParts, draws_in_software

_NOT_RENDERED = np.zeros((1, 1, 3), np.uint8)


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Inside the block pictures are black: robosuite's constructor draws one of each camera to learn its shape."""
    from robosuite.utils.binding_utils import MjRenderContext as Context

    render, read = Context.render, Context.read_pixels
    Context.render = lambda self, *size, **options: None
    Context.read_pixels = lambda self, width, height, **options: np.zeros((height, width, 3), np.uint8)
    try:
        yield
    finally:
        Context.render, Context.read_pixels = render, read


class CameraGate:
    """Wraps the camera sensors of a robosuite environment; `open` says whether they render.

    A hard reset replaces the sensors, so attach a new gate after one; soft resets keep it.
    """

    def __init__(self, environment: Any) -> None:
        self.open = False
        self.seconds = 0.0
        for observable in environment._observables.values():
            if observable.modality == "image":
                observable._sensor = self._gated(observable._sensor)

    def _gated(self, sensor: Callable) -> Callable:
        def look_or_not(cache: dict) -> np.ndarray:
            if not self.open:
                return _NOT_RENDERED
            start = time.perf_counter()
            image = sensor(cache)
            self.seconds += time.perf_counter() - start
            return image

        look_or_not.__modality__ = sensor.__modality__
        return look_or_not


class DrawSeen:
    """Takes the place of `render` of robosuite's offscreen `context` (utils/binding_utils.py), of which it draws what
    the camera can see. It keeps the context's parts, not the context, which frees OpenGL when nobody keeps it."""

    def __init__(self, context: Any) -> None:
        self._model, self._data, self._context = context.model._model, context.data._data, context.con
        self._option, self._camera, self._scene = context.vopt, context.cam, context.scn
        self._option.geomgroup[HIDDEN] = 0
        self._parts = MeshParts(self._model, self._context, self._option.geomgroup) if draws_in_software() else None

    def __call__(self, width: int, height: int, camera_id: int, segmentation: bool = False) -> None:
        window = Window(height, width, slice(0, height), slice(0, width))
        self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, camera_id
        with hidden(self._model, unseen(self._model, self._data, camera_id, window, self._option.geomgroup)):
            mujoco.mjv_updateScene(self._model, self._data, self._option, None, self._camera,
                                   mujoco.mjtCatBit.mjCAT_ALL, self._scene)
        if self._parts is not None:
            self._parts.thin(self._scene, window)
        mujoco.mjr_render(mujoco.MjrRect(0, 0, width, height), self._scene, self._context)
