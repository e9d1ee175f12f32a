"""The engine's queue on paper: workers that take episodes from `EpisodeQueue` and spend measured seconds on them.

A discrete-event simulation: nothing sleeps, 512 workers take seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.episode import Episode
from evalkit.workers import EpisodeQueue


@dataclass(frozen=True)
class Costs:
    """Seconds: `build` a task's simulator, give one record to the driver (one at a time), and of an episode."""

    build: float
    driver: float
    episode: Callable[[Episode], float]


@dataclass(frozen=True)
class Outcome:
    """What a simulated run took. seconds: wall-clock; last: when each worker ended its last episode; builds: how many
    simulators were built; measuring: seconds of all episodes alone."""

    seconds: float
    last: tuple[float, ...]
    builds: int
    measuring: float

    @property
    def idle(self) -> float:
        """Share of all worker-time after a worker's last episode: the idle tail."""
        return float(np.mean(self.seconds - np.array(self.last)) / self.seconds)

    @property
    def efficiency(self) -> float:
        """Share of all worker-time that went into episodes."""
        return self.measuring / (len(self.last) * self.seconds)


def simulate(planned: Sequence[Episode], workers: int, costs: Costs) -> Outcome:
    """Run `planned` on `workers` workers; every free one asks the queue at once, the driver answers one at a time."""
    queue = EpisodeQueue(planned)
    free = [(0.0, number) for number in range(workers)]
    holds: list[tuple[str, int] | None] = [None] * workers
    last, builds, measuring, driver = [0.0] * workers, 0, 0.0, 0.0
    while free:
        now, number = heapq.heappop(free)
        last[number] = now
        episode = queue.take(holds[number])
        if episode is None:
            continue
        driver = max(now, driver) + costs.driver
        task = (episode.suite, episode.task)
        building = costs.build if holds[number] != task else 0.0
        builds, measuring = builds + (building > 0), measuring + costs.episode(episode)
        holds[number] = task
        heapq.heappush(free, (driver + building + costs.episode(episode), number))
    return Outcome(max(last), tuple(last), builds, measuring)
