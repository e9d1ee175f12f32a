"""evalkit: tell the truth, fast, about how good a robot policy is in simulation.

`import evalkit` loads no simulator and no torch. What people outside use is named here.
"""

from evalkit.config import RunConfig, make_config
from evalkit.episode import Episode
from evalkit.policy import Policy
from evalkit.records import Record, Run
from evalkit.specs import ActionSpec, PolicySpec
from evalkit.suite import Env, EnvOptions, Observation, Suite, Task

__all__ = ["ActionSpec", "Env", "EnvOptions", "Episode", "Observation", "Policy", "PolicySpec", "Record", "Run",
           "RunConfig", "Suite", "Task", "make_config"]
