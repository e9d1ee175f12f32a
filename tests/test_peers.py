"""`make bench-peers`: the same work for everybody, and what its figures mean."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.peers import check_equal, timed
from benchmarks.peers_dummy import HORIZON, chunk
from benchmarks.peers_report import ratio, ratio_from_start


def test_the_length_of_a_chunk_does_not_change_the_actions():
    """Chunks of 8 and of 16 put together are the same episode, and another episode is another one."""
    played = {length: np.concatenate([chunk(3, 0, step, length) for step in range(0, HORIZON, length)])[:HORIZON]
              for length in (8, 16)}
    assert played[8].shape == (HORIZON, 7)
    np.testing.assert_array_equal(played[8], played[16])
    assert set(played[8][:, 6]) == {-1, 1}
    assert not np.array_equal(played[8][:16], chunk(3, 1, 0, 16))


def pool_row(task: int, index: int, worker: int, begin: float, end: float, busy: float) -> dict:
    return {"task": task, "index": index, "worker": worker, "begin": begin, "end": end, "busy": busy}


def test_only_an_episode_after_its_task_s_first_one_in_the_same_worker_is_warm():
    """Worker 7 builds task 0 in 2 s, plays it twice, and then takes a second episode of worker 8's task."""
    rows = [pool_row(0, 0, 7, 12.0, 15.0, 3.0), pool_row(0, 1, 7, 15.5, 17.5, 4.5), pool_row(1, 1, 7, 18.5, 21.0, 7.0),
            pool_row(1, 0, 8, 13.0, 19.0, 5.0)]
    first, second, foreign, stolen = timed(rows, ready=10.0, driver=0.25)
    assert (first["build"], first["seconds"]) == (2.0, 3.0) and "cpu" not in first
    assert (second["build"], second["seconds"], second["cpu"]) == (0.0, 2.5, 1.75)
    assert (foreign["build"], foreign["seconds"]) == (3.0, 6.0)
    assert (stolen["build"], stolen["seconds"]) == (1.0, 2.5) and "cpu" not in stolen


def episode(task: int, build: float, seconds: float, cpu: float = 1.0, **more: object) -> dict:
    return {"task": task, "build": build, "seconds": seconds, "cpu": cpu, **more}


def test_ratios_are_over_the_tasks_that_both_played():
    """20 s against 2 s on task 0; task 1, which the peer did not play, does not count."""
    peer = {"start": 5.0, "processes": 1, "episodes": [episode(0, 1.0, 20.0, 18.0)]}
    ours = {"start": 7.0, "processes": 2, "episodes": [episode(0, 1.0, 3.0), episode(0, 0.0, 2.0, 1.5),
                                                       episode(1, 1.0, 90.0), episode(1, 0.0, 90.0, 90.0)]}
    assert ratio(peer, ours, "seconds") == 10.0
    assert ratio(peer, ours, "cpu") == 12.0
    assert ratio_from_start(peer, ours, tasks=10) == (5 + 10 * 21) / (7 + 10 * 4 / 2)


def test_figures_of_different_work_are_refused():
    """An episode that ends elsewhere than another program's is no comparison."""
    script = {"episodes": [episode(0, 1.0, 20.0, index=0, bits="a", pose=[0.5])]}
    vla_eval = {"episodes": [episode(0, 1.0, 30.0, index=0, pose=[0.5])]}
    ours = {"episodes": [episode(0, 0.0, 2.0, index=0, bits="a"), episode(4, 0.0, 2.0, index=0, bits="c")]}
    assert check_equal({"script": script, "vla-eval": vla_eval, "evalkit": ours}) == 2
    ours["episodes"][0]["bits"] = "b"
    with pytest.raises(RuntimeError, match="evalkit, task 0: the episode ended at b, that of script at a"):
        check_equal({"script": script, "evalkit": ours})
