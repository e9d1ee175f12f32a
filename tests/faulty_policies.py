"""Policies that are slow or fail on purpose, addressed as ``tests.faulty_policies:Class``."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np

from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Suite


class Slow(Policy):
    """Goes to the goal and sleeps `seconds` before each action, so that a run can be interrupted half-way."""

    def __init__(self, suite: Suite, seconds: float = 0.005):
        self.spec = PolicySpec("slow", state=("pos", "goal"))
        self.seconds = seconds

    def act(self, observations):
        time.sleep(self.seconds)
        return [toward_goal(observation.state) for observation in observations]


class Faulty(Policy):
    """Goes to the goal, but fails in the second query of some episodes, named by their ids (comma-separated).

    raise_once, kill_once: only in the first attempt, remembered by a marker file in `markers`; kill_once ends its own
    process with SIGKILL. raise_always; hang_always: sleeps until it is killed.
    """

    def __init__(self, suite: Suite, markers: str = ".", raise_once: str = "", kill_once: str = "",
                 raise_always: str = "", hang_always: str = ""):
        self.spec = PolicySpec("faulty", state=("pos", "goal"))
        self.markers = Path(markers)
        self.faults = {"raise_once": raise_once.split(","), "kill_once": kill_once.split(","),
                       "raise_always": raise_always.split(","), "hang_always": hang_always.split(",")}

    def act(self, observations):
        for observation in observations:
            if observation.step == 1:
                self.fail(observation.episode.id)
        return [toward_goal(observation.state) for observation in observations]

    def fail(self, episode: str) -> None:
        if episode in self.faults["raise_once"] and self.first_time(episode):
            raise RuntimeError("a fault that does not come again")
        if episode in self.faults["kill_once"] and self.first_time(episode):
            os.kill(os.getpid(), signal.SIGKILL)
        if episode in self.faults["raise_always"]:
            raise RuntimeError("a fault that always comes")
        if episode in self.faults["hang_always"]:
            time.sleep(3600)

    def first_time(self, episode: str) -> bool:
        marker = self.markers / episode.replace("/", "-")
        if marker.exists():
            return False
        marker.touch()
        return True


class Unfit(Policy):
    """Needs a camera view and a state group that no suite has."""

    def __init__(self, suite: Suite):
        self.spec = PolicySpec("unfit", views=("thermal",), state=("mood",))

    def act(self, observations):
        raise AssertionError("never reached: the spec does not fit")


def toward_goal(state) -> np.ndarray:
    """One action (1, 2) at full speed toward the goal."""
    direction = state["goal"] - state["pos"]
    return (direction / max(float(np.linalg.norm(direction)), 1e-9))[None]


class KillsItselfOnce(Policy):
    """Holds still on any suite; its first process dies by SIGKILL in mid-episode, remembered by the file `marker`."""

    def __init__(self, suite: Suite, marker: str):
        self.spec = PolicySpec("kills itself once")
        self.marker = Path(marker)
        self.suite = suite

    def act(self, observations):
        if any(observation.step == 5 for observation in observations) and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [self.suite.hold(observation)[None] for observation in observations]


class LeavesItsProcess(Policy):
    """Holds still; writes the id of the process that ran an episode into a file of that episode in `folder`."""

    def __init__(self, suite: Suite, folder: str):
        self.spec = PolicySpec("leaves its process")
        self.suite, self.folder = suite, Path(folder)

    def reset(self, episode):
        (self.folder / episode.id.replace("/", "-")).write_text(str(os.getpid()))

    def act(self, observations):
        return [self.suite.hold(observation)[None] for observation in observations]


class Plagued(Policy):
    """Moves at random (from each query's own seed) on any suite; something breaks in the second query of some episodes.

    faults: ``kind=episode id``, comma-separated. What befalls the process (kill, stopped, native, endless, placement)
    comes once, remembered by a file in `markers`; a wrong answer (nan, shape, nothing, raise) until that folder holds
    a file ``mended``. grow_mb: memory that every episode leaves behind. seconds: that each query takes.
    """

    def __init__(self, suite: Suite, markers: str = ".", faults: str = "", grow_mb: int = 0, seconds: float = 0.0):
        self.spec = PolicySpec("plagued", chunk_length=4, executed_steps=4)
        self.suite, self.markers, self.grow_mb, self.seconds = suite, Path(markers), grow_mb, seconds
        self.faults = {episode: kind for kind, episode in (fault.split("=") for fault in faults.split(",") if fault)}
        self.left_behind: list[np.ndarray] = []

    def reset(self, episode):
        self.left_behind.append(np.ones(self.grow_mb * 2**17))
        (self.markers / f"process-{os.getpid()}").touch()
        if self.faults.get(episode.id) == "placement" and self.comes(episode.id, "placement"):
            no_placement()

    def act(self, observations):
        time.sleep(self.seconds)
        return self.chunks(observations[0])

    def chunks(self, observation) -> list[np.ndarray] | None:
        """The answer, or what the episode's fault makes of it."""
        chunk = np.array([self.suite.hold(observation)] * 4)
        chunk += observation.generator("move").normal(scale=0.3, size=chunk.shape)
        kind = self.faults.get(observation.episode.id) if observation.step == 4 else None
        if kind in BEFALLS and self.comes(observation.episode.id, kind):
            BEFALLS[kind]()
        if kind in SPOILS and not (self.markers / "mended").exists():
            return SPOILS[kind](chunk)
        return [chunk]

    def comes(self, episode: str, kind: str) -> bool:
        """Whether the fault has not come before."""
        marker = self.markers / f"{kind}-{episode.replace('/', '-')}"
        if marker.exists():
            return False
        marker.touch()
        return True


def endless() -> None:
    """What LIBERO's own reset does when no placement is possible: swallow whatever comes, for ever."""
    while True:
        try:
            raise RuntimeError("no placement")
        except BaseException:
            continue


def no_placement() -> None:
    """Let every placement of the coming LIBERO reset fail, as upstream's samplers fail when a region is full."""
    from robosuite.environments.base import MujocoEnv
    from robosuite.utils.errors import RandomizationError

    before = MujocoEnv._reset_internal

    def fail(env):
        fail.calls += 1
        if fail.calls == 1000:  # evalkit gives up after so many: the next attempt is undisturbed
            MujocoEnv._reset_internal = before
        raise RandomizationError("Cannot place all objects ):")

    fail.calls, MujocoEnv._reset_internal = 0, fail


def refuse(chunk) -> None:
    raise RuntimeError("the policy gave up")


#: Kind -> what befalls the process. `native` keeps the interpreter's lock while it sleeps in C.
BEFALLS = {"kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
           "stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
           "native": lambda: ctypes.PyDLL(None).sleep(3600), "endless": endless}

#: Kind -> what becomes of a chunk.
SPOILS = {"nan": lambda chunk: [chunk * np.nan], "shape": lambda chunk: [chunk[:, :1]], "nothing": lambda chunk: None,
          "raise": refuse}
