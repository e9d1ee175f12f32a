"""Replay: plays back recorded actions. `evalkit run --record-actions` writes them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Observation, Suite
from evalkit.wire import read_npy

#: Bytes of an episode's actions at most: a thousand times what the longest has.
LONGEST = 64 * 2**20


class Replay(Policy):
    """Actions of a run recorded with ``--record-actions``.

    actions: the run's folder, or a .npz whose keys are ``suite/task/index`` and whose arrays are (steps, D) float32.
    When a recording is over, the suite's hold action follows until the horizon.
    """

    def __init__(self, suite: Suite, actions: str = ""):
        if not actions:
            raise InputError("policy 'replay' needs a recording: --policy-option actions=RUN_FOLDER_OR_NPZ "
                             "(make one with `evalkit run ... --record-actions`)")
        self.spec = PolicySpec("replay")
        self._source = Recording(Path(actions))
        self._suite = suite
        self._size = suite.action.size
        self._actions: dict[str, np.ndarray] = {}

    def check_plan(self, episodes: Sequence[Episode]) -> None:
        absent = [episode.id for episode in episodes if episode not in self._source]
        if absent:
            raise InputError(f"the recording {self._source.path} lacks {len(absent)} of {len(episodes)} planned "
                             f"episodes, for example {absent[0]}; choose others with --tasks and --episodes")

    def reset(self, episode: Episode) -> None:
        actions = self._source[episode].astype(np.float32)
        if actions.ndim != 2 or actions.shape[1] != self._size:
            raise ValueError(f"recorded actions of {episode.id} have shape {actions.shape}, expected "
                             f"(steps, {self._size})")
        self._actions[episode.id] = actions

    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        return [self._next(observation) for observation in observations]

    def _next(self, observation: Observation) -> np.ndarray:
        actions, step = self._actions[observation.episode.id], observation.step
        return actions[step:step + 1] if step < len(actions) else self._suite.hold(observation)[None]


class Recording:
    """Recorded actions by episode: a run's ``actions/`` folder or one .npz file."""

    def __init__(self, path: Path):
        self.path = path.resolve()
        folder = self.path / "actions"
        if self.path.is_file():
            try:
                with zipfile.ZipFile(self.path) as archive:
                    self._keys = {name.removesuffix(".npy") for name in archive.namelist()}
            except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
                raise InputError(f"{path} is not a .npz file: {error}") from error
        elif folder.is_dir():
            self._keys = None
        else:
            raise InputError(f"no recorded actions in {path}: expected a .npz file, or a run made with "
                             "--record-actions (it has an actions/ folder)")

    def _name(self, episode: Episode) -> str:
        """The episode's key: its id, or the same without leading zeros."""
        plain = f"{episode.suite}/{episode.task}/{episode.index}"
        return plain if self._keys is not None and plain in self._keys else episode.id

    def _file(self, episode: Episode) -> Path:
        return self.path / "actions" / f"{episode.id}.npy"

    def __contains__(self, episode: Episode) -> bool:
        return self._file(episode).is_file() if self._keys is None else self._name(episode) in self._keys

    def __getitem__(self, episode: Episode) -> np.ndarray:
        """(steps, D) as it was written. Raises ValueError for a file that holds anything else, and for one that claims
        to hold more than `LONGEST` bytes, before there is room for them."""
        if self._keys is None:
            return np.lib.format.open_memmap(self._file(episode), mode="r")
        with zipfile.ZipFile(self.path) as archive:
            member = archive.getinfo(f"{self._name(episode)}.npy")
            if member.file_size > LONGEST:
                raise ValueError(f"{member.filename} in {self.path} has {member.file_size} bytes; allowed: {LONGEST}")
            content = archive.read(member)
        return read_npy(content)
