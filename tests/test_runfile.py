"""Edited run files: whatever stands in run.json or a record, a command refuses it by name or takes it; it never fails
in any other way."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest

from evalkit import frames, tables
from evalkit.compare import compare
from evalkit.compare_text import render
from evalkit.errors import InputError
from evalkit.looks import look
from evalkit.merge import merge
from evalkit.records import Run
from evalkit.report import write_report
from tests.test_report import make_run

STRANGE = (None, 10**30, "x", [{}], {"a": 1})

#: Places in run.json, and fields of a record.
PLACES = ((), ("config",), ("planned",), ("planned", 0), ("fingerprints",), ("fingerprints", "toy"),
          ("fingerprints", "toy", "hash"), ("fingerprints", "toy", "parts"), ("settings",), ("versions",),
          *(("config", key) for key in ("suites", "policy", "policy_options", "tasks", "episodes", "seed")))
FIELDS = ("id", "suite", "task", "index", "outcome", "any_step", "first_success_step", "steps", "scene_sha", "video")


def uses(run: Run, other: Run, folder: Path):
    """Everything that reads a run, as functions."""
    return {
        "table": lambda: tables.render(run, "csv"), "export": lambda: frames.load(run),
        "compare": lambda: render(compare(run, other), "markdown"), "compared": lambda: compare(other, run),
        "look": lambda: look(run, other, 1, 1, path=folder / "plan.json"),
        "report": lambda: write_report([run], folder / "report.html"),
        "merge": lambda: merge([run, other], folder / "merged"),
    }


def replaced(values, place, new):
    """A copy of `values` with `new` in a place of it."""
    if not place:
        return new
    values = copy.deepcopy(values)
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return values


def refusals(run: Run, other: Run, folder: Path) -> dict[str, str]:
    """What each use says of a run that it refuses."""
    shutil.rmtree(folder / "merged", ignore_errors=True)
    said = {}
    for name, use in uses(run, other, folder).items():
        try:
            use()
        except InputError as error:
            said[name] = str(error)
    return said


@pytest.fixture
def runs(tmp_path):
    """A run to be edited, another that stays, and a folder for what is written."""
    (tmp_path / "out").mkdir()
    return make_run(tmp_path / "run"), make_run(tmp_path / "other"), tmp_path / "out"


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)) or "all")
def test_strange_values_in_the_run_file(runs, place):
    """Each place of run.json in turn holds values of other types."""
    run, other, out = runs
    info = json.loads((run.folder / "run.json").read_text())
    for new in STRANGE:
        (run.folder / "run.json").write_text(json.dumps(replaced(info, place, new)))
        said = refusals(run, other, out)
        assert all("run.json" in text or "fingerprint" in text or "suite" in text or "plan" in text or "config" in text
                   for text in said.values()), (new, said)


@pytest.mark.parametrize("field", FIELDS)
def test_strange_values_in_a_record(runs, field):
    """Each field of a record in turn holds values of other types."""
    run, other, out = runs
    first, *rest = run.episodes_path.read_text().splitlines()
    for new in STRANGE:
        edited = json.dumps({**json.loads(first), field: new})
        run.episodes_path.write_text("\n".join([edited, *rest]) + "\n")
        refusals(run, other, out)


def test_an_unknown_outcome_is_no_failure(runs):
    """A comparison refuses an outcome that is none of the three, as a table does."""
    run, other, out = runs
    run.episodes_path.write_text(run.episodes_path.read_text().replace('"failure"', '"failed"'))
    said = refusals(run, other, out)
    assert set(said) == {*uses(run, other, out)}
    assert all("has outcome 'failed'; allowed: success, failure, error" in text for text in said.values())


@pytest.mark.parametrize("name", ["run.json", "episodes.jsonl"])
def test_folders_instead_of_files(runs, name):
    """What cannot be read is named."""
    run, other, out = runs
    (run.folder / name).unlink()
    (run.folder / name).mkdir()
    said = refusals(run, other, out)
    assert set(said) == {*uses(run, other, out)} and all(f"cannot read {run.folder / name}" in text
                                                         for text in said.values())


def test_a_table_of_a_run_without_episodes(runs):
    """No plan, no table; it says so."""
    run, _, _ = runs
    info = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**info, "planned": []}))
    run.episodes_path.unlink()
    with pytest.raises(InputError, match="plans no episode"):
        tables.render(run, "terminal")
