"""Frames: a run as a pandas DataFrame, one row an episode, and its export to parquet or CSV."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from evalkit.episode import parse_episode_id
from evalkit.errors import InputError, unknown
from evalkit.records import ERROR, FAILURE, SUCCESS, Record, Run, write_atomically
from evalkit.registry import load_suite
from evalkit.texts import spreadsheet_safe

#: Outcome of an episode that was planned and has no record.
MISSING = "missing"

OUTCOMES = (SUCCESS, FAILURE, ERROR)

FORMS = ("parquet", "csv")

#: Keys of run.json that a report, an export and a merge cannot do without, and those of its config.
INFO_KEYS = ("config", "planned", "fingerprints")
CONFIG_KEYS = ("suites", "policy", "episodes", "seed_policy", "seed")


@dataclass(frozen=True)
class Kind:
    """What values of a Record's field may be, and the column type (pandas, nullable) that holds them."""

    types: tuple[type, ...]
    column: str


NONE = type(None)
KINDS = {
    "str": Kind((str,), "string"), "str | None": Kind((str, NONE), "string"),
    "int": Kind((int,), "Int64"), "int | None": Kind((int, NONE), "Int64"),
    "bool | None": Kind((bool, NONE), "boolean"), "float": Kind((int, float), "float64"),
    "float | None": Kind((int, float, NONE), "float64"),
}

RECORD_KINDS = {item.name: KINDS[item.type] for item in fields(Record) if item.type in KINDS}


def load(run: Run | Path | str) -> pd.DataFrame:
    """One row a planned episode, in the plan's order: all fields of `Record`, and the task's name and group.

    Errors have outcome ``error``; episodes without a record have ``missing`` and nothing else (NA). Integers, booleans
    and text are of pandas' nullable types, seconds are float64. Raises InputError when the folder is not a run or its
    files do not hold together.
    """
    run = run if isinstance(run, Run) else Run(Path(run))
    info, records = checked(run)
    names = [item.name for item in fields(Record)]
    columns = [*names[:names.index("task") + 1], "name", "group", *names[names.index("task") + 1:]]
    frame = pd.DataFrame([_row(episode, records.get(episode)) for episode in info["planned"]], columns=columns)
    kinds = {name: kind.column for name, kind in RECORD_KINDS.items()}
    return frame.astype({**kinds, "name": "string", "group": "string"})


def export(run: Run | Path | str, path: Path, form: str) -> None:
    """Write `load(run)` to `path` as ``parquet`` or ``csv`` (undefined values are empty cells)."""
    if form not in FORMS:
        raise unknown("export format", form, FORMS)
    frame = load(run)
    write_out(Path(path), spreadsheet_safe(frame).to_csv(index=False) if form == "csv" else _parquet(frame))


def write_out(path: Path, content: str | bytes) -> None:
    """Write a file where the user asked for it, whole or not at all; folders on the way are made. Raises InputError
    where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}. Pass another --out.") from error


def checked(run: Run) -> tuple[dict[str, Any], dict[str, Record]]:
    """``run.json`` and the records of `run`.

    Raises InputError, with file and field, when a key is lacking, the plan names a task that no suite has, or a record
    holds what no evaluation writes (edited by hand, or of another program).
    """
    info, path = run.info, run.folder / "run.json"
    lacking = [key for key in INFO_KEYS if not isinstance(info, Mapping) or key not in info]
    lacking = lacking or [f"config.{key}" for key in CONFIG_KEYS if key not in info["config"]]
    lacking = lacking or [f"fingerprints.{suite}.{key}" for suite, fingerprint in info["fingerprints"].items()
                          for key in ("hash", "parts") if key not in fingerprint]
    if lacking:
        raise InputError(f"{path} has no {', '.join(lacking)}: it was edited, or written by another program. Restore "
                         "it, or repeat the original command with another --out.")
    _check_plan(path, info["planned"])
    records, planned = run.records(), set(info["planned"])
    hashes = {suite: fingerprint["hash"] for suite, fingerprint in info["fingerprints"].items()}
    for record in records.values():
        problem = _problem(record) or _misplaced(record, planned) or _foreign(record, hashes.get(record.suite))
        if problem:
            raise InputError(f"{run.episodes_path}: record {record.id!r} {problem}. Remove its line to measure the "
                             "episode again.")
    return info, records


def _check_plan(path: Path, planned: list[str]) -> None:
    for episode in planned:
        try:
            suite, task, _ = parse_episode_id(episode)
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} plans {episode!r}, which is not an episode id such as libero_spatial/03/017. "
                             "Restore the file, or repeat the original command with another --out.") from error
        try:
            count = len(load_suite(suite).tasks)
        except InputError as error:
            raise InputError(f"{path} plans {episode}: {error}") from error
        if task >= count:
            raise InputError(f"{path} plans {episode}, but {suite} has tasks 0 to {count - 1}: it was written by "
                             "another version of the suite.")
    if len(set(planned)) < len(planned):
        raise InputError(f"{path} plans some episodes twice: it was edited. Restore it.")


def _problem(record: Record) -> str | None:
    """What of `record` no evaluation writes, in words, or None."""
    for name, kind in RECORD_KINDS.items():
        value = getattr(record, name)
        if not isinstance(value, kind.types) or (isinstance(value, bool) and bool not in kind.types):
            return f"has {name} {value!r}; it must be {' or '.join(item.__name__ for item in kind.types)}"
        if isinstance(value, int) and abs(value) >= 2**63:
            return f"has {name} {value!r}; it must be below 2^63"
        if isinstance(value, float) and not math.isfinite(value):
            return f"has {name} {value!r}; it must be a finite number"
        if kind.column in ("Int64", "float64") and value is not None and value < 0:
            return f"has {name} {value!r}; it must not be negative"
    if record.outcome not in OUTCOMES:
        return f"has outcome {record.outcome!r}; allowed: {', '.join(OUTCOMES)}"
    return None


def _misplaced(record: Record, planned: set[str]) -> str | None:
    if record.id not in planned:
        return "is not in the plan of run.json"
    named = (record.suite, record.task, record.index)
    if parse_episode_id(record.id) != named:
        return f"says suite, task and index {named}, which is another episode"
    rule = load_suite(record.suite).success_rule
    if record.outcome != ERROR and getattr(record, rule) not in (None, record.outcome == SUCCESS):
        return f"has outcome {record.outcome!r}, but {rule} {getattr(record, rule)}, which decides it"
    return None


def _foreign(record: Record, expected: str | None) -> str | None:
    """An error may have come before the fingerprint was known."""
    if record.outcome == ERROR or record.fingerprint == expected:
        return None
    return (f"has fingerprint {record.fingerprint!r}, but run.json says {expected!r} for {record.suite}: records of "
            "another run were mixed in")


def _row(episode: str, record: Record | None) -> dict[str, Any]:
    suite, task, index = parse_episode_id(episode)
    described = load_suite(suite).tasks[task]
    measured = {key: _whole(value) for key, value in vars(record).items()} if record else {"outcome": MISSING}
    return {"id": episode, "suite": suite, "task": task, "index": index, "name": described.label,
            "group": described.group, **measured}


def _whole(value: Any) -> Any:
    """A text without half characters, which UTF-8 cannot hold: a traceback may name a file whose name is not UTF-8."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False)
    except ImportError as error:
        raise InputError("parquet needs pyarrow, which is not installed here: pip install pyarrow, or export csv"
                         ) from error
    return buffer.getvalue()
