"""Soak, short: hundreds of episodes leave the processes as they were, and nothing behind."""

from __future__ import annotations

import pytest

from benchmarks.soak import slope, soak, toy


def test_slope_by_hand():
    """2 MiB every hundred episodes, but for a start that is left out: 20 MiB a thousand."""
    samples = [{"episodes": 100 * count, "memory": {"driver": 50.0 if count < 3 else 2.0 * count}}
               for count in range(10)]
    assert slope(samples, "driver") == pytest.approx((20.0, 20.0, 20.0))


@pytest.mark.end_to_end
def test_hundreds_of_episodes_leave_nothing():
    """No zombie; no process, shared memory or folder left; the same processes from early on to the end, with no more
    handles (but for a connection or two that are open just now) and memory."""
    found = soak(*toy(200, workers=2))
    assert found["outcomes"] == {"failure": 200} and found["workers"] == 2
    assert (found["zombies"], found["processes_left"], found["left"]) == (0, 0, [])
    early, last = found["samples"][len(found["samples"]) // 4], found["samples"][-1]
    assert {"driver", "workers", "raylet", "gcs_server"} <= set(last["handles"])
    assert set(last["processes"]) == set(early["processes"])
    opened, grown = ({kind: last[what][kind] - early[what][kind] for kind in last[what]}
                     for what in ("handles", "memory"))
    assert max(opened.values()) <= 4 and max(grown.values()) < 10, (opened, grown)  # of 150 episodes; MiB
