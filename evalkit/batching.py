"""The batcher: gathers observations that arrive one by one into batches for one policy. No Ray, no network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evalkit.policy import Policy
from evalkit.suite import Observation

#: Observations in a batch at most, and seconds that the first of a batch waits for others, unless chosen otherwise. A
#: few milliseconds are little beside a query of a large policy (50 ms and more) and enough for requests that were sent
#: together.
MOST, WAIT = 16, 0.005


@dataclass(frozen=True)
class Answer:
    """What became of one observation: its chunk (T, D) as the policy gave it, the size of the batch in which it
    travelled, seconds waited before that, seconds that `act` took."""

    chunk: np.ndarray
    batch: int
    waited: float
    seconds: float


@dataclass
class _Request:
    observation: Observation
    answer: asyncio.Future
    arrived: float = field(default_factory=time.perf_counter)


class Batcher:
    """Answers observations with `policy`, many at once. Use inside a running event loop, as ``async with``.

    A batch is acted upon when it holds `most` observations, when all `clients` are waiting, or when its first one has
    waited `wait` seconds. While the policy acts, the next batch gathers. Every call of the policy is made in one and
    the same thread: policies need not be thread-safe, and torch's gradient mode belongs to a thread.

    clients: how many can ask at the same time, where that is known; keep it up to date. None: nobody knows.
    """

    def __init__(self, policy: Policy, most: int = MOST, wait: float = WAIT, clients: int | None = None):
        self.policy, self.most, self.wait, self._clients = policy, most, wait, clients
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._waiting: list[_Request] = []
        self._changed = asyncio.Event()

    @property
    def clients(self) -> int | None:
        """How many can ask at the same time."""
        return self._clients

    @clients.setter
    def clients(self, number: int | None) -> None:
        self._clients = number
        self._changed.set()  # a batch that waited for one who left may be ready

    async def __aenter__(self) -> Batcher:
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Refuse what still waits and stop; does not wait for a call of the policy that is under way."""
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments)`` in the policy's thread, between batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def act(self, observation: Observation) -> Answer:
        """The policy's chunk for `observation`; the policy is told of a new episode first where `step` is 0.

        Raises what the policy raised for this observation. Raises ConnectionAbortedError when the batcher stops.
        """
        if self._loop.done():
            raise ConnectionAbortedError("the batcher has stopped")
        request = _Request(observation, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._changed.set()
        return await request.answer

    async def _run(self) -> None:
        batch: list[_Request] = []
        try:
            while True:
                await self._gather()
                batch = self._take()
                start = time.perf_counter()
                results = await self.call(act_each, self.policy, [request.observation for request in batch])
                seconds = time.perf_counter() - start
                for request, result in zip(batch, results):
                    _settle(request, result if isinstance(result, Exception) else
                            Answer(result, len(batch), start - request.arrived, seconds))
        finally:
            for request in (*batch, *self._waiting):
                _settle(request, ConnectionAbortedError("the batcher has stopped"))

    async def _gather(self) -> None:
        """Return when a batch is ready."""
        while True:
            self._waiting = [request for request in self._waiting if not request.answer.done()]  # some gave up
            if len(self._waiting) >= min(self.most, self.clients or self.most):
                return
            left = self._waiting[0].arrived + self.wait - time.perf_counter() if self._waiting else None
            if left is not None and left <= 0:
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except (asyncio.TimeoutError, TimeoutError):
                continue

    def _take(self) -> list[_Request]:
        """The oldest requests, `most` at most, and of each episode one: its queries are answered in their order."""
        batch: dict[str, _Request] = {}
        for request in self._waiting:
            if len(batch) < self.most:
                batch.setdefault(request.observation.episode.id, request)
        taken = set(map(id, batch.values()))
        self._waiting = [request for request in self._waiting if id(request) not in taken]
        return list(batch.values())


def act_each(policy: Policy, observations: Sequence[Observation]) -> list[np.ndarray | Exception]:
    """A chunk or an exception for each observation; the policy is told of a new episode first where `step` is 0.

    If a batch raises, its observations are tried one by one, so that a bad one fails alone. Not where the policy is
    stateful: its first attempt may have moved what it keeps, so all of them fail.
    """
    try:
        return _act(policy, observations)
    except Exception as error:
        if len(observations) == 1 or policy.spec.stateful:
            return [error] * len(observations)
    return [result for observation in observations for result in act_each(policy, [observation])]


def _act(policy: Policy, observations: Sequence[Observation]) -> list[np.ndarray | Exception]:
    for observation in observations:
        if observation.step == 0:
            policy.reset(observation.episode)
    chunks = policy.act(observations)
    if len(chunks) != len(observations):
        raise ValueError(f"policy {policy.spec.name!r} answered {len(observations)} observations with {len(chunks)} "
                         "chunks")
    return [np.asarray(chunk) for chunk in chunks]


def _settle(request: _Request, result: Answer | Exception) -> None:
    if request.answer.done():
        return
    if isinstance(result, StopIteration):  # a future takes any exception but this one
        result = RuntimeError(f"the policy raised {result!r}")
    if isinstance(result, Exception):
        request.answer.set_exception(result)
    else:
        request.answer.set_result(result)
