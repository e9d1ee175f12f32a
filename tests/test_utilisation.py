"""Utilisation: busy workers over time, idle shares and the tail, worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evalkit.report import charts
from evalkit.report.utilisation import busy_workers, split, utilisation

#: (worker, started, ended): worker 0 is busy for 10 s without a break; worker 1 for 2, then 3, with 1 s between.
TWO = [(0, 100.0, 110.0), (1, 100.0, 102.0), (1, 103.0, 106.0)]


def episodes(rows, node="here") -> pd.DataFrame:
    """Rows of `evalkit.load`, as far as utilisation reads them; None: an old record, without times."""
    rows = [(f"toy/00/{index:03d}", 40, node if row else None, *(row or (None, None, None)))
            for index, row in enumerate(rows)]
    frame = pd.DataFrame(rows, columns=["id", "steps", "node", "worker", "started", "ended"])
    return frame.astype({"node": "string", "worker": "Int64", "started": float, "ended": float, "steps": "Int64"})


def test_shares_and_tail():
    """15 of 20 worker-seconds are busy; worker 1 has nothing to do from second 6 to 10, a fifth of all."""
    found = utilisation(episodes(TWO))
    assert (found.n, found.of, found.workers, found.seconds) == (3, 3, 2, 10.0)
    assert found.idle == pytest.approx(5 / 20) and found.tail_idle == pytest.approx(4 / 20)
    assert found.tail_seconds == 4.0 and found.tail == pytest.approx(0.6) and found.pauses == ()
    assert np.mean(found.busy) == pytest.approx(1.5) and found.busy[0] == 2 and found.busy[-1] == 1


def test_busy_workers_in_parts():
    """Five parts of 2 s: 2, then (2 + 1) / 2, 2, 1, 1 workers."""
    intervals = np.array([[start - 100, end - 100] for _, start, end in TWO])
    np.testing.assert_allclose(busy_workers(intervals, 10.0, 5), [2, 1.5, 2, 1, 1])


def test_a_night_between_two_sessions_is_left_out():
    """A run resumed after hours has two sessions; its share is over both, its tail that of the last."""
    later = [(worker, start + 40_000, end + 40_000) for worker, start, end in [*TWO, (0, 110.0, 116.0)]]
    found = utilisation(episodes([*TWO, *later]))
    assert found.seconds == 26.0 and found.pauses == pytest.approx((10 / 26,))
    assert found.idle == pytest.approx(1 - 36 / 52) and found.tail_seconds == 10.0
    assert len(split(episodes([*TWO, *later]))) == 2


def test_a_short_break_is_idle_time():
    """Nobody busy for a minute: no new session, the minute counts."""
    found = utilisation(episodes([(0, 0.0, 30.0), (0, 90.0, 120.0)]))
    assert found.seconds == 120.0 and found.idle == pytest.approx(0.5) and found.tail_seconds == 0.0


def test_seats_of_two_nodes_are_two_workers():
    """Runs merged from two machines have a worker 0 each."""
    found = utilisation(pd.concat([episodes([(0, 0.0, 4.0)]), episodes([(0, 0.0, 2.0)], node="there")]))
    assert found.workers == 2 and found.idle == pytest.approx(0.25)


def test_runs_side_by_side_on_one_machine():
    """Merged from two drivers at once, both have a worker 0: two were busy, so there were two."""
    found = utilisation(pd.concat([episodes([(0, 0.0, 4.0), (0, 4.0, 8.0)]), episodes([(0, 1.0, 3.0), (0, 3.5, 5.0)])]))
    assert found.workers == 2 and found.idle == pytest.approx(1 - 11.5 / 16)


def test_records_without_times_are_counted():
    """Old records are not guessed at: n says how many are known; with none there is nothing to say."""
    found = utilisation(episodes([*TWO, None]))
    assert (found.n, found.of) == (3, 4)
    assert utilisation(episodes([None, None])) is None and utilisation(episodes([])) is None


def test_the_drawing():
    """160 bars before the idle area, those after second 6 of 10 in the tail's colour, a line a pause."""
    later = [(0, 40_000.0, 40_010.0), (1, 40_000.0, 40_006.0)]
    drawn = charts.busy_over_time(utilisation(episodes(later)), "a label")
    assert drawn.count('class="busy"') == 96 and drawn.count('class="tail"') == 64 and drawn.count("pause") == 0
    assert 'aria-label="a label"' in drawn and "2 workers" in drawn and "10 s" in drawn
    drawn = charts.busy_over_time(utilisation(episodes([*TWO, *later])), "x")
    assert 'class="pause" x1="50%"' in drawn


@pytest.mark.parametrize("seconds, text", [(0.25, "0.25 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"),
                                           (12_600, "3.5 h")])
def test_durations(seconds, text):
    """Three digits and a unit."""
    assert charts.duration(seconds) == text
