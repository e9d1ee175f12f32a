"""Where the time of a call goes, function by function."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock


class Parts:
    """Time spent in chosen functions, each without what it calls of the others."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: Counter[str] = Counter()
        self._inner = [0.0]

    def timed(self, function: Callable, part: str) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            start = self._clock()
            try:
                return function(*arguments, **options)
            finally:
                taken = self._clock() - start
                self.seconds[part] += taken - self._inner.pop()
                self._inner[-1] += taken

        return call

    def of(self, run: Callable[[], Any], functions: list[tuple[Any, str, str]], times: int) -> dict[str, float]:
        """Seconds in each part of one of `times` calls of `run`; functions are (owner, name, part)."""
        with ExitStack() as stack:
            for owner, name, part in functions:
                stack.enter_context(mock.patch.object(owner, name, self.timed(getattr(owner, name), part)))
            start = self._clock()
            for _ in range(times):
                run()
            total = self._clock() - start
        rest = total - sum(self.seconds.values())
        return {part: seconds / times for part, seconds in [*self.seconds.items(), ("all else", rest)]}


def least(runs: list[dict[str, float]]) -> dict[str, float]:
    """Each part's least disturbed time, in ms."""
    return {part: 1000 * min(run.get(part, 0.0) for run in runs) for part in runs[0]}


def seconds(function: Callable, *arguments: Any) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start
