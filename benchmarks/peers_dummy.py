"""The dummy policy of `make bench-peers`: the same actions for everybody, whatever the length of a chunk."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from evalkit.episode import Episode
from evalkit.policy import Policy
from evalkit.records import Record
from evalkit.specs import PolicySpec
from evalkit.suite import Observation, Suite

#: Control steps of an episode, and of the actions kept for one (a last chunk may reach beyond the horizon).
HORIZON, LENGTH = 100, 128


def chunk(task: int, index: int, step: int, length: int) -> np.ndarray:
    """Actions (length, 7) float32 of episode `index` of `task` from `step` on: random poses, gripper open or closed."""
    generator = np.random.default_rng([task, index])
    actions = generator.uniform(-1, 1, (LENGTH, 7)).astype(np.float32)
    actions[:, -1] = np.where(actions[:, -1] < 0, -1, 1)  # vla-eval sends nothing between
    return actions[step:step + length]


class Dummy(Policy):
    """Looks at both views at each query and answers from `chunk`.

    begun: a file that gets a line "task index time process" whenever an episode begins.
    """

    def __init__(self, suite: Suite, length: int = 16, begun: str = ""):
        self.spec = PolicySpec("dummy", views=tuple(suite.views), state=tuple(suite.state), chunk_length=length,
                               executed_steps=length)
        self._begun = begun

    def reset(self, episode: Episode) -> None:
        if self._begun:
            with open(self._begun, "a") as file:
                file.write(f"{episode.task} {episode.index} {time.time()} {os.getpid()}\n")

    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        return [chunk(seen.episode.task, seen.episode.index, seen.step, self.spec.chunk_length)
                for seen in observations]


def phase_seconds(record: Record) -> dict[str, float]:
    """Seconds of an episode of evalkit's by phase."""
    return {"reset and wait steps": record.seconds_reset, "pictures": record.seconds_render,
            "steps": record.seconds_physics, "policy": record.seconds_policy}
