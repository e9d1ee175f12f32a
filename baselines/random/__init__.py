"""Random: uniform actions. A floor for any table, and work for benchmarks; chunks of `chunk` actions."""

from __future__ import annotations

import numpy as np

from evalkit.errors import InputError
from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Observation, Suite


class Random(Policy):
    """Uniform in the action range, drawn from the episode's own generator.

    chunk: actions in a chunk, all executed. views: 1 to look at every camera view at each query, as a visual policy
    does (the pictures are not used).
    """

    def __init__(self, suite: Suite, chunk: int = 8, views: int = 0):
        if suite.action.low is None or suite.action.high is None:
            raise InputError(f"policy 'random' needs a bounded action range; {suite.name} has none")
        if not isinstance(chunk, int) or chunk < 1:
            raise InputError(f"option chunk of policy 'random' is {chunk!r}; allowed: 1 or more")
        self.spec = PolicySpec("random", views=tuple(suite.views) if views else (), chunk_length=chunk,
                               executed_steps=chunk)
        self._action = suite.action

    def act(self, observations):
        return [self._draw(observation) for observation in observations]

    def _draw(self, observation: Observation) -> np.ndarray:
        generator = observation.episode.generator(f"random policy, step {observation.step}")
        size = (self.spec.chunk_length, self._action.size)
        return generator.uniform(self._action.low, self._action.high, size).astype(np.float32)
