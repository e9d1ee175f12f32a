"""Records: one JSON line an episode, and the run folder that holds them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from evalkit import runfile
from evalkit.errors import InputError, Stopped
from evalkit.lock import FolderLock
from evalkit.parsing import parse_json, read_text

SUCCESS, FAILURE, ERROR = "success", "failure", "error"

#: Fields that describe how an episode was measured, not what was measured: they may differ between two workers.
CIRCUMSTANCES = ("seconds_reset", "seconds_physics", "seconds_render", "seconds_policy", "attempt", "started", "ended",
                 "worker", "node", "video", "traceback")


@dataclass(frozen=True)
class Record:
    """What came of one episode. Three outcomes: an exception is an error, never a failure.

    any_step, chunk_end, final: success at any step; at the end of an executed chunk; after the last step of the
    horizon. None where the episode ended before the variant was decided.
    first_success_step, chunk_end_step: 1-based policy step of the first success, and of the first at a chunk end.
    steps: policy steps taken.
    scene_sha, final_sha: hash of simulator state and fixture poses after the reset and after the last step.
    started, ended: of the attempt that this record tells of, Unix seconds by the driver's clock; building the
    simulator is in it. worker: its seat in the pool, from 0. node: the machine that it ran on. None in old records.
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
    started: float | None = None
    ended: float | None = None
    worker: int | None = None
    node: str | None = None
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
            values = parse_json(line)
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
        self._file: int | None = None
        self._lock: FolderLock | None = None
        self._made_folder = False

    @property
    def info(self) -> dict[str, Any]:
        """``run.json``. Raises InputError when the folder is not a run, or the file holds values of other types."""
        path = self.folder / "run.json"
        try:
            info = parse_json(read_text(path))
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
        _refuse_differences(self.folder, "config", self.info.get("config", {}), decisive)

    def lock(self) -> None:
        """Make the folder, and be its only driver until `close`. Raises InputError if another is, or if the folder
        cannot be written."""
        if self._lock is not None:
            return
        try:
            self._made_folder = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.folder)
        except OSError as error:
            raise InputError(f"cannot write to {self.folder}: {error.strerror}; make the folder writable, or pass "
                             "another --out") from error

    def open(self, info: dict[str, Any]) -> None:
        """Start or continue the run: locks it, checks config and fingerprints, writes run.json. Raises InputError,
        Stopped."""
        self.lock()
        self.refuse_other_config(info["config"])
        if (self.folder / "run.json").exists():
            before = self.info.get("fingerprints", {})
            for suite, now in info["fingerprints"].items():
                if suite in before:
                    _refuse_differences(self.folder, f"fingerprint of {suite}", before[suite].get("parts", {}),
                                        now["parts"])
            info["fingerprints"] = {**before, **info["fingerprints"]}
            _refuse_differences(self.folder, "checkpoint", _checkpoint(self.info), _checkpoint(info))
        with writing(self.folder):
            write_atomically(self.folder / "run.json", json.dumps(info, indent=2) + "\n")
            if self._file is None:
                self._file = os.open(self.episodes_path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
                _cut_torn_line(self.episodes_path)

    def append(self, record: Record) -> None:
        """Write one record and wait until it is on the disk. Raises Stopped; then the file is as it was before."""
        line = json.dumps(asdict(record)).encode() + b"\n"
        with writing(self.folder):
            if not os.path.samestat(os.fstat(self._file), os.stat(self.episodes_path)):
                raise OSError(0, f"{self.episodes_path.name} was replaced while the run went on")
            end = os.fstat(self._file).st_size
            try:
                written = 0
                while written < len(line):  # a full disk takes a part first
                    written += os.write(self._file, line[written:])
                os.fsync(self._file)
            except OSError:
                with contextlib.suppress(OSError):  # then a torn line stays, which `open` cuts and readers drop
                    os.ftruncate(self._file, end)
                raise

    def close(self) -> None:
        """Let other drivers in; a folder in which no run began is removed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            if self._made_folder:
                with contextlib.suppress(OSError):  # not empty: a run began
                    self.folder.rmdir()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an OSError of the block, which writes into a run's folder, into a Stopped that says what to do."""
    try:
        yield
    except OSError as error:
        raise Stopped(f"cannot write to {folder}: {error.strerror}. What was recorded before is kept. Free space, or "
                      "make the folder writable again, and repeat the same command: it goes on from there") from error


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
    """Write a whole file, and wait until it is on the disk, or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def file_inside(run: Path, folder: str, name: str) -> Path | None:
    """The path `name`, as a record writes it, of a file below `folder` of a run, links followed; None if it leads out
    of that folder or is no path at all. The file may be gone."""
    parts = Path(name).parts
    if parts[:1] != (folder,) or ".." in parts:
        return None
    try:
        path = (run / name).resolve()
    except (OSError, ValueError, RuntimeError):  # too long, with a null character, or links in a circle
        return None
    return path if path.is_relative_to(run.resolve() / folder) else None


def missing(planned: Iterable[str], records: Mapping[str, Record]) -> list[str]:
    """Planned episode ids without a measurement (not run, or an error)."""
    return [episode for episode in planned if episode not in records or records[episode].outcome == ERROR]
