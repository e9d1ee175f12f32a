"""Episode: everything a worker needs for one rollout, frozen, decided in the plan."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from evalkit.errors import shown

#: Bounded, so that an id is short and its numbers fit any column.
_ID = re.compile(r"(?P<suite>[a-z0-9_]{1,64})/(?P<task>[0-9]{2,9})/(?P<index>[0-9]{3,9})")


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
    """(suite, task, index) of an episode id. Raises ValueError on anything else, also on another spelling of an id."""
    match = _ID.fullmatch(text)
    parts = (match["suite"], int(match["task"]), int(match["index"])) if match else None
    if parts is None or episode_id(*parts) != text:
        raise ValueError(f"not an episode id: {shown(text)}; expected suite/task/index such as libero_spatial/03/017")
    return parts


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from the parts, equal in every process and Python version (sha256, not `hash`)."""
    digest = hashlib.sha256("|".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
