"""The policy side of the contract: observations in, action chunks out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from evalkit.episode import Episode
from evalkit.specs import PolicySpec
from evalkit.suite import Observation


class Policy(ABC):
    """Maps observations to action chunks, batched over episodes.

    The constructor is light (no weights, no torch): the driver builds one to read `spec` and compare it with the
    suite before anything starts. `load` is called once in the process that acts.
    Whatever is random comes from `observation.episode.generator(...)`, so that a batch, a worker or a retry
    does not change an action.
    """

    spec: PolicySpec

    def load(self) -> None:
        """Load weights or data. Called once, before the first `reset`."""
        return None

    def check_plan(self, episodes: Sequence[Episode]) -> None:
        """Raise InputError if these episodes cannot be run; called in the driver before anything starts."""
        return None

    def reset(self, episode: Episode) -> None:
        """`episode` begins: forget whatever was kept under its id."""
        return None

    @abstractmethod
    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        """One chunk for each observation: (T, D) float, un-normalised, in the suite's declared meaning."""

