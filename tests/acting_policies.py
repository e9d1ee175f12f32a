"""Policies that act in processes of their own, for tests; addressed as ``tests.acting_policies:Class``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from evalkit.errors import InputError
from evalkit.policy import DRIVER, Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Suite


class Elsewhere(Policy):
    """Drifts at random (from each query's own seed) toward the goal; acts in a process of the driver's Python.

    folder: one line a batch goes to ``<folder>/batches``: process id, size, instructions. kill_at, hang_at: the
    number of the batch, counted over all processes, in which the process kills itself or sleeps. fail: id of an
    episode whose queries always raise. refuse: `load` raises InputError.
    """

    interpreter = DRIVER

    def __init__(self, suite: Suite, folder: str, kill_at: int = 0, hang_at: int = 0, fail: str = "",
                 refuse: bool = False, seconds: float = 0.0):
        self.spec = PolicySpec("elsewhere", state=("pos", "goal"), chunk_length=3, executed_steps=2)
        self.log, self.kill_at, self.hang_at, self.fail = Path(folder) / "batches", kill_at, hang_at, fail
        self.refuse, self.seconds = refuse, seconds

    def load(self):
        if self.refuse:
            raise InputError("checkpoint X lacks the key 'y'; pass another --checkpoint")

    def describe(self):
        return {"parameters": 0, "checkpoint": {"path": "none", "sha256": "0" * 64}}

    def act(self, observations):
        with open(self.log, "a") as file:
            print(os.getpid(), len(observations), *{item.episode.id for item in observations}, file=file)
        count = len(self.log.read_text().splitlines())
        if count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if count == self.hang_at:
            time.sleep(3600)
        if any(item.episode.id == self.fail for item in observations):
            raise RuntimeError("this episode cannot be answered")
        time.sleep(self.seconds)
        return [self.chunk(item) for item in observations]

    def chunk(self, observation) -> np.ndarray:
        direction = observation.state["goal"] - observation.state["pos"]
        noise = observation.generator("drift").normal(scale=0.3, size=(3, 2))
        return direction / max(float(np.hypot(*direction)), 1e-9) + noise


class InWorker(Elsewhere):
    """The same, inside the rollout workers."""

    interpreter = ""


class Counting(Policy):
    """Stateful: the n-th query of an episode moves by n / 40; forgets at reset."""

    interpreter = DRIVER

    def __init__(self, suite: Suite):
        self.spec = PolicySpec("counting", state=("pos",), stateful=True)
        self.queries: dict[str, int] = {}

    def reset(self, episode):
        self.queries[episode.id] = 0

    def act(self, observations):
        for item in observations:
            self.queries[item.episode.id] += 1
        return [np.full((1, 2), self.queries[item.episode.id] / 40) for item in observations]


def drift(observation) -> np.ndarray:
    """A plain function: toward the goal with noise of the query's own seed."""
    direction = observation.state["goal"] - observation.state["pos"]
    return direction / max(float(np.hypot(*direction)), 1e-9) + observation.generator("drift").normal(
        scale=0.3, size=2)


class Telling(Policy):
    """Moves at random and tells where: ``<folder>/<suite>-<task>-<index>`` holds the interpreter's folder.

    together: no episode goes on until so many have begun, so that as many workers take part.
    """

    def __init__(self, suite: Suite, folder: str, together: int = 1):
        self.spec = PolicySpec("telling", chunk_length=4, executed_steps=4)
        self.folder, self.together, self.action = Path(folder), together, suite.action

    def reset(self, episode):
        (self.folder / episode.id.replace("/", "-")).write_text(sys.prefix)
        end = time.monotonic() + 240
        while len(list(self.folder.iterdir())) < self.together:
            if time.monotonic() > end:
                raise TimeoutError(f"fewer than {self.together} episodes have begun")
            time.sleep(0.05)

    def act(self, observations):
        return [item.generator("actions").uniform(-1, 1, (4, self.action.size)).astype(np.float32)
                for item in observations]
