"""Noop: holds still. Must score 0; anything else is a fault of the harness."""

from __future__ import annotations

import numpy as np

from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Suite


class Noop(Policy):
    """Sends the suite's hold action."""

    def __init__(self, suite: Suite):
        self.spec = PolicySpec("noop")
        self._action = np.array([suite.hold_action], dtype=np.float32)

    def act(self, observations):
        return [self._action for _ in observations]
