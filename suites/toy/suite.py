"""The toy suite: move a point to a goal. Runs in the driver's own interpreter."""

from __future__ import annotations

import hashlib
import time

import numpy as np

from evalkit.episode import Episode
from evalkit.specs import ActionSpec
from evalkit.suite import Env, EnvOptions, Observation, Suite, Task

#: Task name -> distance from start to goal, in metres. At 0.05 m a step, `far` needs 20 of the 40 steps.
DISTANCES = {"near": 0.3, "far": 1.0, "unreachable": 9.0}

STEP_LENGTH = 0.05
GOAL_RADIUS = 0.05


def make_suite(name: str) -> Suite:
    """The only suite of this folder."""
    return Suite(
        name=name, tasks=tuple(Task(index, task, f"go to the {task} goal") for index, task in enumerate(DISTANCES)),
        episodes_per_task=20, max_steps=40, wait_steps=0, control_hz=20.0, success_rule="any_step",
        views={"top": (32, 32, 3)}, state={"pos": 2, "goal": 2},
        action=ActionSpec({"velocity": 2}, "planar velocity in [-1, 1]", low=-1.0, high=1.0),
        hold_action=(0.0, 0.0), env="suites.toy.suite:ToyEnv", seed_policies=("per_episode", "fixed"),
    )


class ToyEnv(Env):
    """A point that moves by `STEP_LENGTH` times the clipped action; the goal's direction comes from the episode."""

    def __init__(self, suite: Suite, task: int, options: EnvOptions):
        super().__init__(suite, task, options)
        self._looked, self._seconds = False, 0.0

    @property
    def render_seconds(self) -> float:
        return self._seconds

    def reset(self, episode: Episode) -> None:
        angle = np.random.default_rng(episode.seed).uniform(0, 2 * np.pi)
        self._episode, self._step = episode, 0
        self._pos = np.zeros(2)
        self._goal = DISTANCES[self.task.name] * np.array([np.cos(angle), np.sin(angle)])
        self._look(bool(self.options.views))

    def step(self, action: np.ndarray, look: bool) -> bool:
        self._step += 1
        self._pos = self._pos + STEP_LENGTH * np.clip(np.asarray(action, float), -1, 1)
        self._look(look and bool(self.options.views))
        return bool(np.linalg.norm(self._pos - self._goal) < GOAL_RADIUS)

    def _look(self, look: bool) -> None:
        start = time.perf_counter()
        self._looked = look
        if look:
            self._image = np.zeros((32, 32, 3), np.uint8)
            for point, colour in ((self._goal, (255, 0, 0)), (self._pos, (255, 255, 255))):
                row, column = np.clip((point * 12 + 16).astype(int), 0, 31)
                self._image[row, column] = colour
        self._seconds += time.perf_counter() - start

    def observe(self) -> Observation:
        views = {name: self._image.copy() for name in self.options.views} if self._looked else {}
        state = {"pos": self._pos.copy(), "goal": self._goal.copy()}
        return Observation(views, state, self.task.instruction, self._episode, self._step)

    def state_sha(self) -> str:
        return hashlib.sha256(self._pos.tobytes() + self._goal.tobytes()).hexdigest()[:16]

    @property
    def simulator(self) -> ToyEnv:
        return self

    def close(self) -> None:
        return None
