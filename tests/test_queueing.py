"""The queue on paper: what workers wait for at the end of a whole benchmark, from costs like those measured."""

from __future__ import annotations

import pytest

from benchmarks.queueing import Costs, simulate
from evalkit.config import make_config
from evalkit.episode import Episode
from evalkit.plan import make_plan

#: Seconds: a control step with its share of a look, a reset, a simulator built, a record taken by the driver.
STEP, RESET, BUILD, DRIVER = 0.01, 0.3, 1.5, 0.005


def uneven(episode: Episode) -> float:
    """Two of three episodes succeed after 80 to 220 steps, the others run to their horizon."""
    generator = episode.generator("cost")
    steps = generator.integers(80, 220) if generator.random() < 2 / 3 else episode.max_steps
    return RESET + STEP * steps


def test_by_hand():
    """Two tasks of two episodes of 1 s, a build of 1 s: one worker takes 6 s, two take 3 s, four take 2 s and build
    each task twice."""
    planned = [Episode("toy", task, index, 1, 40) for task in range(2) for index in range(2)]
    costs = Costs(build=1.0, driver=0.0, episode=lambda episode: 1.0)
    ran = {workers: simulate(planned, workers, costs) for workers in (1, 2, 4)}
    assert {workers: (found.seconds, found.builds) for workers, found in ran.items()} == {
        1: (6.0, 2), 2: (3.0, 2), 4: (2.0, 4)}
    assert ran[2].idle == 0.0 and ran[2].efficiency == pytest.approx(4 / 6)


def test_one_slow_driver_holds_everybody():
    """A driver that takes 1 s a record is the limit, however many workers there are."""
    planned = [Episode("toy", 0, index, 1, 40) for index in range(20)]
    assert simulate(planned, 10, Costs(0.0, 1.0, lambda episode: 1.0)).seconds == pytest.approx(21.0)


@pytest.mark.parametrize("workers, over, idle", [(16, 1.03, 0.02), (64, 1.10, 0.06), (512, 1.9, 0.30)])
def test_tail_of_libero(workers, over, idle):
    """40 LIBERO tasks x 50 episodes: little above the least that so many workers can take (all busy to the end, each
    task built once), and a small part of the worker-time idle in the tail; 512 have four episodes each."""
    planned = make_plan(make_config({"suites": "libero", "policy": "noop", "episodes": "50"}))
    ran = simulate(planned, workers, Costs(BUILD, DRIVER, uneven))
    least = (sum(map(uneven, planned)) + BUILD * max(40, workers)) / workers
    assert ran.seconds / least < over and ran.idle < idle, (ran.seconds / least, ran.idle)


def test_a_long_task_is_shared_at_its_end():
    """One task of 50 episodes beside short ones: its last episodes are taken by all workers, not by the one that
    began it."""
    planned = [*(Episode("toy", 0, index, 1, 500) for index in range(50)),
               *(Episode("toy", task, 0, 1, 50) for task in range(1, 8))]
    ran = simulate(planned, 8, Costs(BUILD, DRIVER, lambda episode: STEP * episode.max_steps))
    assert ran.seconds < 50 and ran.idle < 0.15  # alone it would take 251 s
