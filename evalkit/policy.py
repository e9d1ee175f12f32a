"""The policy side of the contract: observations in, action chunks out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from evalkit.episode import Episode
from evalkit.specs import PolicySpec
from evalkit.suite import Observation, Suite

#: `Policy.interpreter` of policies that act in a process of the driver's own Python.
DRIVER = "driver"


class PolicyAway(RuntimeError):
    """Whoever answers for the policy has gone away, and the state of its episodes with it. The episode begins anew."""


class PolicyGone(RuntimeError):
    """Whoever answers for the policy did not come back. The run ends, and can be continued."""


class Policy(ABC):
    """Maps observations to action chunks, batched over episodes.

    The constructor is light (no weights, no torch): the driver builds one to read `spec` and compare it with the
    suite before anything starts. `load` is called once in the process that acts.
    Whatever is random comes from `observation.generator(...)`, so that a batch, a worker or a retry does not change
    an action.

    interpreter: where it acts. "": inside each rollout worker, beside the simulator (light policies). `DRIVER`: in
    processes of the driver's own Python. Else the name of an environment of its own, built from `requirements`.
    Policies that do not act in the workers get the observations of all workers in batches.
    """

    interpreter: ClassVar[str] = ""
    requirements: ClassVar[Path | None] = None

    #: Seconds that `load` or one `act` may wait for somebody else, such as a server, before the process that it acts
    #: in counts as stuck.
    patience: float = 0.0

    spec: PolicySpec

    #: ``with self.stage("vision"):`` names a part of `act`; `evalkit latency` puts a clock here.
    stage: Callable[[str], AbstractContextManager[Any]] = staticmethod(lambda name: nullcontext())

    def load(self) -> None:
        """Load weights or data. Called once, before the first `reset`. Raises InputError for what the user can mend:
        a missing file, a key too many or too few in a checkpoint."""
        return None

    def describe(self) -> dict[str, Any]:
        """What was loaded, as JSON types, for run.json, a server's metadata and `evalkit latency`: ``checkpoint`` (path
        and sha256), ``parameters`` (count), ``device``, ``dtype``, ``note`` (what every table must say of it)."""
        return {}

    def synchronize(self) -> None:
        """Wait until the device has done what was asked of it; the clock of `evalkit latency` calls it."""
        return None

    def check_plan(self, episodes: Sequence[Episode]) -> None:
        """Raise InputError if these episodes cannot be run; called in the driver before anything starts."""
        return None

    def reset(self, episode: Episode) -> None:
        """`episode` begins: forget whatever was kept under its id."""
        return None

    @abstractmethod
    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        """One chunk for each observation: (T, D) float, un-normalised, in the suite's declared meaning.

        Each observation has an instruction, an episode and a step of its own; a chunk depends on its observation
        alone, whatever batch it travelled in.
        """


class FunctionPolicy(Policy):
    """A plain function ``observation -> action (D,) or chunk (T, D)``, asked for one observation at a time.

    It sees every view and state group of the suite. executed_steps: of each chunk; the function must return so many.
    """

    def __init__(self, function: Callable[[Observation], np.ndarray], suite: Suite, executed_steps: int = 1):
        self.spec = PolicySpec(getattr(function, "__name__", "function"), views=tuple(suite.views),
                               state=tuple(suite.state), chunk_length=executed_steps, executed_steps=executed_steps)
        self._function = function

    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        return [np.atleast_2d(self._function(observation)) for observation in observations]
