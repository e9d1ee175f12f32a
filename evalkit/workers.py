"""The engine: rollout workers as Ray actors, fed from a queue of episodes. The only file that imports ray."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.environments import PROCESS_VARIABLES
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.observers import ActionRecorder, Observer, VideoRecorder
from evalkit.paths import PROJECT
from evalkit.plan import group_by_task, planned_steps
from evalkit.policy import Policy
from evalkit.records import ERROR, FAILURE, Record
from evalkit.registry import load_object, load_suite, make_policy
from evalkit.rollout import run_episode
from evalkit.suite import Env, EnvOptions, ProcessNeeds

#: Seconds that a new worker may take until it is ready: imports on a cold disk, a busy machine.
START_SECONDS = 600.0


@dataclass(frozen=True)
class Job:
    """What every worker of a run needs to know."""

    policy: str
    policy_options: Mapping[str, Any]
    env_options: EnvOptions
    video: str = "none"
    video_views: tuple[str, ...] | None = None
    first_index: int = 0
    record_actions: bool = False
    full_horizon: bool = False


@dataclass(frozen=True)
class Result:
    """One attempt at an episode. record: None if it raised, died or timed out; then `traceback` says what happened."""

    episode: Episode
    record: Record | None = None
    traceback: str | None = None
    video: bytes | None = None
    actions: np.ndarray | None = None
    attempt: int = 1


class Worker:
    """Rolls out episodes in one process: one simulator at a time, kept while episodes are of the same task."""

    def __init__(self, job: Job):
        self.job = job
        self._env: Env | None = None
        self._env_task: tuple[str, int] | None = None
        self._policies: dict[str, Policy] = {}

    def start(self, suite_names: list[str]) -> dict[str, dict[str, str]]:
        """Prepare the process; versions of simulator and renderer for each suite."""
        described = {}
        for name in suite_names:
            env_class = load_object(load_suite(name).env)
            env_class.start_process(self.job.env_options)
            described[name] = env_class.describe(self.job.env_options)
        return described

    def run(self, episode: Episode) -> Result:
        """Roll out one episode. An exception is returned as a traceback, and the simulator is thrown away."""
        try:
            return self._run(episode)
        except Exception:
            trace = traceback.format_exc()
            self._discard_env()
            return Result(episode, traceback=trace)

    def _run(self, episode: Episode) -> Result:
        env, policy = self._env_for(episode), self._policy_for(episode.suite)
        recorder = ActionRecorder() if self.job.record_actions else None
        video = VideoRecorder(env.suite.control_hz, self.job.video_views) if self._wants_video(episode) else None
        observers: list[Observer] = [observer for observer in (recorder, video) if observer is not None]
        record = run_episode(env, policy, episode, observers, self.job.full_horizon)
        keep = video is not None and (self.job.video != "failures" or record.outcome == FAILURE)
        return Result(episode, record, video=video.encode() if keep else None,
                      actions=recorder.array() if recorder else None)

    def _wants_video(self, episode: Episode) -> bool:
        choice = self.job.video
        return choice in ("all", "failures") or (choice.isdigit()
                                                 and episode.index - self.job.first_index < int(choice))

    def _policy_for(self, suite_name: str) -> Policy:
        if suite_name not in self._policies:
            policy = make_policy(self.job.policy, load_suite(suite_name), dict(self.job.policy_options))
            policy.load()
            self._policies[suite_name] = policy
        return self._policies[suite_name]

    def _env_for(self, episode: Episode) -> Env:
        if self._env_task != (episode.suite, episode.task):
            self._discard_env()
            suite = load_suite(episode.suite)
            self._env = load_object(suite.env)(suite, episode.task, self.job.env_options)
            self._env_task = (episode.suite, episode.task)
        return self._env

    def _discard_env(self) -> None:
        env, self._env, self._env_task = self._env, None, None
        if env is not None:
            env.close()


class EpisodeQueue:
    """Hands out episodes so that a worker keeps its task, long groups start first, and none idles at the end."""

    def __init__(self, episodes: Iterable[Episode]):
        self._groups = {(group[0].suite, group[0].task): deque(group) for group in group_by_task(episodes)}
        self._started: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def take(self, current: tuple[str, int] | None) -> Episode | None:
        """The next episode for a worker whose simulator holds task `current`; None when the queue is empty."""
        waiting = [key for key, group in self._groups.items() if group]
        if not waiting:
            return None
        fresh = [key for key in waiting if key not in self._started]
        if current in waiting:
            key = current
        elif fresh:
            key = fresh[0]
        else:
            key = max(waiting, key=lambda task: planned_steps(self._groups[task]))
        self._started.add(key)
        return self._groups[key].popleft()

    def put_back(self, episode: Episode) -> None:
        """Queue `episode` again, for another attempt."""
        self._groups[(episode.suite, episode.task)].append(episode)


@dataclass
class _Seat:
    """One place in the pool: its actor now, and what it is doing.

    starting: set until the actor is ready. resets: episodes that this actor has begun.
    """

    actor: Any = None
    starting: Any = None
    resets: int = 0
    task: tuple[str, int] | None = None
    episode: Episode | None = None
    since: float = 0.0


@dataclass
class WorkerPool:
    """At most `size` workers in interpreter `python`, fewer where memory does not admit them.

    Use as a context manager; `run` yields results as they finish. needs: what a worker of these suites takes.
    """

    job: Job
    suite_names: list[str]
    size: int
    python: Path | None = None
    needs: ProcessNeeds = field(default_factory=ProcessNeeds)
    address: str | None = None
    retries: int = 2
    timeout: float = 1800.0
    described: dict[str, dict[str, str]] = field(default_factory=dict)

    def __enter__(self) -> WorkerPool:
        import ray

        self._ray = ray
        terminate = signal.getsignal(signal.SIGTERM)
        start_ray(self.address, self.size)
        memory = int(self.needs.memory_gb * 2**30)
        self.size = self._admit(memory)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)  # ray.init replaces it by one that does not unwind as Ctrl-C does
        self._actor_class = ray.remote(Worker).options(
            num_cpus=1, memory=memory if self.size > 1 else None, max_restarts=0, max_task_retries=0,
            runtime_env=worker_runtime(self.python, self.size))
        try:
            self._seats = [_Seat() for _ in range(self.size)]
            self.described = self._start_first()
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._ray.shutdown()

    def _admit(self, memory: int) -> int:
        """How many workers of `memory` bytes fit, `size` at most and one at least (which then tries its luck)."""
        fits = sum(int(min(node["Resources"].get("CPU", 0), node["Resources"].get("memory", 0) // memory))
                   for node in self._ray.nodes() if node["Alive"])
        if fits < self.size:
            print(f"notice: memory admits {fits} of {self.size} workers ({self.needs.memory_gb:g} GiB each)"
                  f"{'; trying one' if fits < 1 else ''}", file=sys.stderr)
        return max(1, min(self.size, fits))

    def _fill(self, seat: _Seat) -> None:
        """Put a new worker on `seat`, in place of any that was there, and start it without waiting."""
        if seat.actor is not None:
            self._ray.kill(seat.actor, no_restart=True)
        seat.actor, seat.task, seat.resets = self._actor_class.remote(self.job), None, 0
        seat.starting = seat.actor.start.remote(self.suite_names)

    def _start_first(self) -> dict[str, dict[str, str]]:
        """Start every worker; wait for the first, so that a worker that cannot start is known before any episode."""
        for seat in self._seats:
            self._fill(seat)
        try:
            return self._ray.get(self._seats[0].starting)
        except self._ray.exceptions.RayError as error:
            raise InputError(f"a rollout worker could not start:\n{_last_lines(str(error))}") from error

    def run(self, episodes: Iterable[Episode]) -> Iterator[Result]:
        """Roll out `episodes`; each is yielded once: measured, or as an error after its last attempt."""
        queue, attempts = EpisodeQueue(episodes), {}
        running: dict[Any, _Seat] = {}
        for seat in self._seats:
            self._give_work(seat, queue, running)
        while running:
            done, _ = self._ray.wait(list(running), num_returns=1, timeout=1.0)
            for reference in [*done, *self._overdue(running, done)]:
                seat = running.pop(reference)
                result = self._collect(reference, seat, finished=reference in done)
                attempt = attempts[result.episode] = attempts.get(result.episode, 0) + 1
                if result.record is None and attempt <= self.retries:
                    queue.put_back(result.episode)
                else:
                    yield _finished(result, attempt)
                for idle in self._seats:
                    if idle.episode is None:
                        self._give_work(idle, queue, running)

    def _give_work(self, seat: _Seat, queue: EpisodeQueue, running: dict[Any, _Seat]) -> None:
        seat.episode = queue.take(seat.task)
        if seat.episode is None:
            return
        task = (seat.episode.suite, seat.episode.task)
        if self._worn(seat, task):
            self._fill(seat)
        seat.task, seat.since, seat.resets = task, time.monotonic(), seat.resets + 1
        running[seat.actor.run.remote(seat.episode)] = seat

    def _worn(self, seat: _Seat, task: tuple[str, int]) -> bool:
        """Whether an episode of `task` needs a new process in `seat`: the simulator grows, or holds another task."""
        full = 0 < self.needs.resets <= seat.resets
        return full or (self.needs.one_task and seat.task not in (None, task))

    def _overdue(self, running: Mapping[Any, _Seat], done: list[Any]) -> list[Any]:
        """Episodes that have run too long; a worker's own start is not counted as its episode's time."""
        now = time.monotonic()
        for seat in running.values():
            if seat.starting is not None and self._ray.wait([seat.starting], timeout=0)[0]:
                seat.starting, seat.since = None, now
        return [reference for reference, seat in running.items() if reference not in done
                and now - seat.since > (self.timeout if seat.starting is None else START_SECONDS)]

    def _collect(self, reference: Any, seat: _Seat, finished: bool) -> Result:
        """The result behind `reference`; a dead or overdue worker costs this attempt only and is replaced."""
        episode, seat.episode = seat.episode, None
        if not finished:
            limit = f"{self.timeout:g} s" if seat.starting is None else f"{START_SECONDS:g} s after its worker started"
            problem = f"timeout: no result within {limit}; the worker was killed"
        else:
            try:
                return self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                problem = f"the worker died: {_last_lines(str(error))}"
        self._fill(seat)
        return Result(episode, traceback=problem)


def _finished(result: Result, attempt: int) -> Result:
    """`result` with a record in any case; an error's holds the traceback."""
    episode = result.episode
    record = result.record or Record(id=episode.id, suite=episode.suite, task=episode.task, index=episode.index,
                                     seed=episode.seed, outcome=ERROR, traceback=result.traceback)
    return replace(result, record=replace(record, attempt=attempt), attempt=attempt)


def start_ray(address: str | None, size: int) -> None:
    """Connect to a cluster, or start one on this machine with room for `size` workers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave the GPU visible to EGL
    import ray

    common = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address is None:  # "local": without it ray would join whatever cluster RAY_ADDRESS or a `ray start` names
        _init_local(num_cpus=size, include_dashboard=False, object_store_memory=256 * 2**20, **common)
        return
    try:
        _check_listening(address)
        ray.init(address=address, **common)
    except (OSError, ValueError, RuntimeError) as error:  # ConnectionError is an OSError
        raise InputError(f"cannot reach a Ray cluster at {address!r}: {error}\nStart one with `ray start --head`, "
                         "or leave --ray-address out to use this machine alone.") from error
    cores = int(ray.cluster_resources().get("CPU", 0))
    if cores < size:
        ray.shutdown()
        raise InputError(f"{size} workers asked for, the cluster at {address!r} has {cores} CPUs; "
                         f"pass --workers {cores} or fewer")


def _init_local(**options: Any) -> None:
    """Start a cluster of this machine alone; once more if a busy machine was too slow for Ray's own start limits."""
    import ray

    try:
        ray.init(address="local", **options)
    except (RuntimeError, ConnectionError, TimeoutError) as error:
        print(f"notice: Ray did not start ({error}); trying once more", file=sys.stderr)
        ray.shutdown()
        ray.init(address="local", **options)


def _check_listening(address: str) -> None:
    """Raise OSError soon if nobody listens at ``[scheme://]host:port``: Ray itself would try for many minutes."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if separator:
        socket.create_connection((host, int(port)), timeout=10).close()


def worker_runtime(python: Path | None, size: int) -> dict[str, Any]:
    """Ray's runtime_env of a worker: interpreter, import path and threads (workers share the cores)."""
    threads = str(max(1, (os.cpu_count() or 1) // size))
    variables = {
        "PYTHONPATH": os.pathsep.join([str(PROJECT), os.getcwd()]),
        **PROCESS_VARIABLES,
        "LP_NUM_THREADS": os.environ.get("LP_NUM_THREADS", threads),  # llvmpipe; pixels do not depend on it
    }
    variables |= {name: os.environ[name] for name in ("EVALKIT_CACHE", "XDG_CACHE_HOME", "MUJOCO_GL",
                                                      "MUJOCO_EGL_DEVICE_ID") if name in os.environ}
    environment: dict[str, Any] = {"env_vars": variables}
    if python is not None:
        environment["py_executable"] = str(python)
    return environment


def _last_lines(text: str, count: int = 12) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
