"""The suite side of the contract: Task, Suite, Observation and the Env that a suite's folder implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.episode import Episode, stable_seed
from evalkit.specs import ActionSpec


@dataclass(frozen=True)
class Task:
    """One row of a table. Tasks are keyed by suite and index, never by language: instructions repeat.

    instruction: may change with the episode; then this is its pattern. group: family of tasks (GR1: Drawer ...).
    short: the name that the paper's table prints, where it differs.
    """

    index: int
    name: str
    instruction: str
    group: str = ""
    short: str = ""

    @property
    def label(self) -> str:
        """The name in a table."""
        return self.short or self.name


@dataclass(frozen=True)
class ProcessNeeds:
    """What a rollout worker of a suite needs.

    memory_gb: resident memory of a rendering worker at its largest, in GiB; workers are admitted by it.
    resets: episodes after which the worker is replaced, for simulators that grow (0: never). most_gb: memory above
    which it is replaced between two episodes (0: one and a half times `memory_gb`).
    one_task: whether a process may build one task only.
    """

    memory_gb: float = 1.0
    resets: int = 0
    one_task: bool = False
    most_gb: float = 0.0


@dataclass(frozen=True)
class Suite:
    """A named set of tasks with its protocol, as data. Needs no simulator to import.

    views: name -> (height, width, 3), RGB uint8. state: name -> size, float, SI units and radians.
    max_steps: policy steps an episode may take; wait_steps: steps before the first observation, not counted.
    success_rule: ``any_step`` (ends at the first success) or ``chunk_end`` (at the first successful chunk end).
    seed_policies: named rules that decide a scene from the episode; the first is the default.
    interpreter: name of the environment it runs in; requirements: its pins ("" : the driver's own interpreter).
    video_views: further views for videos only, like `views`.
    scenes: where scenes come from -> what a worker needs then; the first is the default.
    env: ``module:Class`` of the Env; assets: ``module:function``, see `evalkit.assets` ("" : needs none).
    preflight: ``module:function`` of the checks that `evalkit doctor` runs in its interpreter, see
    `evalkit.doctor.preflight`.
    hold_action: the action that holds still; empty where actions are absolute targets of the state's groups.
    version: raised whenever evalkit's wrapper changes a result.
    """

    name: str
    tasks: tuple[Task, ...]
    episodes_per_task: int
    max_steps: int
    wait_steps: int
    control_hz: float
    success_rule: str
    views: Mapping[str, tuple[int, int, int]]
    state: Mapping[str, int]
    action: ActionSpec
    env: str
    video_views: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    scenes: Mapping[str, ProcessNeeds] = field(default_factory=lambda: {"upstream": ProcessNeeds()})
    seed_policies: tuple[str, ...] = ("per_episode",)
    interpreter: str = ""
    requirements: Path | None = None
    assets: str = ""
    preflight: str = ""
    hold_action: tuple[float, ...] = ()
    version: int = 1

    @property
    def all_views(self) -> dict[str, tuple[int, int, int]]:
        """Views for policies and for videos."""
        return {**self.views, **self.video_views}

    def hold(self, observation: Observation) -> np.ndarray:
        """The action (D,) float32 that holds still: `hold_action`, or the present state where there is none (absolute
        targets of the groups that the state shows)."""
        if self.hold_action:
            return np.array(self.hold_action, dtype=np.float32)
        return self.action.join({group: observation.state[group] for group in self.action.groups}).astype(np.float32)

    def protocol(self) -> dict[str, Any]:
        """The numbers and rules that decide a result, for the fingerprint."""
        return {
            "suite_version": self.version, "max_steps": self.max_steps, "wait_steps": self.wait_steps,
            "control_hz": self.control_hz, "success_rule": self.success_rule,
            "views": {name: list(shape) for name, shape in self.views.items()},
            "state": dict(self.state), "action": self.action.meaning,
        }


@dataclass(frozen=True)
class EnvOptions:
    """How a worker builds its Envs; the same for a whole run.

    views: camera views that will be looked at by the policy or a video; others are never rendered.
    seed_policy, scenes: one of the suite's. assets: folder of the suite's assets on this machine, or None.
    """

    views: tuple[str, ...] = ()
    seed_policy: str = "per_episode"
    scenes: str = "upstream"
    assets: Path | None = None


@dataclass(frozen=True)
class Observation:
    """What a policy may see at one control step.

    views: name -> RGB uint8 (H, W, 3) as the suite's camera gives it; empty if the step was not looked at.
    state: name -> float64 array, raw units. step: policy steps taken so far in the episode.
    simulator: the suite's own simulator handle, only for a policy whose spec is privileged.
    seed: seed of this query's randomness; None: it follows from episode and step.
    """

    views: Mapping[str, np.ndarray]
    state: Mapping[str, np.ndarray]
    instruction: str
    episode: Episode
    step: int
    simulator: Any = None
    seed: int | None = None

    @property
    def query_seed(self) -> int:
        """63-bit seed of whatever is random in the answer to this observation; what a request carries over a wire."""
        return stable_seed(self.episode.id, self.episode.seed, "query", self.step) if self.seed is None else self.seed

    def generator(self, purpose: str) -> np.random.Generator:
        """A random generator that depends on `query_seed` and `purpose` alone."""
        return np.random.default_rng(stable_seed(self.query_seed, purpose))


class Env(ABC):
    """One task of a suite in one simulator. Built once a task, reset once an episode, used by one worker.

    An implementation's episodes depend on the Episode alone: not on what ran before, nor on what was looked at.
    """

    #: Seconds spent rendering since construction; the rollout subtracts it from the time of a step.
    render_seconds: float = 0.0

    @classmethod
    def start_process(cls, options: EnvOptions) -> None:
        """Called once in a worker before any Env: environment variables, GL backend. Does nothing by default."""
        return None

    @classmethod
    def describe(cls, options: EnvOptions) -> dict[str, str]:
        """Versions of simulator and renderer in this process, for fingerprint and run.json."""
        return {}

    def __init__(self, suite: Suite, task: int, options: EnvOptions):
        self.suite, self.task, self.options = suite, suite.tasks[task], options

    @abstractmethod
    def reset(self, episode: Episode) -> None:
        """Start `episode`, wait steps included; the step count is 0 and the first observation is looked at."""

    @abstractmethod
    def step(self, action: np.ndarray, look: bool) -> bool:
        """Advance one control step with action (D,); return whether the task's success predicate holds after it.

        `look` says beforehand that this step's views will be observed. Physics is bit-identical either way.
        """

    @abstractmethod
    def observe(self) -> Observation:
        """The Observation of the last step or reset; its views are empty if that step was not looked at."""

    @abstractmethod
    def state_sha(self) -> str:
        """Hash of simulator state and of everything a reset may move (fixture poses)."""

    @property
    def simulator(self) -> Any:
        """Handle for privileged policies."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Release the simulator; the Env is not used afterwards."""
