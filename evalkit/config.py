"""RunConfig: what the user asked for, validated before anything starts."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from evalkit.errors import InputError, shown, unknown
from evalkit.parsing import ParseError, parse_yaml, read_text
from evalkit.redaction import redacted_options
from evalkit.registry import expand_suites, load_suite
from evalkit.texts import plain

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

#: Least and most of each number; NaN is between none.
RANGES = {
    "workers": (1, 10_000, "at least 1 is needed (default: chosen by evalkit)"),
    "policy_replicas": (1, 10_000, "at least 1 is needed (default: chosen by evalkit)"),
    "policy_batch": (1, 10_000, "at least 1 is needed (default: chosen by evalkit)"),
    "policy_gpus": (0, 1_000, "allowed: 0 or more"), "policy_wait": (0, 3_600, "allowed: 0 or more seconds"),
    "max_errors": (0, 10**9, "allowed: 0 or more"), "retries": (0, 1_000, "allowed: 0 or more"),
    "timeout": (1e-6, 1e8, "allowed: positive seconds"), "policy_timeout": (1e-6, 1e8, "allowed: positive seconds"),
    "stall": (1e-6, 1e8, "allowed: positive seconds"), "worker_episodes": (0, 10**9, "allowed: 0 or more"),
    "worker_memory": (1e-6, 1e6, "allowed: positive GiB"),
    "seed": (0, 2**32 - 1, f"allowed: 0 to {2**32 - 1} (numpy's range)"),
}

#: Tasks that a range may name; beyond every suite's, and few enough to count.
MOST_TASKS = 10_000

#: Bytes of the longest name of a file or folder on Linux.
LONGEST_NAME = 255


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
        """The part that decides what is measured, as JSON types; secrets among the policy's options are left out."""
        values = {**asdict(self), "policy_options": redacted_options(self.policy_options)}
        return json.loads(json.dumps({key: values[key] for key in DECISIVE}))

    def digest(self) -> str:
        """Eight hex digits that differ when the decisive part differs."""
        return hashlib.sha256(json.dumps(self.decisive(), sort_keys=True).encode()).hexdigest()[:8]

    def default_folder(self) -> Path:
        """``results/runs/<suites>-<policy>-<digest>``: the same command finds its run again."""
        names = "+".join(self.suites) if len(self.suites) < 3 else f"{self.suites[0].split('_')[0]}x{len(self.suites)}"
        policy = re.sub(r"[^\w.:+-]", "-", self.policy.rpartition("/")[2], flags=re.ASCII)  # of a path the file alone
        return Path("results/runs") / f"{names}-{policy[-100:]}-{self.digest()}"


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
    check_types(values)
    suites = tuple(expand_suites(names_of(values["suites"])))
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
        loaded = parse_yaml(read_text(path))
    except OSError as error:
        raise InputError(f"cannot read the config file {path}: {error.strerror}") from error
    except (ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise InputError(f"{path} must hold `key: value` lines, got {type(loaded).__name__}")
    if "suite" in loaded:
        loaded["suites"] = loaded.pop("suite")
    return loaded


def check_types(values: Mapping[str, Any]) -> None:
    """Raise InputError for a value that its key cannot have, whatever the suite."""
    for key, (kind, words) in TYPES.items():
        value = values.get(key)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise InputError(f"{key} is {shown(value)}; it must be {words}")
        if isinstance(value, str):
            _check_text(key, value)
    _check_json("policy_options", values.get("policy_options"))
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(values.get("out") or "").parts):
        raise InputError(f"out is {shown(values['out'])}; a folder's name has {LONGEST_NAME} bytes at most")


def _check_text(key: str, text: str) -> None:
    if text != plain(text):
        raise InputError(f"{key} is {shown(text)}; it must be one line of UTF-8 text without control characters")


def _check_json(key: str, value: Any) -> None:
    """Raise InputError unless run.json can hold `value`, and compare it when the run is continued."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if not isinstance(name, str):
                raise InputError(f"{key} has the key {shown(name)}; keys must be text")
            _check_json(f"{key}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_json(key, item)
    elif not (value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))):
        raise InputError(f"{key} is {shown(value)}; it must be text, a finite number, true, false, null, or a list or "
                         "mapping of them")


def names_of(value: Any) -> list[str]:
    """The parts of comma-separated text or of a list; anything else is one part."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    return [str(part).strip() for part in parts]


def _tasks(value: Any, suites: tuple[str, ...]) -> tuple[int, ...] | None:
    if value is None:
        return None
    named = {name: task.index for task in load_suite(suites[0]).tasks for name in (task.name, task.short) if name}
    indices: list[int] = []
    for part in names_of(value):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        if match is not None:
            first, last = int(match[1]), int(match[2] or match[1])
            indices += range(first, min(last, first + MOST_TASKS) + 1)
        elif len(suites) == 1 and part in named:
            indices.append(named[part])
        elif len(suites) == 1 and re.match("[A-Za-z]", part):
            raise unknown(f"task of {suites[0]}", part, named)
        else:
            raise InputError(f"tasks are indices such as 0,3 or 0-4, or names of one suite's tasks; got {shown(part)} "
                             "(see `evalkit list tasks`)")
    for name in suites:
        count = len(load_suite(name).tasks)
        wrong = [index for index in indices if index >= count]
        if wrong or not indices:
            more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
            listed = ", ".join(map(str, wrong[:8])) or shown(value)
            raise InputError(f"unknown task {listed}{more}: {name} has tasks 0 to {count - 1} (see `evalkit list tasks "
                             f"--suite {name}`)")
    return tuple(sorted(set(indices)))


def _episodes(value: Any, suites: tuple[str, ...]) -> tuple[int, int]:
    limit = min(load_suite(name).episodes_per_task for name in suites)
    if value is None:
        return 0, limit
    match = re.fullmatch(r"(?:(\d{1,9}):)?(\d{1,9})", ":".join(map(str, value)) if isinstance(value, (list, tuple))
                         else str(value).strip())
    if match is None:
        raise InputError(f"episodes are a number N or a range A:B; got {shown(value)}")
    first, end = int(match[1] or 0), int(match[2])
    if not 0 <= first < end <= limit:
        raise InputError(f"episodes {shown(value)} is not possible: a task has {limit} episodes, so N is 1 to {limit} "
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
    cameras = tuple(names_of(value))
    for name in suites:
        allowed = [*load_suite(name).views, *load_suite(name).video_views]
        for camera in cameras:
            if camera not in allowed:
                raise unknown(f"--video-camera of {name}", camera, allowed)
    return cameras


def _video(value: Any) -> str:
    text = str(value)
    if text not in VIDEO_CHOICES and not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise unknown("--video choice", text, [*VIDEO_CHOICES, "a number of episodes a task"])
    return text


def _check_numbers(config: RunConfig) -> None:
    for key, (least, most, words) in RANGES.items():
        value = getattr(config, key)
        if value is not None and not least <= value <= most:
            beyond = f", {most:g} at most" if value > most and key != "seed" else ""
            raise InputError(f"{key} is {shown(value)}; {words}{beyond}")
    if config.seed_policy == "reference" and config.seed != 7:
        raise InputError(f"seed policy 'reference' is the paper's script with seed 7, got seed {config.seed}. "
                         "Use --seed-policy per_episode for another base seed.")
