"""Two runs side by side: which episodes are compared one by one, and why not the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.assets import WARNINGS
from evalkit.episode import parse_episode_id
from evalkit.errors import InputError, shown
from evalkit.frames import record_problem
from evalkit.records import ERROR, SUCCESS, Record, Run
from evalkit.registry import load_suite

MISSING = "missing"

#: Fields of a fingerprint that belong to the protocol beside those of the suite; the others are simulator and assets.
PLANNED_FIELDS = ("seed_policy", "seed", "full_horizon")


@dataclass(frozen=True)
class Side:
    """One of the two runs: its folder, the folder's name, the policy it measured, and what its assets forbid."""

    name: str
    folder: str
    policy: str
    policy_options: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Pairing:
    """Whether the episodes of a suite are compared one by one, and why; pairs that start from the same state, of those
    whose states are recorded."""

    suite: str
    paired: bool
    reason: str
    scenes_equal: int = 0
    scenes_checked: int = 0


@dataclass(frozen=True)
class FieldDifference:
    """A field of a suite's fingerprint in which the runs differ; None where a run has no such field."""

    suite: str
    field: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Cell:
    """A task's episodes in both runs: id -> success, or `ERROR` or `MISSING`."""

    suite: str
    task: int
    paired: bool
    a: Mapping[str, bool | str]
    b: Mapping[str, bool | str]

    def filled(self, fill_a: bool, fill_b: bool) -> Cell:
        """With all unmeasured episodes succeeding or failing."""
        return replace(self, a={key: value if isinstance(value, bool) else fill_a for key, value in self.a.items()},
                       b={key: value if isinstance(value, bool) else fill_b for key, value in self.b.items()})

    @property
    def pairs(self) -> dict[str, tuple[bool, bool]]:
        """Episodes that both runs measured."""
        return {key: (value, self.b[key]) for key, value in self.a.items()
                if key in self.b and isinstance(value, bool) and isinstance(self.b[key], bool)}


@dataclass(frozen=True)
class Loaded:
    """A run as it was read. letter: ``A`` or ``B``. planned: suite -> task -> episode ids."""

    letter: str
    folder: Path
    info: Mapping[str, Any]
    planned: Mapping[str, Mapping[int, list[str]]]
    records: Mapping[str, Record]

    def fingerprint(self, suite: str) -> Mapping[str, Any]:
        """Hash and parts; empty where the suite was not started."""
        return self.info.get("fingerprints", {}).get(suite, {})

    def outcome(self, key: str) -> bool | str:
        """Success, or why there is none."""
        if key not in self.records:
            return MISSING
        return ERROR if self.records[key].outcome == ERROR else self.records[key].outcome == SUCCESS


def load_side(letter: str, run: Run) -> Loaded:
    """`run` as side `letter` of a comparison. Raises InputError when run.json has no usable plan."""
    info, planned = run.info, {}
    ids = info.get("planned") if isinstance(info, dict) else None
    if not isinstance(ids, list) or not ids:
        raise InputError(f"{run.folder / 'run.json'} has no list of planned episodes; it was cut or edited. "
                         "Repeat the run's command to write it again.")
    for key in ids:
        try:
            suite, task, _ = parse_episode_id(str(key))
        except ValueError as error:
            raise InputError(f"{run.folder / 'run.json'}: planned episode {shown(key)} is not suite/task/index"
                             ) from error
        planned.setdefault(suite, {}).setdefault(task, []).append(key)
    records = run.records()
    for record in records.values():
        problem = record_problem(record)
        if problem:
            raise InputError(f"{run.episodes_path}: record {record.id!r} {problem}. Remove its line to measure the "
                             "episode again.")
    return Loaded(letter, run.folder, info, planned, records)


def describe_side(run: Loaded) -> Side:
    """What a comparison says of a run."""
    config = run.info.get("config", {})
    kinds = {run.fingerprint(suite).get("parts", {}).get("asset_kind") or "" for suite in run.planned}
    return Side(run.folder.name, str(run.folder), str(config.get("policy", "")), config.get("policy_options") or {},
                tuple(WARNINGS[kind] for kind in sorted(kinds) if WARNINGS.get(kind)))


def fingerprint_differences(a: Loaded, b: Loaded, suite: str) -> list[FieldDifference]:
    """Fields of the suite's fingerprints in which the runs differ, by name."""
    ours, theirs = (run.fingerprint(suite).get("parts", {}) for run in (a, b))
    return [FieldDifference(suite, key, ours.get(key), theirs.get(key)) for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key)]


def pair(a: Loaded, b: Loaded, suite: str) -> Pairing:
    """Paired where ids are shared and the fingerprints are equal."""
    of_b = {key for ids in b.planned[suite].values() for key in ids}
    shared = [key for ids in a.planned[suite].values() for key in ids if key in of_b]
    hash_a, hash_b = (run.fingerprint(suite).get("hash") for run in (a, b))
    if not hash_a or not hash_b:
        return Pairing(suite, False, "a run has no fingerprint of this suite: it was not started")
    if hash_a != hash_b:
        differing = ", ".join(item.field for item in fingerprint_differences(a, b, suite)) or "hash"
        return Pairing(suite, False, f"fingerprints differ ({differing}), so one id is not one scene")
    if not shared:
        return Pairing(suite, False, "no episode id is in both plans")
    scenes = [a.records[key].scene_sha == b.records[key].scene_sha for key in shared
              if key in a.records and key in b.records and a.records[key].scene_sha and b.records[key].scene_sha]
    check = f"start states equal in {sum(scenes)} of {len(scenes)} pairs" if scenes else "start states not recorded"
    return Pairing(suite, True, f"same episode ids and fingerprint; {check}", sum(scenes), len(scenes))


def pair_tasks(a: Loaded, b: Loaded, suite: str, paired: bool) -> list[Cell]:
    """Common tasks with their common episodes, or with all where an unpaired task has none in common."""
    cells = []
    for task in sorted(set(a.planned[suite]) & set(b.planned[suite])):
        of_a, of_b = a.planned[suite][task], b.planned[suite][task]
        in_b = set(of_b)
        shared = [key for key in of_a if key in in_b]
        if shared or not paired:
            cells.append(Cell(suite, task, paired, {key: a.outcome(key) for key in shared or of_a},
                               {key: b.outcome(key) for key in shared or of_b}))
    return cells


def left_out(a: Loaded, b: Loaded, suite: str, cells: Sequence[Cell]) -> list[str]:
    """What of the suite is not compared, in words."""
    warnings, compared = [], {cell.task: cell for cell in cells}
    for run in (a, b):
        planned = run.planned[suite]
        tasks = sorted(task for task in planned if task not in compared)
        if tasks:
            warnings.append(f"{suite}: task{'s' * (len(tasks) > 1)} {', '.join(map(str, tasks))} of {run.letter} left "
                            "out: not common to both")
        used = {key for cell in cells for key in (cell.a if run is a else cell.b)}
        episodes = [key for task in compared for key in planned[task] if key not in used]
        if episodes:
            warnings.append(f"{suite}: {len(episodes)} episode{'s' * (len(episodes) > 1)} planned only in {run.letter} "
                            f"left out (first: {episodes[0]})")
    if cells and not any(set(cell.a) & set(cell.b) for cell in cells):
        warnings.append(f"{suite}: no episode is planned in both; all of either run are compared")
    total = len(load_suite(suite).tasks)
    if 0 < len(cells) < total:
        warnings.append(f"{suite}: the average is over {len(cells)} of its {total} tasks")
    return warnings


def doubts(suite: str, pairing: Pairing, differences: Sequence[FieldDifference]) -> list[str]:
    """What beside the policies may make a difference, in words."""
    protocol = {*load_suite(suite).protocol(), *PLANNED_FIELDS}
    warnings = []
    for what, chosen in (("protocols", True), ("simulators or assets", False)):
        named = [item.field for item in differences if (item.field in protocol) is chosen]
        if named:
            warnings.append(f"{suite}: {what} differ in {', '.join(named)}: a difference of the rates may be theirs, "
                            "not the policies'")
    if pairing.scenes_equal < pairing.scenes_checked:
        warnings.append(f"{suite}: {pairing.scenes_checked - pairing.scenes_equal} of {pairing.scenes_checked} pairs "
                        "did not start from the same state, though ids and fingerprints are equal")
    return warnings


def stray(run: Loaded) -> list[str]:
    """Records that do not belong to the run, and records of other fingerprints, in words."""
    planned = {key for tasks in run.planned.values() for ids in tasks.values() for key in ids}
    warnings = []
    outside = [key for key in run.records if key not in planned]
    if outside:
        warnings.append(f"{len(outside)} records of {run.letter} are not in its plan: ignored (first: {outside[0]})")
    foreign = [key for key, record in run.records.items() if key in planned and record.fingerprint
               and record.fingerprint != run.fingerprint(record.suite).get("hash")]
    if foreign:
        warnings.append(f"{len(foreign)} records of {run.letter} carry another fingerprint than its run.json (first: "
                        f"{foreign[0]}): the file was edited or mixed")
    return warnings
