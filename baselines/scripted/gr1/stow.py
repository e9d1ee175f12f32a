"""Put the object into the open drawer, microwave or cabinet and shut it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .drawer import StowInDrawer
from .front import StowFromFront

SCRIPTS = {"drawer": StowInDrawer, "microwave": StowFromFront, "cabinet": StowFromFront}


def close_actions(simulation: Any) -> Iterator[np.ndarray]:
    """Actions (29,), one a control step, without end, for a scene with an object and an open fixture."""
    return SCRIPTS[simulation.scene.fixture.kind](simulation).actions()
