"""Records: one line an episode, on the disk before the next, read back whatever the writer's end was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing

import pytest

from evalkit.errors import InputError
from evalkit.paths import PROJECT
from evalkit.records import CIRCUMSTANCES, Record, Run, fingerprint_hash, missing, read_records, write_atomically

CONFIG = {"suites": ["toy"], "policy": "noop", "episodes": [0, 3]}
PARTS = {"simulator": "1.0", "max_steps": 40}


def record(index: int, outcome: str = "success", **values) -> Record:
    return Record(id=f"toy/00/{index:03d}", suite="toy", task=0, index=index, seed=5, outcome=outcome, **values)


def information(config=CONFIG, parts=PARTS) -> dict:
    return {"config": dict(config), "planned": ["toy/00/000", "toy/00/001", "toy/00/002"],
            "fingerprints": {"toy": {"hash": fingerprint_hash(parts), "parts": dict(parts)}}}


def write(folder, *records, **info) -> Run:
    """A run folder with these records, closed."""
    run = Run(folder)
    with closing(run):
        run.open(information(**info))
        for item in records:
            run.append(item)
    return run


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


def test_records_are_read_as_written(tmp_path):
    """Every field survives the file, and the order of lines does not matter."""
    first = record(1, "failure", any_step=True, chunk_end=False, final=None, first_success_step=3, steps=40,
                   seconds_reset=0.25, video="videos/x.mp4", instruction="straße \"quoted\"\nsecond line")
    second = record(0, "error", traceback="Traceback:\n  boom")
    assert write(tmp_path, first, second).records() == {"toy/00/000": second, "toy/00/001": first}


def test_a_record_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    """`append` writes one whole line and calls fsync once it is in the file."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    run = Run(tmp_path)
    with closing(run):
        run.open(information())
        synced.clear()
        for index in range(3):
            run.append(record(index))
            lines = run.episodes_path.read_bytes().splitlines(keepends=True)
            assert len(lines) == index + 1 and json.loads(lines[-1])["index"] == index
            assert lines[-1].endswith(b"\n") and synced == [*synced[:index], run.episodes_path.stat().st_size]


def test_reopening_keeps_what_is_there(tmp_path):
    """A continued run appends."""
    write(tmp_path, record(0))
    assert set(write(tmp_path, record(1)).records()) == {"toy/00/000", "toy/00/001"}


def test_no_file_no_records(tmp_path):
    """A run that has not begun has no records."""
    assert read_records(tmp_path / "episodes.jsonl") == {}


def test_torn_last_line_is_dropped_with_a_notice(tmp_path, capsys):
    """A line without its newline was never finished: reading drops it, says so, and leaves the file alone."""
    run = write(tmp_path, record(0), record(1))
    run.episodes_path.write_bytes(run.episodes_path.read_bytes()[:-20])
    torn = run.episodes_path.read_bytes()
    assert set(run.records()) == {"toy/00/000"}
    assert "dropped a torn last line" in capsys.readouterr().err
    assert run.episodes_path.read_bytes() == torn


def test_a_whole_line_without_newline_is_torn_too(tmp_path):
    """Even complete JSON does not count without its newline: the next append would glue to it."""
    run = write(tmp_path, record(0), record(1))
    run.episodes_path.write_bytes(run.episodes_path.read_bytes()[:-1])
    assert set(run.records()) == {"toy/00/000"}


def test_torn_last_line_is_cut_when_the_run_goes_on(tmp_path):
    """Continuing removes the torn rest, so that every line of the file is a record again."""
    run = write(tmp_path, record(0), record(1))
    run.episodes_path.write_bytes(run.episodes_path.read_bytes()[:-20])
    write(tmp_path, record(2))
    lines = run.episodes_path.read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 2]


@pytest.mark.parametrize("line", ["", "{", "null", "[1]", '"text"', '{"id": "toy/00/001"}', "\x00\x00"])
def test_a_bad_line_in_the_middle_is_named(tmp_path, line):
    """Any other bad line is not guessed at: its number is named, and what to do."""
    run = write(tmp_path, record(0), record(1))
    first, second = run.episodes_path.read_text().splitlines()
    run.episodes_path.write_text(f"{first}\n{line}\n{second}\n")
    text = refusal(run.records)
    assert "line 2" in text and str(run.episodes_path) in text and "Remove the line" in text


def test_unknown_fields_are_ignored(tmp_path):
    """Records of a later evalkit can be read."""
    run = write(tmp_path, record(0))
    line = {**json.loads(run.episodes_path.read_text()), "mood": "sunny"}
    run.episodes_path.write_text(json.dumps(line) + "\n")
    assert run.records() == {"toy/00/000": record(0)}


@pytest.mark.parametrize("outcomes, kept", [
    (["error", "success"], "success"), (["error", "failure"], "failure"), (["error", "error", "failure"], "failure"),
    (["success", "error"], "success"), (["failure", "error"], "failure"), (["failure", "success"], "failure"),
    (["success", "failure"], "success"), (["error", "error"], "error"),
])
def test_errors_are_superseded_and_measurements_are_not(tmp_path, outcomes, kept):
    """A later attempt replaces an error; a measurement stays, whatever follows."""
    run = write(tmp_path, *[record(0, outcome, attempt=number) for number, outcome in enumerate(outcomes, start=1)])
    assert run.records()["toy/00/000"].outcome == kept


def test_another_result_is_told_once(tmp_path, capsys):
    """A second measurement that differs is named with its line, once a process; an equal one is nothing to tell."""
    run = write(tmp_path, record(0, "success"), record(1), record(1, seconds_policy=2.0), record(0, "failure"))
    assert [run.records()["toy/00/000"].outcome for _ in range(2)] == ["success", "success"]
    told = capsys.readouterr().err
    assert told.count("notice") == 1 and "line 4 measures toy/00/000 again, with another result" in told


def test_missing_are_those_without_a_measurement():
    """Not run or ended in an error: both are still to be measured, in planned order."""
    records = {"toy/00/000": record(0), "toy/00/001": record(1, "error"), "toy/00/003": record(3, "failure")}
    assert missing([f"toy/00/{index:03d}" for index in (2, 3, 1, 0)], records) == ["toy/00/002", "toy/00/001"]


def test_measurement_leaves_out_circumstances_only():
    """Two records of one episode from different workers are the same measurement; another outcome is not."""
    here = record(0, seconds_physics=1.0, attempt=1, video="a.mp4")
    there = record(0, seconds_physics=9.0, attempt=3, traceback="x")
    assert here.measurement() == there.measurement() and not set(CIRCUMSTANCES) & set(here.measurement())
    for change in ({"steps": 3}, {"scene_sha": "ab"}, {"final_sha": "ab"}, {"any_step": True}, {"fingerprint": "f"}):
        assert record(0, **change).measurement() != here.measurement()


def test_another_config_is_refused(tmp_path):
    """A folder belongs to one config; the keys that differ are named with both values, the others are not."""
    run = write(tmp_path, record(0))
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())
    other = {**CONFIG, "policy": "random", "seed": 8}
    text = refusal(lambda: write(tmp_path, config=other))
    assert "policy: 'noop' there, 'random' now" in text and "seed: None there, 8 now" in text
    assert "suites" not in text and "--out" in text
    assert refusal(run.refuse_other_config, other) == text
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) == before


def test_the_same_config_is_accepted(tmp_path):
    """The same config continues; a folder without a run takes any."""
    Run(tmp_path / "new").refuse_other_config(CONFIG)
    write(tmp_path, record(0)).refuse_other_config(CONFIG)
    write(tmp_path, record(1))


def test_another_fingerprint_is_refused(tmp_path):
    """Records of different fingerprints are never merged; the field that differs is named."""
    write(tmp_path, record(0))
    text = refusal(lambda: write(tmp_path, record(1), parts={**PARTS, "simulator": "2.0"}))
    assert "fingerprint of toy" in text and "simulator: '1.0' there, '2.0' now" in text and "max_steps" not in text
    assert set(Run(tmp_path).records()) == {"toy/00/000"}


def test_fingerprint_hash_follows_from_content():
    """Twelve hex digits, whatever the order of the parts; any other value gives others."""
    assert fingerprint_hash(PARTS) == fingerprint_hash(dict(reversed(PARTS.items())))
    assert len(fingerprint_hash(PARTS)) == 12 and fingerprint_hash(PARTS) != fingerprint_hash({**PARTS, "x": 1})


def test_fingerprints_of_other_suites_are_kept(tmp_path):
    """A run over several suites is opened once an interpreter; earlier fingerprints stay in run.json."""
    run = write(tmp_path)
    later = {**information(), "fingerprints": {"second": {"hash": "h", "parts": {}}}}
    with closing(run):
        run.open(later)
    assert set(run.info["fingerprints"]) == {"toy", "second"}


def test_second_writer_is_refused(tmp_path):
    """One driver at a time, whatever process it is in; after `close` the next may write."""
    run = write(tmp_path)
    code = f"from tests.test_records import *; write(Path({str(tmp_path)!r}), record(2))"
    command = [sys.executable, "-c", f"from pathlib import Path\n{code}"]
    with closing(run):
        run.open(information())
        assert "another evalkit process is writing" in refusal(lambda: write(tmp_path))
        other = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert other.returncode != 0 and "another evalkit process is writing" in other.stderr
    subprocess.run(command, cwd=PROJECT, check=True)
    assert set(run.records()) == {"toy/00/002"}


def test_a_run_opens_once_for_each_interpreter(tmp_path):
    """Suites in different interpreters are measured one after the other: the run keeps both fingerprints."""
    run = Run(tmp_path)
    with closing(run):
        run.open(information())
        run.append(record(0))
        other = {"hash": "x", "parts": {"simulator": "2.0"}}
        run.open({**information(), "fingerprints": {"other": other}})
        run.append(record(1))
    assert set(run.info["fingerprints"]) == {"toy", "other"}
    assert set(run.records()) == {"toy/00/000", "toy/00/001"}


@pytest.mark.parametrize("content, problem", [(None, "is not a run"), ("{", "not valid JSON")])
def test_a_folder_that_is_no_run(tmp_path, content, problem):
    """A folder without a readable run.json is refused by name."""
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    text = refusal(lambda: Run(tmp_path).info)
    assert problem in text and str(tmp_path) in text


def test_writing_atomically_leaves_nothing_else(tmp_path):
    """A file is replaced as a whole, text or bytes, without leftovers."""
    for content in ("old", "new", b"\x00\xff"):
        write_atomically(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"\x00\xff" and [path.name for path in tmp_path.iterdir()] == ["file"]
