"""Merging: several runs of one plan, for example from several machines, become one run, by episode id."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from evalkit.episode import episode_id, parse_episode_id
from evalkit.errors import InputError, shown
from evalkit.frames import checked
from evalkit.parsing import parse_json
from evalkit.records import ERROR, Record, Run, file_inside
from evalkit.registry import load_suite
from evalkit.tables import policy_text
from evalkit.texts import plain

#: Keys of a config that choose which episodes are run, not how: the parts of a plan may differ in them.
PARTS = ("suites", "tasks", "episodes")

#: Keys of run.json that say where, when and by which command a run was measured; kept for each part.
ORIGIN = ("command", "started", "settings", "versions", "hardware", "git")

#: Those of them that the merged run takes from its first part.
INHERITED = ("settings", "versions", "hardware", "git")

#: Differing measurements that an error message lists; the rest is counted.
LISTED = 10


@dataclass(frozen=True)
class Part:
    """One of the runs that are merged, as it was read."""

    run: Run
    info: Mapping[str, Any]
    records: Mapping[str, Record]


@dataclass(frozen=True)
class Kept:
    """A record that goes into the merged run, and the run it comes from."""

    part: Part
    record: Record


def merge(runs: Sequence[Run], out: Path) -> Run:
    """One run in the new folder `out` with the episodes of all `runs`, which are left as they are.

    The runs must agree in config and fingerprints, except that they may be parts of one plan (other suites, tasks or
    episodes of the same command). An episode measured more than once with equal results is kept once (told on
    stderr); a measurement is preferred to an error. Videos and actions of the kept records are copied.

    Raises InputError, with the field named, for other configs or fingerprints; for parts that do not add up to a plan;
    for an episode with two different results (a determinism fault); for records of another version; and when `out`
    is there already. Then nothing is written.
    """
    out = Path(out)
    _check_folders(runs, out)
    parts = [_read(run) for run in runs]
    whole, chosen = _together(parts)
    planned = whole["planned"]
    repeated = sum(sum(_measured(part, episode) for part in parts) > 1 for episode in planned)
    if repeated:
        print(f"notice: {repeated} episodes were measured in more than one run, with equal results; each is kept once",
              file=sys.stderr)
    info = {
        **whole,
        "command": shlex.join(["evalkit", "merge", *(str(run.folder) for run in runs), "--out", str(out)]),
        **{key: parts[0].info[key] for key in INHERITED if key in parts[0].info},
        "merged": [_origin(part, chosen) for part in parts], "measured_more_than_once": repeated,
    }
    _write(out, info, [chosen[episode] for episode in planned if episode in chosen])
    return Run(out)


class Parts(Run):
    """The runs in a folder's sub-folders, read as the one run of which they are parts. Never written to."""

    def __init__(self, folder: Path, runs: Sequence[Run]):
        super().__init__(folder)
        self._info, chosen = _together([_read(run) for run in runs])
        self._records = {episode: chosen[episode].record for episode in self._info["planned"] if episode in chosen}

    @property
    def info(self) -> dict[str, Any]:
        """Config, plan and fingerprints of all parts."""
        return self._info

    def records(self) -> dict[str, Record]:
        """The records of all parts by episode id."""
        return self._records


def open_parts(folder: Path) -> Run:
    """The run in `folder`, or, where it is no run itself, the runs in its sub-folders as one.

    Raises InputError when the sub-folders' runs could not be merged.
    """
    folder = Path(folder)
    runs = [Run(path.parent) for path in sorted(folder.glob("*/run.json"))]
    return Parts(folder, runs) if runs and not (folder / "run.json").exists() else Run(folder)


def _together(parts: Sequence[Part]) -> tuple[dict[str, Any], dict[str, Kept]]:
    """Config, plan and fingerprints of the run that `parts` make up, and the record of each episode."""
    config = _merged_config(parts)
    fingerprints = _merged_fingerprints(parts)
    return ({"config": config, "planned": _merged_plan(parts, config), "fingerprints": fingerprints,
             "policy": _merged_policy(parts)}, _choose(parts))


def _check_folders(runs: Sequence[Run], out: Path) -> None:
    if len(runs) < 2:
        raise InputError(f"merging needs at least two runs, got {len(runs)}")
    folders = [run.folder.resolve() for run in runs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise InputError(f"{folder} is named twice; name each run once")
    if out.exists():
        raise InputError(f"{out} is there already; a merge writes a new folder: pass another --out")


def _read(run: Run) -> Part:
    info, records = checked(run)
    known = {item.name for item in fields(Record)}
    lines = run.episodes_path.read_bytes().split(b"\n")[:-1] if run.episodes_path.exists() else []
    strange = sorted({key for line in lines for key in parse_json(line)} - known)
    if strange:
        raise InputError(f"{run.episodes_path} has fields that this evalkit does not know and would lose: "
                         f"{', '.join(strange)}. Merge with the version that wrote it.")
    return Part(run, info, records)


def _merged_config(parts: Sequence[Part]) -> dict[str, Any]:
    """The first run's config, over the suites, tasks and episodes of all."""
    configs = [part.info["config"] for part in parts]
    for part in parts[1:]:
        _refuse_differences(parts[0], part, "config", configs[0], part.info["config"], except_for=PARTS)
    tasks = [config.get("tasks") for config in configs]
    ranges = [config["episodes"] for config in configs]
    return {
        **configs[0],
        "suites": list(dict.fromkeys(name for config in configs for name in config["suites"])),
        "tasks": None if None in tasks else sorted({task for chosen in tasks for task in chosen}),
        "episodes": [min(first for first, _ in ranges), max(end for _, end in ranges)],
    }


def _merged_policy(parts: Sequence[Part]) -> Mapping[str, Any]:
    """What the first run says of its policy. Raises InputError where other weights acted in another part."""
    for part in parts[1:]:
        _refuse_differences(parts[0], part, "policy", *({"acts": policy_text(one.info)} for one in (parts[0], part)))
    return parts[0].info.get("policy") or {}


def _merged_fingerprints(parts: Sequence[Part]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    owners: dict[str, Part] = {}
    for part in parts:
        for suite, fingerprint in part.info["fingerprints"].items():
            if suite in merged:
                _refuse_differences(owners[suite], part, f"fingerprint of {suite}", merged[suite]["parts"],
                                    fingerprint["parts"])
                if fingerprint["hash"] != merged[suite]["hash"]:
                    raise InputError(f"{owners[suite].run.folder} and {part.run.folder} have equal parts but other "
                                     f"hashes of {suite}'s fingerprint: a run.json was edited, or evalkit's versions "
                                     "differ.")
            merged.setdefault(suite, fingerprint)
            owners.setdefault(suite, part)
    return merged


def _refuse_differences(first: Part, second: Part, what: str, before: Mapping[str, Any], now: Mapping[str, Any],
                        except_for: Iterable[str] = ()) -> None:
    keys = sorted({*before, *now} - set(except_for))
    differing = [key for key in keys if before.get(key) != now.get(key)]
    if differing:
        listed = "\n".join(f"  {key}: {before.get(key)!r} there, {now.get(key)!r} here" for key in differing)
        raise InputError(f"{first.run.folder} (there) and {second.run.folder} (here) have another {what}:\n{listed}\n"
                         "Only runs of one plan under the same conditions can be merged; `evalkit compare` takes "
                         "others.")


def _merged_plan(parts: Sequence[Part], config: Mapping[str, Any]) -> list[str]:
    """All planned ids in order. Raises InputError unless the plans are equal or add up to what `config` plans."""
    if all(part.info["planned"] == parts[0].info["planned"] for part in parts):
        return parts[0].info["planned"]
    planned = {episode for part in parts for episode in part.info["planned"]}
    tasks, indices = config["tasks"], range(*config["episodes"])
    of_suite = {name: range(len(load_suite(name).tasks)) if tasks is None else tasks for name in config["suites"]}
    whole = (episode_id(name, task, index) for name in of_suite for task in of_suite[name] for index in indices)
    count = sum(map(len, of_suite.values())) * len(indices)  # an edited config may say billions
    beyond = [name for name in sorted(planned) if not _is_planned(name, of_suite, indices)]
    gaps = count - (len(planned) - len(beyond))
    if gaps or beyond:
        first = next(episode for episode in whole if episode not in planned) if gaps else beyond[0]
        raise InputError(f"together these runs do not plan what their configs say: {gaps} of {count} episodes are in "
                         f"none of the plans and {len(beyond)} in no config (first: {first}). Parts must add up to "
                         "suites x tasks x episodes: add the run that is missing, or merge fewer.")
    return list(whole)


def _is_planned(episode: str, tasks: Mapping[str, Sequence[int]], indices: range) -> bool:
    suite, task, index = parse_episode_id(episode)
    return suite in tasks and task in tasks[suite] and index in indices


def _measured(part: Part, episode: str) -> bool:
    return episode in part.records and part.records[episode].outcome != ERROR


def _choose(parts: Sequence[Part]) -> dict[str, Record]:
    """The record of each episode: a measurement before an error, one with a video before one without.

    Raises InputError when two measurements of an episode differ.
    """
    found: dict[str, list[tuple[Part, Record]]] = {}
    for part in parts:
        for episode, record in part.records.items():
            found.setdefault(episode, []).append((part, record))
    faults = [text for episode in sorted(found) if (text := _fault(found[episode]))]
    if faults:
        more = f"\n  ... and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise InputError(f"DETERMINISM FAULT: {len(faults)} episodes have different results under the same "
                         "fingerprint:\n" + "\n".join(faults[:LISTED]) + more +
                         "\nNeither result can be preferred, so nothing is merged. If the policy itself is "
                         "deterministic, something that decides results is not in the fingerprint; run these episodes "
                         "again on one machine, or merge without one of the runs.")
    return {episode: _best(candidates) for episode, candidates in found.items()}


def _fault(candidates: Sequence[tuple[Part, Record]]) -> str | None:
    """What differs between the measurements of one episode, with both values, or None."""
    measured = [(part, record) for part, record in candidates if record.outcome != ERROR]
    for part, record in measured[1:]:
        first_part, first = measured[0]
        before, now = first.measurement(), record.measurement()
        differing = [f"{key} {before[key]!r} in {first_part.run.folder}, {now[key]!r} in {part.run.folder}"
                     for key in before if before[key] != now[key]]
        if differing:
            return f"  {record.id}: " + "; ".join(differing)
    return None


def _best(candidates: Sequence[tuple[Part, Record]]) -> Kept:
    part, record = min(candidates, key=lambda found: (found[1].outcome == ERROR, found[1].video is None))
    return Kept(part, record)


def _origin(part: Part, chosen: Mapping[str, Kept]) -> dict[str, Any]:
    """Where a part came from, and how many of its records were kept."""
    return {"name": part.run.folder.resolve().name, "records": len(part.records),
            "kept": sum(kept.part is part for kept in chosen.values()),
            **{key: part.info[key] for key in ORIGIN if key in part.info}}


def _write(out: Path, info: Mapping[str, Any], chosen: Sequence[Kept]) -> None:
    """The whole folder or nothing: it is built under another name beside `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        partial.mkdir()
        records = [_copied(kept, partial) for kept in chosen]
        (partial / "run.json").write_text(json.dumps(info, indent=2) + "\n")
        (partial / "episodes.jsonl").write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copied(kept: Kept, folder: Path) -> Record:
    """The record, with its video and actions copied to `folder`; without its video if that file is gone."""
    record = kept.record
    actions = _file(kept, "actions", f"actions/{record.id}.npy")
    if os.path.isfile(actions):
        _copy(actions, folder / "actions" / f"{record.id}.npy")
    if record.video is None:
        return record
    video = _file(kept, "videos", record.video)
    if not os.path.isfile(video):
        print(f"notice: {plain(str(video))} is gone; {record.id} is merged without its video", file=sys.stderr)
        return replace(record, video=None)
    _copy(video, folder / record.video)
    return record


def _file(kept: Kept, folder: str, name: str) -> Path:
    """A file of a record, which may be gone. Raises InputError unless it lies below `folder` of the record's run."""
    path = file_inside(kept.part.run.folder, folder, name)
    if path is None:
        raise InputError(f"{kept.part.run.episodes_path}: {kept.record.id} names the file {shown(name)}, which lies "
                         f"outside the run's {folder}/: the record was edited, or the file is a link to elsewhere.")
    return path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
