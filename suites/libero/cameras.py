"""Render upstream's cameras only when somebody looks, with the pixels it would have had anyway.

robosuite samples each observable inside the control step, at a substep that the observable's own clock picks. Turning
an observable off resets that clock, and rendering after the step shows another substep: both give other pixels. So
the clock is left alone and only the sensor function behind it is gated. What the camera cannot see is not drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from suites.common.visibility import HIDDEN, Window, hidden, unseen

_NOT_RENDERED = np.zeros((1, 1, 3), np.uint8)


class CameraGate:
    """Wraps the camera sensors of a robosuite environment; `open` says whether they render.

    A hard reset replaces the sensors, so attach a new gate after one; soft resets keep it.
    """

    def __init__(self, environment) -> None:
        self.open = False
        self.seconds = 0.0
        self._sim = environment.sim
        for name, observable in environment._observables.items():
            if observable.modality == "image":
                camera = environment.camera_names.index(name.removesuffix("_image"))
                size = environment.camera_heights[camera], environment.camera_widths[camera]
                window = Window(*size, slice(0, size[0]), slice(0, size[1]))
                observable._sensor = self._gated(observable._sensor, self._sim.model.camera_name2id(
                    environment.camera_names[camera]), window)

    def _gated(self, sensor: Callable, camera: int, window: Window) -> Callable:
        def look_or_not(cache: dict) -> np.ndarray:
            if not self.open:
                return _NOT_RENDERED
            start = time.perf_counter()
            with hidden(self._sim.model._model, self._unseen(camera, window)):
                image = sensor(cache)
            self.seconds += time.perf_counter() - start
            return image

        look_or_not.__modality__ = sensor.__modality__
        return look_or_not

    def _unseen(self, camera: int, window: Window) -> np.ndarray:
        groups = self._sim._render_context_offscreen.vopt.geomgroup
        groups[HIDDEN] = 0
        return unseen(self._sim.model._model, self._sim.data._data, camera, window, groups)
