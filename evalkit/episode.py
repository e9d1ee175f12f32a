"""Episode: everything a worker needs for one rollout, frozen, decided in the plan."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np

_ID = re.compile(r"(?P<suite>[a-z0-9_]+)/(?P<task>\d{2,})/(?P<index>\d{3,})")


@dataclass(frozen=True)
class Episode:
    """One planned rollout.

    suite: name of the suite, e.g. ``libero_spatial``.
    task: index of the task in its suite.
    index: episode of the task, from 0; for LIBERO also the init state.
    seed: all randomness of the episode comes from this number and the id, never from a worker.
    max_steps: policy steps allowed (control steps; wait steps are not counted).
    """

    suite: str
    task: int
    index: int
    seed: int
    max_steps: int

    @property
    def id(self) -> str:
        """``suite/task/index``, the same in the plan, the log, the video's name, the record and the table."""
        return episode_id(self.suite, self.task, self.index)

    def generator(self, purpose: str) -> np.random.Generator:
        """A random generator that depends on this episode's id, its seed and `purpose` alone."""
        return np.random.default_rng(stable_seed(self.id, self.seed, purpose))


def episode_id(suite: str, task: int, index: int) -> str:
    """The id of an episode: ``libero_spatial/03/017``."""
    return f"{suite}/{task:02d}/{index:03d}"


def parse_episode_id(text: str) -> tuple[str, int, int]:
    """(suite, task, index) of an episode id. Raises ValueError on anything else."""
    match = _ID.fullmatch(text)
    if match is None:
        raise ValueError(f"not an episode id: {text!r}; expected suite/task/index such as libero_spatial/03/017")
    return match["suite"], int(match["task"]), int(match["index"])


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from the parts, equal in every process and Python version (sha256, not `hash`)."""
    digest = hashlib.sha256("|".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
