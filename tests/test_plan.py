"""Plan: from a config to episodes, and to the groups in which workers take them."""

from __future__ import annotations

import pytest

from evalkit.config import make_config
from evalkit.episode import Episode, stable_seed
from evalkit.plan import group_by_task, make_plan, planned_steps


def plan(**values) -> list[Episode]:
    return make_plan(make_config({"suites": "toy", "policy": "noop", **values}))


def test_plan_holds_exactly_what_was_asked():
    """Chosen tasks times chosen episodes, in order, nothing else."""
    assert [episode.id for episode in plan(tasks="0,2", episodes="3:5")] == [
        "toy/00/003", "toy/00/004", "toy/02/003", "toy/02/004"]


@pytest.mark.parametrize("suites, count", [("toy", 3 * 20), ("libero", 4 * 10 * 50), ("libero_90,toy", 93 * 20)])
def test_whole_plans(suites, count):
    """Without a choice of tasks a plan holds all of them, no id twice."""
    ids = [episode.id for episode in plan(suites=suites, episodes="20" if "," in suites else None)]
    assert len(ids) == len(set(ids)) == count


def test_horizon_is_the_suites():
    """Each episode carries the horizon of its own suite."""
    horizons = {episode.suite: episode.max_steps for episode in plan(suites="libero_10,toy", episodes="1")}
    assert horizons == {"libero_10": 520, "toy": 40}


def test_per_episode_seeds_are_distinct():
    """No two episodes of a plan share a seed, and each fits into 32 bits."""
    seeds = [episode.seed for episode in plan(suites="libero", seed_policy="per_episode")]
    assert len(set(seeds)) == len(seeds) == 2000
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("subset", [{"tasks": "1"}, {"tasks": "1,2", "episodes": "3:9"}, {"suites": "toy,libero_10",
                                                                                         "tasks": "1", "episodes": "7",
                                                                                         "seed_policy": "per_episode"}])
def test_seeds_do_not_depend_on_the_choice(subset):
    """An episode has the same seed in a whole plan and in any part of it."""
    whole = {episode.id: episode for episode in plan()}
    part = [episode for episode in plan(**subset) if episode.suite == "toy"]
    assert part and all(episode == whole[episode.id] for episode in part)


def test_per_episode_seed_never_changes():
    """Base seed 7, toy, task 2, episode 5: the hash of the parts, to 32 bits; old runs stay reproducible."""
    episode = next(episode for episode in plan() if episode.id == "toy/02/005")
    assert episode.seed == stable_seed(7, "toy", 2, 5) % 2**32 == 816405972


def test_another_base_seed_gives_other_seeds():
    """The base seed is used."""
    assert {episode.seed for episode in plan()}.isdisjoint(episode.seed for episode in plan(seed=8))


def test_other_seed_policies_keep_the_base_seed():
    """`fixed` and `reference` hand the base seed to every episode."""
    assert {episode.seed for episode in plan(seed_policy="fixed", seed=3)} == {3}
    assert {episode.seed for episode in plan(suites="libero_goal", episodes="2")} == {7}


def test_groups_are_whole_tasks_longest_first():
    """Each task is one group in the order of its episodes; groups with most planned steps come first."""
    episodes = plan(suites="toy,libero_10,libero_goal", tasks="0-1", episodes="2", seed_policy="per_episode")
    groups = group_by_task(reversed(episodes))
    assert [(group[0].suite, group[0].task) for group in groups] == [
        ("libero_10", 0), ("libero_10", 1), ("libero_goal", 0), ("libero_goal", 1), ("toy", 0), ("toy", 1)]
    assert all([episode.index for episode in group] == [0, 1] for group in groups)
    steps = [planned_steps(group) for group in groups]
    assert steps == [1040, 1040, 600, 600, 80, 80]


def test_a_resumed_task_counts_what_is_left():
    """Length is that of the remaining episodes, not of the task."""
    left = [Episode("toy", 0, 9, 1, 40), *(Episode("toy", 2, index, 1, 40) for index in range(3))]
    assert [group[0].task for group in group_by_task(left)] == [2, 0]


def test_grouping_loses_nothing():
    """Groups hold each episode exactly once; no episodes, no groups."""
    episodes = plan()
    assert sorted(episode.id for group in group_by_task(episodes) for episode in group) == sorted(
        episode.id for episode in episodes)
    assert group_by_task([]) == [] and planned_steps([]) == 0
