"""What a suite offers and what a policy needs, declared so that both can be compared before any simulator starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evalkit.errors import InputError


@dataclass(frozen=True)
class ActionSpec:
    """The action a suite's `Env.step` takes: one float vector of D numbers.

    groups: name -> size, in the order in which they are concatenated; D is their sum.
    meaning: what the numbers are (frame, units, sign); equal strings mean equal actions.
    low, high: the range the suite's controller uses (None: no limit); LIBERO's own controller clips to it.
    """

    groups: Mapping[str, int]
    meaning: str
    low: float | None = None
    high: float | None = None

    @property
    def size(self) -> int:
        """D, the length of one action."""
        return sum(self.groups.values())

    def split(self, actions: np.ndarray) -> dict[str, np.ndarray]:
        """Named groups of an array (..., D)."""
        ends = np.cumsum(list(self.groups.values()))[:-1]
        return dict(zip(self.groups, np.split(np.asarray(actions), ends, axis=-1)))

    def join(self, groups: Mapping[str, np.ndarray]) -> np.ndarray:
        """The array (..., D) of named groups, each (..., size). Raises ValueError on other names."""
        if set(groups) != set(self.groups):
            raise ValueError(f"action groups are {sorted(groups)}, the suite takes {sorted(self.groups)}")
        return np.concatenate([np.asarray(groups[name]) for name in self.groups], axis=-1)

    def check(self, chunk: np.ndarray) -> None:
        """Raise ValueError unless `chunk` is a finite real (T, D) array with T >= 1."""
        if chunk.dtype.kind not in "fiu":
            raise ValueError(f"action chunk has dtype {chunk.dtype}, expected real numbers")
        if chunk.ndim != 2 or chunk.shape[0] == 0 or chunk.shape[1] != self.size:
            raise ValueError(f"action chunk has shape {chunk.shape}, expected (T, {self.size}) with T >= 1")
        if not np.isfinite(chunk).all():
            raise ValueError("action chunk contains NaN or infinity")


@dataclass(frozen=True)
class PolicySpec:
    """What a policy needs and gives.

    views, state: names of the camera views and state groups it reads.
    action_meaning: must equal the suite's `ActionSpec.meaning`; None: made for whatever suite it is given.
    chunk_length, executed_steps: actions returned by one query, and how many of them are executed.
    privileged: reads the simulator itself (`Observation.simulator`); scripted baselines only.
    suites: suites it is made for; empty means every suite.
    stateful: keeps something between the queries of an episode, so that an attempt ends with its process.
    """

    name: str
    views: tuple[str, ...] = ()
    state: tuple[str, ...] = ()
    action_meaning: str | None = None
    chunk_length: int = 1
    executed_steps: int = 1
    privileged: bool = False
    suites: tuple[str, ...] = ()
    stateful: bool = False


def check_policy_fits(policy: PolicySpec, suite) -> None:
    """Raise InputError, naming every mismatch, unless `policy` can run on `suite` (an `evalkit.suite.Suite`)."""
    problems = []
    if policy.suites and suite.name not in policy.suites:
        problems.append(f"it is made for {', '.join(policy.suites)}")
    for kind, needed, offered in (("view", policy.views, suite.views), ("state group", policy.state, suite.state)):
        problems += [f"it needs {kind} {name!r}; the suite has {', '.join(offered)}"
                     for name in needed if name not in offered]
    if policy.action_meaning not in (None, suite.action.meaning):
        problems.append(f"its actions are {policy.action_meaning!r}; the suite takes {suite.action.meaning!r}")
    if not 1 <= policy.executed_steps <= policy.chunk_length:
        problems.append(f"it executes {policy.executed_steps} steps of chunks of {policy.chunk_length}; "
                        f"allowed: 1 to {policy.chunk_length}")
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise InputError(f"policy {policy.name!r} does not match suite {suite.name!r}:\n{listed}\n"
                         "See `evalkit list policies` and `evalkit list suites`.")
