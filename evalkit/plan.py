"""Plan: from a config to the list of episodes, and to the groups in which workers take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from evalkit.config import RunConfig
from evalkit.episode import Episode, stable_seed
from evalkit.registry import load_suite


def make_plan(config: RunConfig) -> list[Episode]:
    """Every episode of the run, by suite, task and index. Nothing random is decided after this."""
    return [
        Episode(suite=name, task=task, index=index, seed=_seed(config, name, task, index),
                max_steps=load_suite(name).max_steps)
        for name in config.suites
        for task in (config.tasks if config.tasks is not None else range(len(load_suite(name).tasks)))
        for index in range(*config.episodes)
    ]


def _seed(config: RunConfig, suite: str, task: int, index: int) -> int:
    """The episode's seed: its own under `per_episode`, the base seed for every other policy."""
    if config.seed_policy != "per_episode":
        return config.seed
    return stable_seed(config.seed, suite, task, index) % 2**32  # numpy's global generator takes 32 bits


def group_by_task(episodes: Iterable[Episode]) -> list[list[Episode]]:
    """Episodes of one task together (an Env is built once a task), groups with most planned steps first."""
    ordered = sorted(episodes, key=lambda episode: (episode.suite, episode.task, episode.index))
    groups = [list(group) for _, group in groupby(ordered, key=lambda episode: (episode.suite, episode.task))]
    return sorted(groups, key=planned_steps, reverse=True)


def planned_steps(episodes: Sequence[Episode]) -> int:
    """Upper bound of the policy steps that `episodes` take."""
    return sum(episode.max_steps for episode in episodes)
