"""Scripts for the GR1 humanoid's tabletop tasks: from ground truth, with ordinary joint targets only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .pick import pick_and_place
from .stow import close_actions


def plan_actions(simulation: Any) -> Iterator[np.ndarray]:
    """Actions (29,), one a control step, without end, for the scene that the simulation was reset to."""
    return close_actions(simulation) if simulation.scene.fixture else pick_and_place(simulation)
