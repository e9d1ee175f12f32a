"""The engine: rollout workers, fed from a queue of episodes."""

from __future__ import annotations

import ctypes
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit import cluster, nodes
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.hosts import BrokeredPolicy, Caller, Replicas
from evalkit.observers import ActionRecorder, Observer, VideoRecorder
from evalkit.plan import group_by_task, planned_steps
from evalkit.policy import Policy
from evalkit.records import ERROR, FAILURE, Record
from evalkit.registry import load_object, load_suite, make_policy
from evalkit.rollout import run_episode
from evalkit.specs import PolicySpec
from evalkit.suite import Env, EnvOptions, ProcessNeeds

#: Seconds that a new worker may take until it is ready: imports on a cold disk, a busy machine.
START_SECONDS = 600.0


@dataclass(frozen=True)
class Job:
    """What every worker of a run needs to know. specs: of a policy that acts elsewhere, by suite."""

    policy: str
    policy_options: Mapping[str, Any]
    env_options: EnvOptions
    video: str = "none"
    video_views: tuple[str, ...] | None = None
    first_index: int = 0
    record_actions: bool = False
    full_horizon: bool = False
    specs: Mapping[str, PolicySpec] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One attempt at an episode. record: None if it raised, died or timed out; then `traceback` says what happened.

    seconds: that the worker spent on it, its simulator's build included; node: where. None if it died.
    """

    episode: Episode
    record: Record | None = None
    traceback: str | None = None
    video: bytes | None = None
    actions: np.ndarray | None = None
    attempt: int = 1
    seconds: float | None = None
    node: str | None = None


class Worker:
    """Rolls out episodes in one process: one simulator at a time, kept while episodes are of the same task."""

    def __init__(self, job: Job, broker: Any = None):
        self.job, self._broker = job, broker
        self._env: Env | None = None
        self._env_task: tuple[str, int] | None = None
        self._policies: dict[str, Policy] = {}
        self._node: str | None = None

    def start(self, suite_names: list[str]) -> dict[str, dict[str, str]]:
        """Prepare the process; versions of simulator and renderer for each suite."""
        described, self._node = {}, cluster.node_name()
        for name in suite_names:
            env_class = load_object(load_suite(name).env)
            env_class.start_process(self.job.env_options)
            described[name] = env_class.describe(self.job.env_options)
        return described

    def run(self, episode: Episode) -> Result:
        """Roll out one episode. An exception is returned as a traceback, and the simulator is thrown away."""
        begun = time.monotonic()
        try:
            result = self._run(episode)
        except Exception:
            result = Result(episode, traceback=traceback.format_exc())
            self._discard_env()
        return replace(result, seconds=time.monotonic() - begun, node=self._node)

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
        if self._broker is not None:
            return BrokeredPolicy(self.job.specs[suite_name], self._broker)
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
            give_memory_back()


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
    """One place in the pool: its number, its actor now, and what it is doing.

    starting: set until the actor is ready. resets: episodes that this actor has begun.
    """

    number: int
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
    host: where the policy acts if not in the workers. most: the pool may grow up to so many workers while cores of
    this machine idle, as they do when they wait for a policy on a GPU or behind a server.
    """

    job: Job
    suite_names: list[str]
    size: int
    most: int = 0
    python: Path | None = None
    needs: ProcessNeeds = field(default_factory=ProcessNeeds)
    address: str | None = None
    retries: int = 2
    timeout: float = 1800.0
    host: Replicas | Caller | None = None
    described: dict[str, dict[str, str]] = field(default_factory=dict)

    def __enter__(self) -> WorkerPool:
        self.most = max(self.most, self.size)
        self._share = self.size / self.most
        cluster.connect(self.address, self.size)
        try:
            nodes.prepare(self.python, self.job.env_options.assets)
            if self.host is not None:
                self.host.start()
            self._memory = int(self.needs.memory_gb * 2**30)
            self.most = self._admit(self.most)
            self.size = min(self.size, self.most)
            self._seats = [_Seat(number) for number in range(self.size)]
            self.described = self._start_first()
        except BaseException:
            cluster.disconnect(keep_logs=True)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        cluster.disconnect(keep_logs=exception[0] is not None)

    def _admit(self, size: int) -> int:
        """How many workers fit by memory, `size` at most and one at least (which then tries its luck)."""
        fits = sum(int(min(node.get("CPU", 0) / self._share, node.get("memory", 0) // self._memory))
                   for node in cluster.nodes())
        if fits < self.size:
            print(f"notice: memory admits {fits} of {self.size} workers ({self.needs.memory_gb:g} GiB each)"
                  f"{'; trying one' if fits < 1 else ''}", file=sys.stderr)
        return max(1, min(size, fits))

    def _fill(self, seat: _Seat) -> None:
        """Put a new worker on `seat`, in place of any that was there, and start it without waiting."""
        if seat.actor is not None:
            cluster.kill(seat.actor)
        seat.actor = cluster.actor(Worker, self.job, self.host and self.host.broker, python=self.python,
                                   cpus=self._share, memory=self._memory if self.most > 1 else None,
                                   variables=self._variables())
        seat.task, seat.resets = None, 0
        seat.starting = seat.actor.start.remote(self.suite_names)

    def _variables(self) -> dict[str, str]:
        """Threads of the software renderer (workers share the cores); pixels do not depend on them."""
        threads = max(1, (os.cpu_count() or 1) // self.most)
        return {"LP_NUM_THREADS": os.environ.get("LP_NUM_THREADS", str(threads))}

    def _start_first(self) -> dict[str, dict[str, str]]:
        """Start every worker; wait for the first, so that a worker that cannot start is known before any episode."""
        for seat in self._seats:
            self._fill(seat)
        try:
            return cluster.get(self._seats[0].starting)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"a rollout worker could not start:\n{cluster.last_lines(str(error))}") from error

    def run(self, episodes: Iterable[Episode]) -> Iterator[Result]:
        """Roll out `episodes`; each is yielded once: measured, or as an error after its last attempt."""
        queue, attempts, idle = EpisodeQueue(episodes), {}, IdleCores()
        clock = time.time() - time.monotonic()  # a wall clock that is set while we run moves no episode
        running: dict[Any, _Seat] = {}
        for seat in self._seats:
            self._give_work(seat, queue, running)
        while running:
            if self.host:
                self.host.expect(len(running))
            waiting = self.host.waiting() if self.host else []
            done = cluster.wait([*running, *waiting], timeout=1.0)
            if self.host:
                self.host.handle(done)
            for reference in [*(item for item in done if item in running), *self._overdue(running, done)]:
                seat = running.pop(reference)
                result = self._collect(reference, seat, finished=reference in done)
                attempt = attempts[result.episode] = attempts.get(result.episode, 0) + 1
                if result.record is None and attempt <= self.retries:
                    queue.put_back(result.episode)
                else:
                    yield _finished(result, attempt, seat, clock)
                for free in self._seats:
                    if free.episode is None:
                        self._give_work(free, queue, running)
            if len(self._seats) < self.most and len(queue) and idle.enough_for_one() and not self._starting():
                self._seats.append(_Seat(len(self._seats)))
                self._fill(self._seats[-1])
                self._give_work(self._seats[-1], queue, running)

    def _starting(self) -> bool:
        """Whether a worker is still on its way."""
        return any(seat.starting is not None for seat in self._seats)

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
            if seat.starting is not None and cluster.wait([seat.starting], timeout=0):
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
                return cluster.get(reference)
            except Exception as error:
                problem = f"the worker died: {cluster.last_lines(str(error))}"
        self._fill(seat)
        return Result(episode, traceback=problem)


class IdleCores:
    """Tells from the kernel's own counts whether cores of this machine wait for a policy that acts elsewhere."""

    #: Seconds between two decisions, and the share of one core that must have been idle.
    SECONDS, SHARE = 5.0, 0.7

    def __init__(self) -> None:
        self._since, self._idle = time.monotonic(), idle_seconds()

    def enough_for_one(self) -> bool:
        """Whether another worker would find a core idle; asked anew every `SECONDS`."""
        passed = time.monotonic() - self._since
        if passed < self.SECONDS:
            return False
        idle = idle_seconds() - self._idle
        self.__init__()
        return idle / passed > self.SHARE


def idle_seconds() -> float:
    """Seconds that all cores together have been idle since the machine started (/proc/stat, fourth column)."""
    with open("/proc/stat") as file:
        return int(file.readline().split()[4]) / os.sysconf("SC_CLK_TCK")


def give_memory_back() -> None:
    """Return freed memory to the system. glibc keeps what a closed simulator freed in pieces that the next one does not
    fit into: a LIBERO process holds 526 MiB after eight tasks without this, 436 with it, as after two."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def _finished(result: Result, attempt: int, seat: _Seat, clock: float) -> Result:
    """`result` with a record in any case; an error's holds the traceback. clock: Unix seconds at monotonic time 0."""
    episode, ended = result.episode, time.monotonic()
    started = seat.since if result.seconds is None else ended - result.seconds
    record = result.record or Record(id=episode.id, suite=episode.suite, task=episode.task, index=episode.index,
                                     seed=episode.seed, outcome=ERROR, traceback=result.traceback)
    record = replace(record, attempt=attempt, started=round(clock + started, 3), ended=round(clock + ended, 3),
                     worker=seat.number, node=result.node)
    return replace(result, record=record, attempt=attempt)
