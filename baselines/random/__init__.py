"""Random: uniform actions. A floor for any table, and work for benchmarks; chunks of `chunk` actions."""

from __future__ import annotations

import numpy as np

from evalkit.errors import InputError
from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Observation, Suite

#: Radians around the present joint position, where the suite's actions have no range.
SPREAD = 0.2


class Random(Policy):
    """Uniform in the action range, or around the present state where actions are joint targets without a range; drawn
    from the episode's own generator.

    chunk: actions in a chunk, all executed. views: 1 to look at every camera view at each query, as a visual policy
    does (the pictures are not used).
    """

    def __init__(self, suite: Suite, chunk: int = 8, views: int = 0):
        if not isinstance(chunk, int) or chunk < 1:
            raise InputError(f"option chunk of policy 'random' is {chunk!r}; allowed: 1 or more")
        self.spec = PolicySpec("random", views=tuple(suite.views) if views else (), state=tuple(suite.state),
                               chunk_length=chunk, executed_steps=chunk)
        self._suite = suite

    def act(self, observations):
        return [self._draw(observation) for observation in observations]

    def _draw(self, observation: Observation) -> np.ndarray:
        generator = observation.generator("random policy")
        action = self._suite.action
        size = (self.spec.chunk_length, action.size)
        if action.low is None or action.high is None:
            return self._suite.hold(observation) + generator.uniform(-SPREAD, SPREAD, size).astype(np.float32)
        return generator.uniform(action.low, action.high, size).astype(np.float32)
