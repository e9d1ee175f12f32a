"""Broker: brings the observations of all rollout workers, in batches, to whoever acts, and the chunks back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field


class PolicyError(RuntimeError):
    """The policy raised; the text is its traceback."""


@dataclass
class _Request:
    number: int
    question: bytes
    answer: asyncio.Future = field(repr=False)


class Broker:
    """Lives in one process of its own. Workers `ask`; takers (policy replicas, or the driver) `take` and `give`.

    Whoever is free takes what waits, so that replicas share the load and none waits behind another. What a taker
    that died had taken is handed out again by `forget`.
    """

    def __init__(self):
        self._waiting: deque[_Request] = deque()
        self._taken: dict[str, dict[int, _Request]] = {}
        self._since: dict[str, float] = {}
        self._gone: set[str] = set()
        self._arrival = asyncio.Event()
        self._count, self._workers = 0, 0

    async def expect(self, workers: int) -> None:
        """So many workers ask, each one question at a time: a batch of all that are left waits for nobody."""
        self._workers = workers
        self._arrival.set()

    async def ask(self, question: bytes) -> bytes:
        """The answer to `question`: a packed chunk for a packed observation. Raises PolicyError."""
        self._count += 1
        request = _Request(self._count, question, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        self._arrival.set()
        return await request.answer

    async def take(self, taker: str, most: int, patience: float) -> list[tuple[int, bytes]]:
        """Up to `most` numbered questions: as soon as there are so many, or all that can come, or `patience` seconds
        after the first.

        Waits until there is one; an empty list tells a taker that it was forgotten.
        """
        loop = asyncio.get_running_loop()
        while not self._waiting and taker not in self._gone:
            await self._arrives(None)
        end = loop.time() + patience
        while len(self._waiting) < min(most, self._to_come()) and taker not in self._gone and loop.time() < end:
            await self._arrives(end - loop.time())
        if taker in self._gone:
            return []
        if not self._waiting:  # another taker was faster
            return await self.take(taker, most, patience)
        batch = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._taken.setdefault(taker, {}).update({request.number: request for request in batch})
        self._since[taker] = loop.time()
        return [(request.number, request.question) for request in batch]

    async def give(self, taker: str, answers: Mapping[int, bytes | str]) -> None:
        """Answers of `taker` by number: a packed chunk, or the text of a traceback."""
        for number, answer in answers.items():
            request = self._taken.get(taker, {}).pop(number, None)
            if request is None or request.answer.done():
                continue
            if isinstance(answer, str):
                request.answer.set_exception(PolicyError(answer))
            else:
                request.answer.set_result(answer)

    async def overdue(self, seconds: float) -> list[str]:
        """Takers that have kept a batch for more than `seconds`."""
        now = asyncio.get_running_loop().time()
        return [taker for taker, batch in self._taken.items() if batch and now - self._since[taker] > seconds]

    async def forget(self, taker: str) -> int:
        """`taker` is gone: what it had taken is handed out again, first. Returns how many requests that were."""
        self._gone.add(taker)
        lost = list(self._taken.pop(taker, {}).values())
        self._waiting.extendleft(reversed(lost))
        self._arrival.set()
        return len(lost)

    def _to_come(self) -> float:
        """How many can wait at the same time: workers whose question is not being answered."""
        return self._workers - sum(map(len, self._taken.values())) if self._workers else float("inf")

    async def _arrives(self, seconds: float | None) -> None:
        """Wait for the next request, or a forgotten taker, at most `seconds`."""
        self._arrival.clear()
        try:
            await asyncio.wait_for(self._arrival.wait(), seconds)
        except asyncio.TimeoutError:
            return
