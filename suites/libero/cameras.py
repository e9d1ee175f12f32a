"""Render upstream's cameras only when somebody looks, with the pixels it would have had anyway.

robosuite samples each observable inside the control step, at a substep that the observable's own clock picks. Turning
an observable off resets that clock, and rendering after the step shows another substep: both give other pixels. So
the clock is left alone and only the sensor function behind it is gated.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

_NOT_RENDERED = np.zeros((1, 1, 3), np.uint8)


class CameraGate:
    """Wraps the camera sensors of a robosuite environment; `open` says whether they render.

    A hard reset replaces the sensors, so attach a new gate after one; soft resets keep it.
    """

    def __init__(self, environment) -> None:
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
