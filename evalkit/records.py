"""Records: one JSON line an episode, and the run folder that holds them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from evalkit import runfile
from evalkit.errors import InputError

SUCCESS, FAILURE, ERROR = "success", "failure", "error"

#: Fields that describe how an episode was measured, not what was measured: they may differ between two workers.
CIRCUMSTANCES = ("seconds_reset", "seconds_physics", "seconds_render", "seconds_policy", "attempt", "video",
                 "traceback")


@dataclass(frozen=True)
class Record:
    """What came of one episode. Three outcomes: an exception is an error, never a failure.

    any_step, chunk_end, final: success at any step; at the end of an executed chunk; after the last step of the
    horizon. None where the episode ended before the variant was decided.
    first_success_step, chunk_end_step: 1-based policy step of the first success, and of the first at a chunk end.
    steps: policy steps taken.
    scene_sha, final_sha: hash of simulator state and fixture poses after the reset and after the last step.
    """

    id: str
    suite: str
    task: int
    index: int
    seed: int
    outcome: str
    any_step: bool | None = None
    chunk_end: bool | None = None
    final: bool | None = None
    first_success_step: int | None = None
    chunk_end_step: int | None = None
    steps: int = 0
    policy_calls: int = 0
    instruction: str = ""
    scene_sha: str = ""
    final_sha: str = ""
    fingerprint: str = ""
    seconds_reset: float = 0.0
    seconds_physics: float = 0.0
    seconds_render: float = 0.0
    seconds_policy: float = 0.0
    attempt: int = 1
    video: str | None = None
    traceback: str | None = None

    def measurement(self) -> dict[str, Any]:
        """The record without its circumstances: equal for any worker count, order or resume."""
        return {key: value for key, value in asdict(self).items() if key not in CIRCUMSTANCES}


def fingerprint_hash(parts: Mapping[str, Any]) -> str:
    """Twelve hex digits of all that decides a result apart from the policy."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def read_records(path: Path) -> dict[str, Record]:
    """Records of an ``episodes.jsonl`` by id. An error is superseded by a later attempt, a measurement never.

    A torn last line (the writer was killed) is dropped with a notice. Raises InputError on any other bad line.
    """
    records: dict[str, Record] = {}
    if not path.exists():
        return records
    known = {item.name for item in fields(Record)}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if number == len(lines):  # after the last newline: empty, or torn
            if line:
                _tell_once(f"dropped a torn last line of {path} (the writer was interrupted)")
            break
        try:
            values = json.loads(line)
            record = Record(**{key: value for key, value in values.items() if key in known})
            if not isinstance(record.id, str):
                raise TypeError(f"its id is {record.id!r}")
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}, line {number} is not a record: {error}. Remove the line to re-run its "
                             "episode.") from error
        first = records.setdefault(record.id, record)
        if first.outcome == ERROR:
            records[record.id] = record
        elif record.outcome != ERROR and record.measurement() != first.measurement():
            _tell_once(f"{path}, line {number} measures {record.id} again, with another result; the first stands")
    return records


@cache
def _tell_once(text: str) -> None:
    """A notice; one command reads a file several times."""
    print(f"notice: {text}", file=sys.stderr)


class Run:
    """A run's folder: ``run.json``, ``episodes.jsonl`` (append-only, the truth), ``videos/``, ``actions/``.

    Only the driver opens one, and only one driver at a time.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.episodes_path = self.folder / "episodes.jsonl"
        self._file = None

    @property
    def info(self) -> dict[str, Any]:
        """``run.json``. Raises InputError when the folder is not a run, or the file holds values of other types."""
        path = self.folder / "run.json"
        try:
            info = json.loads(path.read_text())
        except FileNotFoundError:
            raise InputError(f"{self.folder} is not a run: it has no run.json. Runs are made by `evalkit run` "
                             "and live in results/runs/.") from None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"{path} is not valid JSON: {error}") from error
        runfile.check(path, info)
        return info

    def records(self) -> dict[str, Record]:
        """All records by episode id."""
        return read_records(self.episodes_path)

    def refuse_other_config(self, decisive: Mapping[str, Any]) -> None:
        """Raise InputError, naming the keys that differ, if the folder holds a run of another config, or is a file."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; a run needs a folder: pass another --out")
        if not (self.folder / "run.json").exists():
            return
        _refuse_differences(self.folder, "config", self.info["config"], decisive)

    def open(self, info: dict[str, Any]) -> None:
        """Start or continue the run: checks config and fingerprints, writes run.json, locks the records."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.close()
        self._file = open(self.episodes_path, "ab")  # noqa: SIM115 (held until `close`, with its lock)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"another evalkit process is writing to {self.folder}; wait for it or pass another "
                             "--out") from error
        self.refuse_other_config(info["config"])
        if (self.folder / "run.json").exists():
            before = self.info["fingerprints"]
            for suite, now in info["fingerprints"].items():
                if suite in before:
                    _refuse_differences(self.folder, f"fingerprint of {suite}", before[suite]["parts"], now["parts"])
            info["fingerprints"] = {**before, **info["fingerprints"]}
            _refuse_differences(self.folder, "checkpoint", _checkpoint(self.info), _checkpoint(info))
        write_atomically(self.folder / "run.json", json.dumps(info, indent=2) + "\n")
        _cut_torn_line(self.episodes_path)

    def append(self, record: Record) -> None:
        """Write one record and wait until it is on the disk."""
        self._file.write(json.dumps(asdict(record)).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Release the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _refuse_differences(folder: Path, what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differing = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if differing:
        listed = "\n".join(f"  {key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in differing)
        raise InputError(f"{folder} holds a run with another {what}:\n{listed}\n"
                         "Pass another --out, or repeat the original command to continue that run.")


def _checkpoint(info: Mapping[str, Any]) -> dict[str, Any]:
    """The hash of the policy's checkpoint, if it has one: a path alone does not say what was loaded from it."""
    return {"sha256": ((info.get("policy") or {}).get("checkpoint") or {}).get("sha256")}


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(partial, path)


def missing(planned: Iterable[str], records: Mapping[str, Record]) -> list[str]:
    """Planned episode ids without a measurement (not run, or an error)."""
    return [episode for episode in planned if episode not in records or records[episode].outcome == ERROR]
