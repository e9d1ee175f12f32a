"""Scripted: solves tasks from ground truth with ordinary actions. No weights; a real, non-zero baseline.

It is privileged (it reads object poses from the simulator) and honest (it only sends actions a policy could send).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from evalkit.episode import Episode
from evalkit.policy import Policy
from evalkit.registry import load_object, load_suite, suite_names
from evalkit.specs import PolicySpec
from evalkit.suite import Observation, Suite

#: Suite interpreter -> the function that yields one action a step for a simulator of that kind.
SCRIPTS = {"libero": "baselines.scripted.libero:plan_actions",
           "robocasa_gr1": "baselines.scripted.gr1:plan_actions"}


class Scripted(Policy):
    """Runs the script of the suite's simulator; when it has ended, the suite's hold action follows."""

    def __init__(self, suite: Suite):
        made_for = tuple(name for name in suite_names() if load_suite(name).interpreter in SCRIPTS)
        self.spec = PolicySpec("scripted", privileged=True, suites=made_for)
        self._kind = suite.interpreter
        self._suite = suite
        self._scripts: dict[str, Iterator[np.ndarray]] = {}

    def load(self) -> None:
        self._plan = load_object(SCRIPTS[self._kind])

    def reset(self, episode: Episode) -> None:
        self._scripts.clear()

    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        return [self._next(observation) for observation in observations]

    def _next(self, observation: Observation) -> np.ndarray:
        key = observation.episode.id
        if key not in self._scripts:
            self._scripts[key] = self._plan(observation.simulator)
        action = next(self._scripts[key], None)
        if action is None:
            return self._suite.hold(observation)[None]
        return np.asarray(action, dtype=np.float32)[None]
