"""What several test files need: the toy environment in this process, a policy of literal speeds, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evalkit.episode import Episode
from evalkit.paths import PROJECT
from evalkit.policy import Policy
from evalkit.registry import load_suite
from evalkit.specs import PolicySpec
from evalkit.suite import Env, EnvOptions
from suites.toy.suite import ToyEnv

NEAR, FAR, UNREACHABLE = 0, 1, 2


def toy_env(task: int = NEAR, rule: str = "any_step", views: tuple[str, ...] = ("top",), kind: type = ToyEnv) -> Env:
    """The toy environment under either success rule."""
    return kind(replace(load_suite("toy"), success_rule=rule), task, EnvOptions(views))


def toy_episode(task: int = NEAR, index: int = 0, max_steps: int = 40) -> Episode:
    """An episode of the toy suite whose seed is made from its task and index."""
    return Episode("toy", task, index, seed=100 * task + index, max_steps=max_steps)


class Drive(Policy):
    """Moves along the line to the goal with literal `speeds`, one a step, then stands still; 1 is 0.05 m a step."""

    def __init__(self, speeds: Sequence[float], chunk: int = 1, executed: int | None = None, **spec):
        self.speeds = speeds
        self.spec = PolicySpec("drive", chunk_length=chunk, executed_steps=executed or chunk, **spec)
        self.seen: list = []

    def act(self, observations):
        self.seen += observations
        return [self.chunk(observation) for observation in observations]

    def chunk(self, observation) -> np.ndarray:
        """The speeds of the coming steps, along the goal's direction."""
        start = observation.step
        coming = [*self.speeds[start:start + self.spec.chunk_length], *[0.0] * self.spec.chunk_length]
        goal = observation.state["goal"]
        return np.outer(coming[:self.spec.chunk_length], goal / np.linalg.norm(goal))


def command(*arguments: object) -> list[str]:
    """The command line of evalkit in this interpreter."""
    return [sys.executable, "-m", "evalkit.cli", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """Environment variables under which `tests` can be imported from any folder."""
    return {**os.environ, "PYTHONPATH": str(PROJECT), "COLUMNS": "120", **more}


def evalkit(*arguments: object, cwd: Path, **more: str) -> subprocess.CompletedProcess:
    """Run evalkit in folder `cwd` and wait for it."""
    return subprocess.run(command(*arguments), cwd=cwd, env=environment(**more), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=300, check=False)


def refused(commands: Iterable[Sequence[object]], cwd: Path) -> list[subprocess.CompletedProcess]:
    """What each of several short command lines gives in folder `cwd`; none may start Ray."""
    asked = [[str(part) for part in arguments] for arguments in commands]
    done = subprocess.run([sys.executable, "-m", "tests.many_commands"], cwd=cwd, env=environment(), check=True,
                          input=json.dumps(asked), capture_output=True, text=True, timeout=300)
    return [subprocess.CompletedProcess(arguments, *result)
            for arguments, result in zip(asked, json.loads(done.stdout))]


def lines(run: Path) -> list[dict]:
    """The lines of a run's episodes.jsonl, as they are."""
    return [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]


def planned_ids(tasks: Sequence[int], count: int) -> list[str]:
    """Ids of the first `count` episodes of some tasks of the toy suite."""
    return [f"toy/{task:02d}/{index:03d}" for task in tasks for index in range(count)]
