"""evalkit: tell the truth, fast, about how good a robot policy is in simulation.

`import evalkit` loads no simulator and no torch. What people outside use is named here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalkit.config import RunConfig, make_config
from evalkit.episode import Episode
from evalkit.policy import Policy
from evalkit.records import Record, Run
from evalkit.specs import ActionSpec, PolicySpec
from evalkit.suite import Env, EnvOptions, Observation, Suite, Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    import numpy as np
    import pandas as pd

__all__ = ["ActionSpec", "Env", "EnvOptions", "Episode", "Observation", "Policy", "PolicySpec", "Record", "Run",
           "RunConfig", "Suite", "Task", "evaluate", "load", "make_config"]


def load(run: Run | Path | str) -> pd.DataFrame:
    """A run as a DataFrame, one row a planned episode; see `evalkit.frames.load`."""
    from evalkit import frames  # pandas takes a second to import

    return frames.load(run)


def evaluate(policy: Policy | Callable[[Observation], np.ndarray] | str, suite: str, *, name: str | None = None,
             **settings: Any) -> Run:
    """Evaluate `policy` on `suite` and return the Run, as `evalkit run` does.

    policy: an object, which stays in this process and on its GPU, is called in this thread with the observations of
    all simulator workers in batches, and is not loaded again; a function ``observation -> chunk``; or a name as for
    ``--policy``. name: what the run and its tables call it. settings: keys of `RunConfig` (tasks, episodes, seed,
    workers, out, policy_batch ...). Without `out` an object's run gets a folder of its own, since its weights may have
    changed since the last. Raises InputError.
    """
    from evalkit import evaluation  # ray and pandas take a second to import

    return evaluation.evaluate(policy, suite, name, settings)
