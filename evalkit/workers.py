"""The engine: rollout workers, fed from a queue of episodes."""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import textwrap
import time
import traceback
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit import cluster, nodes
from evalkit.episode import Episode
from evalkit.errors import InputError, Stopped
from evalkit.gl import WORKER_VARIABLE
from evalkit.hosts import BrokeredPolicy, Caller, Replicas
from evalkit.observers import ActionRecorder, Observer, VideoRecorder
from evalkit.plan import group_by_task, planned_steps
from evalkit.policy import Policy, PolicyAway, PolicyGone
from evalkit.progress import Progress, SteadyClock, Watch, read_beat
from evalkit.records import ERROR, FAILURE, Record
from evalkit.registry import load_object, load_suite, make_policy
from evalkit.rollout import run_episode
from evalkit.specs import PolicySpec
from evalkit.suite import Env, EnvOptions, ProcessNeeds

#: Seconds that a new worker may take until it is ready: imports on a cold disk, a busy machine.
START_SECONDS = 600.0

#: Starts in a row that may fail until a place in the pool is given up.
STARTS = 3

#: Times that an episode is begun anew within one attempt because its policy's server went away, and the longest pause
#: before that, in seconds; the pauses double from one second.
RESTARTS, LONGEST_PAUSE = 6, 30.0

#: A worker is replaced when it holds so many times the memory that it was admitted by, unless its needs say when.
MARGIN = 1.5


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

    gone: whoever answers for the policy did not come back. memory_gb: resident memory of the worker afterwards, GiB.
    seconds: that the worker spent on it, its simulator's build included; node: where. None if it died.
    """

    episode: Episode
    record: Record | None = None
    traceback: str | None = None
    video: bytes | None = None
    actions: np.ndarray | None = None
    attempt: int = 1
    gone: bool = False
    memory_gb: float = 0.0
    seconds: float | None = None
    node: str | None = None


class Worker:
    """Rolls out episodes in one process: one simulator at a time, kept while episodes are of the same task."""

    def __init__(self, job: Job, broker: Any = None, key: str = "", beat_seconds: float = 0.0):
        self.job, self._broker = job, broker
        self._env: Env | None = None
        self._env_task: tuple[str, int] | None = None
        self._policies: dict[str, Policy] = {}
        self._progress, self._node = Progress(), None
        if key:
            self._progress.tell(lambda beat: cluster.publish(key, beat), beat_seconds)

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
            result = self._until_answered(episode)
        except Exception as error:
            result = Result(episode, traceback=traceback.format_exc(), gone=isinstance(error, PolicyGone))
            self._discard_env()
        return replace(result, memory_gb=resident_gb(), seconds=time.monotonic() - begun, node=self._node)

    def _until_answered(self, episode: Episode) -> Result:
        """Begin the episode anew, a few times, when the policy's server goes away in the middle of it."""
        for restart in itertools.count():
            try:
                return self._run(episode)
            except PolicyAway as error:
                if restart == RESTARTS:
                    raise
                self._progress.say(f"{episode.id} begins anew: {error}")
                time.sleep(min(2.0 ** restart, LONGEST_PAUSE))

    def _run(self, episode: Episode) -> Result:
        env, policy = self._env_for(episode), self._policy_for(episode.suite)
        recorder = ActionRecorder() if self.job.record_actions else None
        video = VideoRecorder(env.suite.control_hz, self.job.video_views) if self._wants_video(episode) else None
        observers: list[Observer] = [observer for observer in (recorder, video) if observer is not None]
        record = run_episode(env, policy, episode, observers, self.job.full_horizon, self._progress)
        keep = video is not None and (self.job.video != "failures" or record.outcome == FAILURE)
        self._progress.enter("video")
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
            self._progress.enter("load", START_SECONDS + policy.patience)
            policy.load()
            self._policies[suite_name] = policy
        return self._policies[suite_name]

    def _env_for(self, episode: Episode) -> Env:
        if self._env_task != (episode.suite, episode.task):
            self._discard_env()
            self._progress.enter("build")
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

    def next_task(self, current: tuple[str, int] | None) -> tuple[str, int] | None:
        """The task whose episode a worker gets that holds task `current`; None when the queue is empty."""
        waiting = [key for key, group in self._groups.items() if group]
        fresh = [key for key in waiting if key not in self._started]
        if not waiting or current in waiting:
            return current if waiting else None
        return fresh[0] if fresh else max(waiting, key=lambda task: planned_steps(self._groups[task]))

    def take(self, current: tuple[str, int] | None) -> Episode | None:
        """The next episode for a worker whose simulator holds task `current`; None when the queue is empty."""
        key = self.next_task(current)
        if key is None:
            return None
        self._started.add(key)
        return self._groups[key].popleft()

    def put_back(self, episode: Episode) -> None:
        """Queue `episode` again, for another attempt."""
        self._groups[(episode.suite, episode.task)].append(episode)


@dataclass
class _Seat:
    """One place in the pool: its number, its actor now, and what it is doing.

    starting: set until the actor is ready; no episode waits for an actor that is not. failures: starts in a row that
    failed. resets: episodes that this actor has begun. since: of the start, or of the episode. watch: its progress,
    published under `key`.
    """

    number: int
    actor: Any = None
    starting: Any = None
    failures: int = 0
    resets: int = 0
    memory_gb: float = 0.0
    task: tuple[str, int] | None = None
    episode: Episode | None = None
    since: float = 0.0
    key: str = ""
    watch: Watch | None = None

    @property
    def free(self) -> bool:
        """Whether it can be given an episode, or an actor."""
        return self.starting is None and self.episode is None and self.failures < STARTS


@dataclass
class WorkerPool:
    """At most `size` workers in interpreter `python`, fewer where memory does not admit them.

    Use as a context manager; `run` yields results as they finish. needs: what a worker of these suites takes.
    host: where the policy acts if not in the workers. most: the pool may grow up to so many workers while cores of
    this machine idle, as they do when they wait for a policy on a GPU or behind a server.
    timeout: seconds for an episode; stall: seconds without progress after which a worker counts as stuck.
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
    stall: float = 300.0
    described: dict[str, dict[str, str]] = field(default_factory=dict)

    def __enter__(self) -> WorkerPool:
        self.most = max(self.most, self.size)
        self._share = self.size / self.most
        self._clock, self._keys = SteadyClock(), (f"{self._name}/{number}/" for number in itertools.count())
        self._name, self._looked = uuid.uuid4().hex, 0.0
        self._beat_seconds = min(5.0, self.stall / 10)
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
        cluster.unpublish(self._name)
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
        self._empty(seat)
        seat.key, seat.since, seat.watch = next(self._keys), self._clock(), Watch(self.stall, self._clock())
        seat.actor = cluster.actor(Worker, self.job, self.host and self.host.broker, seat.key, self._beat_seconds,
                                   python=self.python, cpus=self._share,
                                   memory=self._memory if self.most > 1 else None,
                                   variables={**self._variables(), WORKER_VARIABLE: str(seat.number)})
        seat.task, seat.resets, seat.memory_gb = None, 0, 0.0
        seat.starting = seat.actor.start.remote(self.suite_names)

    def _empty(self, seat: _Seat) -> None:
        """End the worker on `seat`, if there is one."""
        if seat.actor is not None:
            cluster.kill(seat.actor)
            cluster.unpublish(seat.key)
        seat.actor = seat.starting = None

    def _variables(self) -> dict[str, str]:
        """Threads of the software renderer (workers share the cores); pixels do not depend on them."""
        threads = max(1, (os.cpu_count() or 1) // self.most)
        return {"LP_NUM_THREADS": os.environ.get("LP_NUM_THREADS", str(threads))}

    def _start_first(self) -> dict[str, dict[str, str]]:
        """Start every worker; wait for the first, so that workers that cannot start are known before any episode."""
        for seat in self._seats:
            self._fill(seat)
        ready = cluster.wait([seat.starting for seat in self._seats], timeout=START_SECONDS)
        if not ready:
            raise InputError(f"no rollout worker started within {START_SECONDS:g} s. Are the cluster's cores taken by "
                             "others? `ray status` tells; pass fewer --workers, or wait for them")
        try:
            return cluster.get(ready[0])
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"a rollout worker could not start:\n{cluster.last_lines(str(error))}") from error

    def run(self, episodes: Iterable[Episode]) -> Iterator[Result]:
        """Roll out `episodes`; each is yielded once: measured, or as an error after its last attempt. Raises Stopped
        when no worker is left that could."""
        queue, attempts, idle = EpisodeQueue(episodes), {}, IdleCores()
        clock = time.time() - time.monotonic()  # a wall clock that is set while we run moves no episode
        running: dict[Any, _Seat] = {}
        while len(queue) or running:
            for seat in self._seats:
                if seat.free and len(queue):
                    self._give_work(seat, queue, running)
            if self.host:
                self.host.expect(len(running))
            waiting = [*(self.host.waiting() if self.host else []), *self._starting()]
            done = cluster.wait([*running, *waiting], timeout=1.0)
            if self.host:
                self.host.handle(done)
            self._look_at_starts(bool(running))
            for reference in [*(item for item in done if item in running), *self._overdue(running, done)]:
                seat = running.pop(reference)
                spent = self._clock() - seat.since
                result = self._collect(reference, seat)
                attempt = attempts[result.episode] = attempts.get(result.episode, 0) + 1
                if result.record is None and attempt <= self.retries and not result.gone:
                    reason = textwrap.shorten(cluster.last_lines(result.traceback, 1), 120)
                    print(f"notice: {result.episode.id} is tried again: {reason}", file=sys.stderr)
                    queue.put_back(result.episode)
                else:
                    yield _finished(result, attempt, seat.number, spent, clock)
            if len(self._seats) < self.most and len(queue) and idle.enough_for_one() and not self._starting():
                self._seats.append(_Seat(len(self._seats)))

    def _starting(self) -> list[Any]:
        """Workers that are still on their way."""
        return [seat.starting for seat in self._seats if seat.starting is not None]

    def _give_work(self, seat: _Seat, queue: EpisodeQueue, running: dict[Any, _Seat]) -> None:
        """Send the next episode to the worker on `seat`, or start one that can take it."""
        task = queue.next_task(seat.task)
        if seat.actor is None or self._worn(seat, task):
            self._fill(seat)
            return
        seat.episode, seat.task, seat.since, seat.resets = queue.take(seat.task), task, self._clock(), seat.resets + 1
        seat.watch.restart(seat.since)
        running[seat.actor.run.remote(seat.episode)] = seat

    def _worn(self, seat: _Seat, task: tuple[str, int]) -> bool:
        """Whether an episode of `task` needs a new process in `seat`: the simulator grows, or holds another task."""
        full = 0 < self.needs.resets <= seat.resets
        most = self.needs.most_gb or MARGIN * self.needs.memory_gb
        heavy = seat.memory_gb > most
        if heavy:
            print(f"notice: a worker held {seat.memory_gb:.1f} GiB after {seat.resets} episodes and is replaced "
                  f"(--worker-memory, here {most:g} GiB, says when)", file=sys.stderr)
        return full or heavy or (self.needs.one_task and seat.task not in (None, task))

    def _look_at_starts(self, running: bool) -> None:
        """Note which workers have started. One that failed to is tried again, and so is one whose node would measure
        something else; one that the cluster has no room for, as after the loss of a node, stands in nobody's way: it
        waits, and takes part when there is room again.

        Raises Stopped if no worker is left, or none could be placed for `START_SECONDS`.
        """
        now = self._clock()
        for seat in self._seats:
            if seat.starting is None:
                continue
            if cluster.wait([seat.starting], timeout=0):
                try:
                    problem = other_simulator(self.described, cluster.get(seat.starting))
                except Exception as error:
                    problem = cluster.last_lines(str(error), 3)
                if not problem:
                    seat.starting, seat.failures = None, 0
                    continue
            elif now - seat.since > START_SECONDS and cluster.published(seat.key) is not None:
                problem = f"it was not ready after {START_SECONDS:g} s"
            else:
                continue
            seat.failures += 1
            print(f"notice: a rollout worker cannot take part ({seat.failures} of {STARTS} tries): {problem}",
                  file=sys.stderr)
            self._empty(seat)
        if running or any(seat.free for seat in self._seats):
            return
        waited = min((now - seat.since for seat in self._seats if seat.starting is not None), default=None)
        if waited is None or waited > START_SECONDS:
            why = "none could start" if waited is None else "the cluster has no room for any"
            raise Stopped(f"no rollout worker is left: {why} (it has {cluster.available_cores()} cores). What was "
                          "recorded is kept; repeat the same command when that is mended")

    def _overdue(self, running: Mapping[Any, _Seat], done: list[Any]) -> list[Any]:
        """Episodes that have run too long, or whose worker makes no progress."""
        now = self._clock()
        if now - self._looked < self._beat_seconds:
            return []
        self._looked, found = now, []
        for reference, seat in running.items():
            seat.watch.hear(read_beat(cluster.published(seat.key)), now)
            if reference not in done and self._problem(seat):
                found.append(reference)
        return found

    def _problem(self, seat: _Seat) -> str:
        """Why the worker on `seat` has to be killed; empty: it need not."""
        now = self._clock()
        if now - seat.since > self.timeout:
            return f"timeout: no result within {self.timeout:g} s; the worker was killed"
        stuck = seat.watch.problem(now)
        return stuck and f"the worker was stuck and was killed: {stuck}"

    def _collect(self, reference: Any, seat: _Seat) -> Result:
        """The result behind `reference`; a dead, overdue or stuck worker costs this attempt only and is replaced."""
        episode, seat.episode = seat.episode, None
        problem = self._problem(seat) if not cluster.wait([reference], timeout=0) else ""
        if not problem:
            try:
                result = cluster.get(reference)
                seat.memory_gb = result.memory_gb
                return result
            except Exception as error:
                problem = f"the worker died: {cluster.last_lines(str(error))}"
        self._empty(seat)
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


def other_simulator(first: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]) -> str:
    """What a worker's simulator or renderer has that the first worker's has not, whose description is in the
    fingerprint of all records: nodes of a cluster may draw with other GPUs. Empty: nothing."""
    return "; ".join(f"{suite}: {name} is {other[suite].get(name)!r} here and {parts.get(name)!r} in the run"
                     for suite, parts in first.items() for name in {**parts, **other[suite]}
                     if parts.get(name) != other[suite].get(name))


def resident_gb() -> float:
    """Resident memory of this process, GiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30


def give_memory_back() -> None:
    """Return freed memory to the system. glibc keeps what a closed simulator freed in pieces that the next one does not
    fit into: a LIBERO process holds 526 MiB after eight tasks without this, 436 with it, as after two."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
    if trim is not None:
        trim(0)


def _finished(result: Result, attempt: int, seat: int, spent: float, clock: float) -> Result:
    """`result` of a worker on `seat` with a record in any case; an error's holds the traceback. spent: seconds, where
    the worker cannot tell; clock: Unix seconds at monotonic time 0."""
    episode, ended = result.episode, time.monotonic()
    started = ended - (spent if result.seconds is None else result.seconds)
    record = result.record or Record(id=episode.id, suite=episode.suite, task=episode.task, index=episode.index,
                                     seed=episode.seed, outcome=ERROR, traceback=result.traceback)
    record = replace(record, attempt=attempt, started=round(clock + started, 3), ended=round(clock + ended, 3),
                     worker=seat, node=result.node)
    return replace(result, record=record, attempt=attempt)
