"""How busy a run's workers were: over time, as a share, and at the end, when some have nothing left to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

#: Seconds without any busy worker that are taken as an interruption between two sessions and left out.
PAUSE = 300.0

#: Parts of the time axis.
BINS = 160


@dataclass(frozen=True)
class Session:
    """A stretch of a run without a pause: intervals (n, 2) in seconds from its start, and each one's worker (n,)."""

    intervals: np.ndarray
    workers: np.ndarray

    @property
    def seconds(self) -> float:
        """From the first episode's start to the last one's end."""
        return float(self.intervals[:, 1].max())

    @property
    def size(self) -> int:
        """Workers that measured anything; at least as many as were busy at once, since runs that went on side by side
        on one machine, merged, number theirs alike."""
        starts, ends = np.sort(self.intervals, axis=0).T
        at_once = np.arange(1, len(starts) + 1) - np.searchsorted(ends, starts, side="right")
        return max(len(np.unique(self.workers)), int(at_once.max()))

    @property
    def last_ends(self) -> np.ndarray:
        """When each worker ended its last episode, sorted."""
        return np.sort(pd.Series(self.intervals[:, 1]).groupby(self.workers).max().to_numpy())


@dataclass(frozen=True)
class Utilisation:
    """n: episodes whose times are known, of `of` recorded. idle, tail_idle: shares of all worker-time, the latter
    after a worker's last episode.

    busy: mean number of busy workers in each part of the time axis; tail: where the last session's tail begins (a
    share of the axis); pauses: where one session ends and the next begins (shares of the axis).
    """

    n: int
    of: int
    workers: int
    seconds: float
    idle: float
    tail_seconds: float
    tail_idle: float
    busy: tuple[float, ...]
    tail: float
    pauses: tuple[float, ...]


def utilisation(episodes: pd.DataFrame) -> Utilisation | None:
    """Of a run's recorded episodes (rows of `evalkit.load`); None where no record says when it was measured."""
    timed = episodes.dropna(subset=["started", "ended", "worker"])
    timed = timed[timed["ended"] > timed["started"]]
    if timed.empty:
        return None
    sessions = split(timed)
    starts = np.cumsum([0.0, *(session.seconds for session in sessions)])
    seconds, worker_time = starts[-1], sum(session.size * session.seconds for session in sessions)
    intervals = np.concatenate([session.intervals + start for session, start in zip(sessions, starts)])
    ends = sessions[-1].last_ends
    return Utilisation(
        n=len(timed), of=int(episodes["steps"].notna().sum()), workers=max(session.size for session in sessions),
        seconds=seconds, idle=1 - (intervals[:, 1] - intervals[:, 0]).sum() / worker_time,
        tail_seconds=float(ends[-1] - ends[0]), tail_idle=float((ends[-1] - ends).sum() / worker_time),
        busy=tuple(busy_workers(intervals, seconds, BINS)), tail=float((starts[-2] + ends[0]) / seconds),
        pauses=tuple(starts[1:-1] / seconds))


def split(timed: pd.DataFrame) -> list[Session]:
    """The sessions of a run: a resumed run has several."""
    timed = timed.sort_values(["started", "ended", "id"])
    intervals = timed[["started", "ended"]].to_numpy(float)
    seats = (timed["node"].fillna("") + " " + timed["worker"].astype(str)).to_numpy(str)
    reached = np.maximum.accumulate(intervals[:, 1])
    cuts = np.flatnonzero(intervals[1:, 0] - reached[:-1] > PAUSE) + 1
    return [Session(part - part[0, 0], names) for part, names in zip(np.split(intervals, cuts), np.split(seats, cuts))]


def busy_workers(intervals: np.ndarray, seconds: float, bins: int) -> np.ndarray:
    """How many `intervals` (n, 2) cover a moment, on average in each of `bins` equal parts of 0 to `seconds`."""
    edges = np.linspace(0, seconds, bins + 1)
    covered = [np.clip(edges, start, end) - start for start, end in intervals]  # seconds of it before each edge
    return np.diff(np.sum(covered, axis=0)) / (seconds / bins)
