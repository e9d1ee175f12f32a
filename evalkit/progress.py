"""Progress: what a rollout loop does, told to the driver, so that one that hangs is noticed whatever it hangs in."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

#: The longest that a watching process credits between two looks, in seconds: a clock that jumps, a machine that was
#: suspended or a driver that was stopped makes nobody look stuck.
LEAP = 10.0


@dataclass(frozen=True)
class Beat:
    """What a worker tells: number of this message, phases its loop has entered, the phase it is in, the seconds that it
    may stay there beyond the usual limit, and what the user should last have heard of."""

    number: int = 0
    count: int = 0
    phase: str = "start"
    patience: float = 0.0
    note: str = ""

    def packed(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def read_beat(packed: bytes | None) -> Beat | None:
    """The Beat in `packed`, if a worker has told anything yet."""
    return None if packed is None else Beat(**json.loads(packed))


class Progress:
    """Advanced by the rollout loop of one process, at every reset, query and step."""

    def __init__(self) -> None:
        self.now = Beat()

    def enter(self, phase: str, patience: float = 0.0) -> None:
        """The loop begins `phase`, and may take `patience` seconds more than usual: its policy waits for others."""
        self.now = replace(self.now, count=self.now.count + 1, phase=phase, patience=patience)

    def say(self, note: str) -> None:
        """Let the driver tell the user; what a worker prints stays in its log."""
        self.now = replace(self.now, note=note)

    def tell(self, send: Callable[[bytes], None], seconds: float) -> None:
        """From now on, `send` the loop's own count every `seconds` from a thread.

        The thread proves nothing by itself: it repeats a count that only the loop advances, and falls silent when
        native code keeps the interpreter's lock or the process is stopped.
        """
        def repeat() -> None:
            number = 0
            while True:
                number += 1
                send(replace(self.now, number=number).packed())
                time.sleep(seconds)

        threading.Thread(target=repeat, daemon=True, name="progress").start()


class SteadyClock:
    """Seconds that this process saw pass, at most `LEAP` between two looks."""

    def __init__(self) -> None:
        self._last, self._seen = time.monotonic(), 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        self._seen += min(now - self._last, LEAP)
        self._last = now
        return self._seen


class Watch:
    """One worker as the driver sees it. Times are a SteadyClock's.

    stall: seconds in which its loop must enter another phase, beyond the patience that it has asked for.
    """

    def __init__(self, stall: float, now: float):
        self.stall, self.beat = stall, Beat()
        self.restart(now)

    def restart(self, now: float) -> None:
        """An episode begins."""
        self._heard = self._advanced = now

    def hear(self, beat: Beat | None, now: float) -> None:
        """The last that the worker told; its note is printed once."""
        if beat is None:
            return
        if beat.note != self.beat.note:
            print(f"notice: {beat.note}", file=sys.stderr)
        if beat.number != self.beat.number:
            self._heard = now
        if beat.count != self.beat.count:
            self._advanced = now
        self.beat = beat

    def problem(self, now: float) -> str:
        """What is wrong; empty: nothing. A worker that has never told anything (its messages may not come through) is
        left to the episode's own timeout."""
        silent, still = now - self._heard, now - self._advanced
        if not self.beat.number or (silent <= self.stall and still <= self.stall + self.beat.patience):
            return ""
        if silent > self.stall / 2:
            return f"it has not answered for {silent:.0f} s (stopped, or stuck in native code)"
        return f"it made no progress for {still:.0f} s, in phase {self.beat.phase!r}"
