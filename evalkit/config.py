"""RunConfig: what the user asked for, validated before anything starts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from evalkit.errors import InputError, unknown
from evalkit.registry import expand_suites, load_suite

#: Keys that decide what is measured. Two runs that differ in one of them never share a folder.
DECISIVE = ("suites", "policy", "policy_options", "tasks", "episodes", "seed_policy", "seed", "assets",
            "scenes", "full_horizon")

VIDEO_CHOICES = ("none", "failures", "all")

#: What a YAML file must hold for the keys that are taken as they are; the others are parsed.
TYPES = {
    "policy": (str, "text"), "policy_options": (Mapping, "`key: value` pairs"), "seed": (int, "a whole number"),
    "assets": (str, "text"), "scenes": (str, "text"), "full_horizon": (bool, "true or false"),
    "record_actions": (bool, "true or false"), "workers": (int, "a whole number"),
    "policy_replicas": (int, "a whole number"), "policy_gpus": ((int, float), "a number"),
    "policy_batch": (int, "a whole number"), "policy_wait": ((int, float), "seconds"),
    "policy_timeout": ((int, float), "seconds"), "max_errors": (int, "a whole number"),
    "ray_address": (str, "text"), "retries": (int, "a whole number"), "timeout": ((int, float), "a number"),
    "stall": ((int, float), "seconds"), "worker_episodes": (int, "a whole number"),
    "worker_memory": ((int, float), "GiB"), "out": (str, "text"),
}


@dataclass(frozen=True)
class RunConfig:
    """One evaluation. Field names are the command line's flags and the keys of a ``--config`` file.

    suites: names or groups. tasks: indices, None for all. episodes: (first, end) of each task's episodes.
    seed: the base seed; 7 in the paper's script. assets: real, stand-in, auto or a folder. scenes: upstream, builtin
    or auto, as far as the suites have them. full_horizon: no episode ends before its last step.
    video: none, failures, all, or a number of episodes a task. video_camera: views in a video, None for the suite's.
    workers: simulator processes; None: one a core, and more while cores wait for a policy that acts elsewhere.
    timeout: seconds for one episode. stall: seconds in which a worker must get on (build, reset, ask, step) before it
    counts as stuck and is replaced; waiting for a policy's server or replica has limits of its own.
    worker_episodes, worker_memory: episodes, and GiB, after which a worker is replaced; None: as its suite needs.
    retries: further attempts after an exception, a dead worker or a timeout. max_errors: episodes in a row that may
    end in errors before the run stops (0: no limit).
    For policies that act in processes of their own: policy_replicas (None: one a GPU, else one), policy_gpus of each
    (None: 1 if there are any), policy_batch and policy_wait (observations in a batch, seconds to wait for more; None:
    measured when the policy has been loaded), policy_timeout (seconds after which a replica that keeps a batch is
    killed).
    """

    suites: tuple[str, ...]
    policy: str
    policy_options: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[int, ...] | None = None
    episodes: tuple[int, int] | None = None
    seed_policy: str | None = None
    seed: int = 7
    assets: str = "real"
    scenes: str = "upstream"
    full_horizon: bool = False
    video: str = "none"
    video_camera: tuple[str, ...] | None = None
    record_actions: bool = False
    workers: int | None = None
    policy_replicas: int | None = None
    policy_gpus: float | None = None
    policy_batch: int | None = None
    policy_wait: float | None = None
    policy_timeout: float = 600.0
    max_errors: int = 10
    ray_address: str | None = None
    retries: int = 2
    timeout: float = 1800.0
    stall: float = 300.0
    worker_episodes: int | None = None
    worker_memory: float | None = None
    out: str | None = None

    def decisive(self) -> dict[str, Any]:
        """The part that decides what is measured, as JSON types."""
        return json.loads(json.dumps({key: asdict(self)[key] for key in DECISIVE}))

    def digest(self) -> str:
        """Eight hex digits that differ when the decisive part differs."""
        return hashlib.sha256(json.dumps(self.decisive(), sort_keys=True).encode()).hexdigest()[:8]

    def default_folder(self) -> Path:
        """``results/runs/<suites>-<policy>-<digest>``: the same command finds its run again."""
        names = "+".join(self.suites) if len(self.suites) < 3 else f"{self.suites[0].split('_')[0]}x{len(self.suites)}"
        return Path("results/runs") / f"{names}-{self.policy}-{self.digest()}"


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """A checked RunConfig from flags or YAML values (strings are parsed). Raises InputError."""
    names = [item.name for item in fields(RunConfig)]
    for key in values:
        if key not in names:
            raise unknown("configuration key", key, names)
    values = {key: value for key, value in values.items() if value is not None}
    for required in ("suites", "policy"):
        if not values.get(required):
            raise InputError(f"no {required.removesuffix('s')} given: pass --{required.removesuffix('s')} NAME "
                             f"(see `evalkit list {'suites' if required == 'suites' else 'policies'}`)")
    _check_types(values)
    suites = tuple(expand_suites(_names(values["suites"])))
    chosen = {
        **values, "suites": suites,
        "tasks": _tasks(values.get("tasks"), suites),
        "episodes": _episodes(values.get("episodes"), suites),
        "seed_policy": _seed_policy(values.get("seed_policy"), suites),
        "scenes": _scenes(values.get("scenes", "upstream"), suites),
        "video": _video(values.get("video", "none")),
        "video_camera": _video_camera(values.get("video_camera"), suites),
    }
    config = RunConfig(**chosen)
    _check_numbers(config)
    return config


def load_yaml(path: Path) -> dict[str, Any]:
    """The keys of a ``--config`` file. Raises InputError when it is missing or not a mapping."""
    try:
        loaded = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read the config file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise InputError(f"{path} must hold `key: value` lines, got {type(loaded).__name__}")
    if "suite" in loaded:
        loaded["suites"] = loaded.pop("suite")
    return loaded


def _check_types(values: Mapping[str, Any]) -> None:
    for key, (kind, words) in TYPES.items():
        value = values.get(key)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise InputError(f"{key} is {value!r}; it must be {words}")


def _names(value: Any) -> list[str]:
    """The parts of comma-separated text or of a list; anything else is one part."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    return [str(part).strip() for part in parts]


def _tasks(value: Any, suites: tuple[str, ...]) -> tuple[int, ...] | None:
    if value is None:
        return None
    named = {name: task.index for task in load_suite(suites[0]).tasks for name in (task.name, task.short) if name}
    indices: list[int] = []
    for part in _names(value):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is not None:
            indices += range(int(match[1]), int(match[2] or match[1]) + 1)
        elif len(suites) == 1 and part in named:
            indices.append(named[part])
        elif len(suites) == 1 and re.match("[A-Za-z]", part):
            raise unknown(f"task of {suites[0]}", part, named)
        else:
            raise InputError(f"tasks are indices such as 0,3 or 0-4, or names of one suite's tasks; got {part!r} "
                             "(see `evalkit list tasks`)")
    for name in suites:
        count = len(load_suite(name).tasks)
        wrong = [index for index in indices if index >= count]
        if wrong or not indices:
            raise InputError(f"unknown task {', '.join(map(str, wrong)) or repr(value)}: {name} has tasks 0 to "
                             f"{count - 1} (see `evalkit list tasks --suite {name}`)")
    return tuple(sorted(set(indices)))


def _episodes(value: Any, suites: tuple[str, ...]) -> tuple[int, int]:
    limit = min(load_suite(name).episodes_per_task for name in suites)
    if value is None:
        return 0, limit
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", ":".join(map(str, value)) if isinstance(value, (list, tuple))
                         else str(value).strip())
    if match is None:
        raise InputError(f"episodes are a number N or a range A:B; got {value!r}")
    first, end = int(match[1] or 0), int(match[2])
    if not 0 <= first < end <= limit:
        raise InputError(f"episodes {value!r} is not possible: a task has {limit} episodes, so N is 1 to {limit} "
                         f"and A:B needs 0 <= A < B <= {limit}")
    return first, end


def _seed_policy(value: str | None, suites: tuple[str, ...]) -> str:
    """`value` if every suite has it; without one the first suite's default, or else the first that all have."""
    allowed = [policy for policy in load_suite(suites[0]).seed_policies
               if all(policy in load_suite(name).seed_policies for name in suites)]
    if value is not None and value not in allowed:
        raise unknown(f"seed policy for {', '.join(suites)}", value, allowed)
    if not allowed:
        raise InputError(f"{', '.join(suites)} have no seed policy in common; run them one by one")
    return value or allowed[0]


def _scenes(value: str, suites: tuple[str, ...]) -> str:
    """`value` if every suite has it; `auto` is decided when the assets are looked for."""
    for name in suites:
        allowed = [*load_suite(name).scenes, "auto"]
        if value not in allowed:
            raise unknown(f"--scenes choice for {name}", value, allowed)
    return value


def _video_camera(value: Any, suites: tuple[str, ...]) -> tuple[str, ...] | None:
    if value is None:
        return None
    cameras = tuple(_names(value))
    for name in suites:
        allowed = [*load_suite(name).views, *load_suite(name).video_views]
        for camera in cameras:
            if camera not in allowed:
                raise unknown(f"--video-camera of {name}", camera, allowed)
    return cameras


def _video(value: Any) -> str:
    text = str(value)
    if text not in VIDEO_CHOICES and not re.fullmatch(r"[1-9]\d*", text):
        raise unknown("--video choice", text, [*VIDEO_CHOICES, "a number of episodes a task"])
    return text


def _check_numbers(config: RunConfig) -> None:
    for key in ("workers", "policy_replicas", "policy_batch"):
        if getattr(config, key) is not None and getattr(config, key) < 1:
            raise InputError(f"{key} is {getattr(config, key)}; at least 1 is needed (default: chosen by evalkit)")
    for key in ("policy_gpus", "policy_wait", "max_errors", "worker_episodes"):
        if getattr(config, key) is not None and getattr(config, key) < 0:
            raise InputError(f"{key} is {getattr(config, key)}; allowed: 0 or more")
    if config.retries < 0:
        raise InputError(f"retries is {config.retries}; allowed: 0 or more")
    for key in ("timeout", "policy_timeout", "stall"):
        if getattr(config, key) <= 0:
            raise InputError(f"{key} is {getattr(config, key)} seconds; it must be positive")
    if config.worker_memory is not None and config.worker_memory <= 0:
        raise InputError(f"worker_memory is {config.worker_memory} GiB; it must be positive")
    if not 0 <= config.seed < 2**32:
        raise InputError(f"seed is {config.seed}; allowed: 0 to {2**32 - 1} (numpy's range)")
    if config.seed_policy == "reference" and config.seed != 7:
        raise InputError(f"seed policy 'reference' is the paper's script with seed 7, got seed {config.seed}. "
                         "Use --seed-policy per_episode for another base seed.")
