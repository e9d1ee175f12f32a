"""Hosts: where a policy acts when it does not act inside the rollout workers."""

from __future__ import annotations

import itertools
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evalkit import cluster, nodes, wire
from evalkit.batching import act_each
from evalkit.broker import Broker
from evalkit.episode import Episode
from evalkit.policy import Policy
from evalkit.registry import load_suite, make_policy
from evalkit.specs import PolicySpec
from evalkit.suite import Observation
from evalkit.testing import fake_observation

#: Seconds that loading a policy may take: tens of gigabytes from a network disk.
LOAD_SECONDS = 3600.0

#: A batch is made no larger than needed for this share of the best throughput that the warm-up saw.
ENOUGH = 0.9

#: Seconds that a batch for the caller's own process waits to fill.
PATIENCE = 0.005

#: Deaths of replicas after which a run ends (it can be resumed).
DEATHS = 10

#: Seconds between two looks for replicas that hang.
LOOK_SECONDS = 5.0

#: The warm-up tries batches of 1, 2, 4 ... up to this, and ends after about so many seconds.
LARGEST_BATCH, WARM_UP_SECONDS = 64, 20.0


@dataclass(frozen=True)
class Batching:
    """size: observations in a batch at most; patience: seconds to wait for more after the first."""

    size: int
    patience: float


@dataclass(frozen=True)
class Served:
    """Which policy acts: a registered name or the user's own, its options, and its spec for each suite."""

    policy: str
    options: Mapping[str, Any]
    specs: Mapping[str, PolicySpec]


class BrokeredPolicy(Policy):
    """Stands in a rollout worker for the policy that acts elsewhere; its host watches over whoever answers."""

    patience = float("inf")

    def __init__(self, spec: PolicySpec, broker: Any):
        self.spec, self._broker = spec, broker

    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        waiting = [self._broker.ask.remote(pack_observation(observation)) for observation in observations]
        return [wire.unpack(cluster.get(reference)) for reference in waiting]


def pack_observation(observation: Observation) -> bytes:
    """For a process in another interpreter: a pickled array of numpy 2 cannot be read by numpy 1.26, which
    RoboCasa-GR1 pins."""
    return wire.pack({"views": dict(observation.views), "state": dict(observation.state),
                      "instruction": observation.instruction, "episode": list(astuple(observation.episode)),
                      "step": observation.step, "seed": observation.seed})


def unpack_observation(packed: bytes) -> Observation:
    """The Observation in `packed`; its arrays are read-only."""
    fields = wire.unpack(packed)
    return Observation(**{**fields, "episode": Episode(*fields["episode"])})


class Actor:
    """Policies by suite in one process; suites whose embodiment and spec are equal share one, loaded once."""

    def __init__(self, served: Served):
        self._policies: dict[str, Policy] = {}
        shared: dict[Any, Policy] = {}
        for name, spec in served.specs.items():
            suite = load_suite(name)
            embodiment = (tuple(suite.views.items()), tuple(suite.state.items()), suite.action.meaning, repr(spec))
            if embodiment not in shared:
                shared[embodiment] = make_policy(served.policy, suite, dict(served.options))
            self._policies[name] = shared[embodiment]
        self.loaded = list(shared.values())

    def load(self) -> dict[str, Any]:
        """Load every policy; what the first one is. Raises InputError."""
        for policy in self.loaded:
            policy.load()
        return self.loaded[0].describe()

    def answers(self, batch: Sequence[tuple[int, Observation]]) -> dict[int, bytes | str]:
        """Packed chunk or traceback by number."""
        found: dict[int, bytes | str] = {}
        for policy in self.loaded:
            part = [(number, observation) for number, observation in batch
                    if self._policies[observation.episode.suite] is policy]
            found |= act_on(policy, part)
        return found

    def warm_up(self) -> Batching:
        """Batch size and patience from a short measurement with random observations of the first suite."""
        name = next(iter(self._policies))
        suite, policy = load_suite(name), self._policies[name]
        if policy.spec.stateful:
            return Batching(LARGEST_BATCH, 0.002)
        seconds: dict[int, float] = {}
        started, size = time.perf_counter(), 1
        while size <= LARGEST_BATCH and time.perf_counter() - started < WARM_UP_SECONDS:
            observations = [fake_observation(suite, Episode(name, 0, index, 7, suite.max_steps))
                            for index in range(size)]
            if size == 1:
                policy.act(observations)  # the first call compiles, allocates, encodes the instruction
            before = time.perf_counter()
            policy.act(observations)
            policy.synchronize()
            seconds[size] = time.perf_counter() - before
            size *= 2
        return choose_batching(seconds)


def choose_batching(seconds: Mapping[int, float]) -> Batching:
    """From the seconds that a batch of each size took: the smallest size with nearly the best throughput; patience is
    a tenth of what a single observation takes, 1 to 50 ms."""
    best = max(size / spent for size, spent in seconds.items())
    size = min(size for size, spent in seconds.items() if size / spent >= ENOUGH * best)
    return Batching(size, min(0.05, max(0.001, 0.1 * seconds[min(seconds)])))


def act_on(policy: Policy, batch: Sequence[tuple[int, Observation]]) -> dict[int, bytes | str]:
    """Packed chunk or traceback by number."""
    results = act_each(policy, [observation for _, observation in batch]) if batch else []
    return {number: _packed(result) for (number, _), result in zip(batch, results)}


def _packed(result: np.ndarray | Exception) -> bytes | str:
    """A chunk for the broker, or the traceback of `result`; also of what cannot travel, such as an array of None."""
    if not isinstance(result, Exception):
        try:
            return wire.pack(result)
        except wire.WireError as error:
            result = error
    return "".join(traceback.format_exception(result))


def unpacked(batch: Sequence[tuple[int, bytes]]) -> list[tuple[int, Observation]]:
    """What a broker gave, as observations."""
    return [(number, unpack_observation(packed)) for number, packed in batch]


class Replica:
    """A process that loads the policy and serves the broker until it is forgotten."""

    def __init__(self, served: Served):
        self._actor, self._loaded = Actor(served), False

    def start(self) -> dict[str, Any]:
        """Load; what was loaded."""
        described = self._actor.load()
        self._loaded = True
        return described

    def warm_up(self) -> Batching:
        """See `Actor.warm_up`."""
        return self._actor.warm_up()

    def serve(self, broker: Any, taker: str, batching: Batching) -> None:
        """Take, act, give, until `taker` is forgotten."""
        if not self._loaded:
            raise RuntimeError("the policy could not be loaded again")
        while batch := cluster.get(broker.take.remote(taker, batching.size, batching.patience)):
            cluster.get(broker.give.remote(taker, self._actor.answers(unpacked(batch))))


@dataclass
class Replicas:
    """`count` processes in interpreter `python` share the observations of all workers. A dead one is replaced.

    gpus: of each replica; None: one where the cluster has any. size, patience: of a batch; None: what the warm-up
    finds. timeout: seconds after which a replica that keeps a batch is killed.
    """

    served: Served
    python: Path | None = None
    count: int | None = None
    gpus: float | None = None
    size: int | None = None
    patience: float | None = None
    timeout: float = 600.0
    described: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        """Load all replicas, and measure the batch size if it is not given. Raises InputError."""
        available = cluster.gpus()
        self.gpus = min(1, available) if self.gpus is None else self.gpus
        nodes.prepare(self.python, gpus=self.gpus)
        self.count = self.count or max(1, int(available // self.gpus) if self.gpus else 1)
        self.broker = cluster.actor(Broker, cpus=0, concurrency=100_000, here=True)
        self._names = (f"replica {number}" for number in itertools.count(1))
        self._serving: dict[Any, tuple[str, Any]] = {}
        self._loading: dict[str, tuple[Any, float]] = {}
        self._deaths, self._looked = 0, time.monotonic()
        replicas = [self._new() for _ in range(self.count)]
        started = [replica.start.remote() for replica in replicas]
        self.described = [cluster.get(reference, LOAD_SECONDS) for reference in started].pop()
        if self.size and self.patience is not None:
            self.batching = Batching(self.size, self.patience)
        else:
            found = cluster.get(replicas[0].warm_up.remote(), LOAD_SECONDS)
            self.batching = Batching(self.size or found.size,
                                     found.patience if self.patience is None else self.patience)
        self.described |= {"served": {"replicas": self.count, "gpus": self.gpus, "batch": self.batching.size,
                                      "patience": self.batching.patience}}
        for replica in replicas:
            self._serve(replica)

    def waiting(self) -> list[Any]:
        """What `handle` wants to hear of."""
        return list(self._serving)

    def handle(self, finished: Sequence[Any]) -> None:
        """Replace replicas that died: what they had taken goes to the others, or to the new one. Raises ProcessDied
        when that has happened too often, or when none is left and the cluster has no room for another."""
        self._kill_hanging()
        for reference in finished:
            if reference not in self._serving:
                continue
            name, replica = self._serving.pop(reference)
            self._loading.pop(name, None)
            try:
                cluster.get(reference)
            except Exception as error:
                print(f"notice: policy {name} ended and is replaced: {cluster.last_lines(str(error), 1)}",
                      file=sys.stderr)
            self._deaths += 1
            if self._deaths > DEATHS:
                raise cluster.ProcessDied(f"replicas of policy {self.served.policy!r} died {self._deaths} times")
            cluster.get(self.broker.forget.remote(name))
            cluster.kill(replica)
            self._serve(self._new(), load=True)

    def expect(self, workers: int) -> None:
        """So many workers are at work."""
        self.broker.expect.remote(workers)

    def _kill_hanging(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        self._loading = {name: (reference, since) for name, (reference, since) in self._loading.items()
                         if not cluster.wait([reference], timeout=0)}
        if len(self._loading) == len(self._serving) and now - min(
                since for _, since in self._loading.values()) > LOAD_SECONDS:
            raise cluster.ProcessDied(f"no replica of policy {self.served.policy!r} is left, and none could be loaded "
                                      f"within {LOAD_SECONDS:g} s: the cluster has {cluster.gpus()} GPUs")
        hanging = cluster.get(self.broker.overdue.remote(self.timeout))
        for name, replica in self._serving.values():
            if name in hanging:
                cluster.kill(replica)

    def _new(self) -> Any:
        return cluster.actor(Replica, self.served, python=self.python, cpus=0, gpus=self.gpus)

    def _serve(self, replica: Any, load: bool = False) -> None:
        name = next(self._names)
        if load:  # calls of an actor run in their order: `serve` waits for it
            self._loading[name] = (replica.start.remote(), time.monotonic())
        self._serving[replica.serve.remote(self.broker, name, self.batching)] = (name, replica)


@dataclass
class Caller:
    """The policy is an object of the caller's process and acts there, in the caller's thread, between other events."""

    policy: Policy
    size: int = LARGEST_BATCH
    patience: float = PATIENCE
    described: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        """The policy is loaded already."""
        self.described = self.policy.describe()
        self.broker = cluster.actor(Broker, cpus=0, concurrency=100_000, here=True)
        self._next = self._take()

    def waiting(self) -> list[Any]:
        """The next batch."""
        return [self._next]

    def handle(self, finished: Sequence[Any]) -> None:
        """Act on the batch that came."""
        if self._next in finished:
            answers = act_on(self.policy, unpacked(cluster.get(self._next)))
            cluster.get(self.broker.give.remote("caller", answers))
            self._next = self._take()

    def expect(self, workers: int) -> None:
        """So many workers are at work."""
        self.broker.expect.remote(workers)

    def _take(self) -> Any:
        return self.broker.take.remote("caller", self.size, self.patience)
