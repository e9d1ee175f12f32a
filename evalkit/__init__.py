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
    from pathlib import Path

    import pandas as pd

__all__ = ["ActionSpec", "Env", "EnvOptions", "Episode", "Observation", "Policy", "PolicySpec", "Record", "Run",
           "RunConfig", "Suite", "Task", "load", "make_config"]


def load(run: Run | Path | str) -> pd.DataFrame:
    """A run as a DataFrame, one row a planned episode; see `evalkit.frames.load`."""
    from evalkit import frames  # pandas takes a second to import

    return frames.load(run)
