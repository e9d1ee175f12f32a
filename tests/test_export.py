"""Frames and exports: a run folder made by hand, its rows worked out by hand."""

from __future__ import annotations

import json
from contextlib import closing

import pandas as pd
import pytest

from evalkit.errors import InputError
from evalkit.frames import export, load
from evalkit.records import Record, Run

PLANNED = ["toy/00/000", "toy/00/001", "toy/02/000", "toy/02/001"]
CONFIG = {"suites": ["toy"], "policy": "noop", "episodes": [0, 2], "seed_policy": "per_episode", "seed": 7}
RECORDS = [
    Record("toy/02/000", "toy", 2, 0, seed=3, outcome="failure", any_step=False, steps=40, seconds_physics=1.5,
           instruction='say "hi", then\ngo', fingerprint="f"),
    Record("toy/00/000", "toy", 0, 0, seed=1, outcome="success", any_step=True, first_success_step=7, steps=7,
           video="videos/a.mp4", fingerprint="f"),
    Record("toy/00/001", "toy", 0, 1, seed=2, outcome="error", attempt=3, traceback="Traceback\nboom"),
]


def make_run(folder, records=RECORDS, planned=PLANNED, config=CONFIG) -> Run:
    """A closed run folder with these records; toy/02/001 is planned and not measured."""
    run = Run(folder)
    with closing(run):
        run.open({"config": config, "planned": planned, "fingerprints": {"toy": {"hash": "f", "parts": {}}}})
        for record in records:
            run.append(record)
    return run


@pytest.fixture
def run(tmp_path) -> Run:
    return make_run(tmp_path / "run")


def edit_line(run: Run, number: int, **changes) -> None:
    """Change fields of one line of episodes.jsonl, as a hand would."""
    lines = run.episodes_path.read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **changes})
    run.episodes_path.write_text("".join(f"{line}\n" for line in lines))


def edit_info(run: Run, **changes) -> None:
    (run.folder / "run.json").write_text(json.dumps({**run.info, **changes}))


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


def test_a_row_for_each_planned_episode(run):
    """Rows follow the plan, not the file; errors and missing episodes are rows with their outcome."""
    frame = load(run)
    assert frame["id"].tolist() == PLANNED
    assert frame["outcome"].tolist() == ["success", "error", "failure", "missing"]
    assert frame["name"].tolist() == ["near", "near", "unreachable", "unreachable"]
    assert frame["task"].tolist() == [0, 0, 2, 2] and frame["index"].tolist() == [0, 1, 0, 1]


def test_every_field_of_a_record_is_a_column(run):
    """All values of a record are in its row, unchanged."""
    frame = load(run)
    assert [*frame.columns[:6]] == ["id", "suite", "task", "name", "group", "index"]
    for record in RECORDS:
        row = frame[frame["id"] == record.id].iloc[0]
        for key, value in vars(record).items():
            assert pd.isna(row[key]) if value is None else row[key] == value, key


def test_a_missing_episode_has_no_numbers(run):
    """Nothing is made up for an episode that did not run: no zero steps, no zero seconds, no seed."""
    row = load(run).iloc[3]
    known = {"id", "suite", "task", "name", "group", "index", "outcome"}
    assert all(pd.isna(row[column]) for column in row.index if column not in known)


def test_groups_come_from_the_suite(tmp_path):
    """GR1's families are in `group`."""
    config = {**CONFIG, "suites": ["robocasa_gr1"]}
    frame = load(make_run(tmp_path, [], ["robocasa_gr1/00/000", "robocasa_gr1/23/049"], config))
    assert frame["group"].nunique() == 2 and frame["outcome"].tolist() == ["missing", "missing"]


def test_types_do_not_depend_on_the_values(tmp_path):
    """An empty plan, a run without records and a full run have the same columns of the same types."""
    full = load(make_run(tmp_path / "full")).dtypes
    assert load(make_run(tmp_path / "none", [])).dtypes.equals(full)
    empty = load(make_run(tmp_path / "empty", [], []))
    assert len(empty) == 0 and empty.dtypes.equals(full)


def test_a_path_will_do(run):
    """A folder's path, as text too, is as good as a Run."""
    assert load(str(run.folder)).equals(load(run)) and load(run.folder).equals(load(run))


def test_rates_from_the_frame(run):
    """The one line of the documentation: measured episodes of each task, and their successes."""
    frame = load(run)
    measured = frame[frame["outcome"].isin(["success", "failure"])]
    assert measured.groupby("name")["outcome"].agg(lambda column: (column == "success").mean()).to_dict() == {
        "near": 1.0, "unreachable": 0.0}


def test_parquet_gives_the_same_frame(run, tmp_path):
    """Values and types survive the file."""
    pytest.importorskip("pyarrow", reason="parquet is written by pyarrow, which is not installed")
    export(run, tmp_path / "episodes.parquet", "parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "episodes.parquet"), load(run))


def test_csv(run, tmp_path):
    """Text with commas, quotes and line breaks survives; what is not there is an empty cell; same bytes each time."""
    for name in ("a.csv", "b.csv"):
        export(run, tmp_path / name, "csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    back = pd.read_csv(tmp_path / "a.csv", keep_default_na=False, dtype=str)
    assert back["id"].tolist() == PLANNED and back["instruction"][2] == 'say "hi", then\ngo'
    assert back["steps"].tolist() == ["7", "0", "40", ""] and back["first_success_step"].tolist() == ["7", "", "", ""]
    assert back["any_step"].tolist() == ["True", "", "False", ""]


def test_an_unknown_form_is_refused(run, tmp_path):
    """The forms are named, and nothing is written."""
    text = refusal(export, run, tmp_path / "out", "parket")
    assert "'parquet'" in text and "csv" in text and not (tmp_path / "out").exists()


def test_a_failed_export_leaves_the_old_file(run, tmp_path):
    """A run that cannot be read does not cost the export that was there."""
    (tmp_path / "out.csv").write_text("old")
    edit_line(run, 0, outcome="sucess")
    refusal(export, run, tmp_path / "out.csv", "csv")
    assert (tmp_path / "out.csv").read_text() == "old"


def test_an_export_makes_its_folders(run, tmp_path):
    """Folders on the way are made; a place that cannot be written is named."""
    export(run, tmp_path / "new" / "deep" / "out.csv", "csv")
    assert (tmp_path / "new" / "deep" / "out.csv").read_text().startswith("id,suite,task")
    for place in (tmp_path, run.episodes_path / "out.csv"):
        assert f"cannot write {place}" in refusal(export, run, place, "csv")


@pytest.mark.parametrize("changes, told", [
    ({"outcome": "sucess"}, ["outcome 'sucess'", "success, failure, error"]),
    ({"steps": "40"}, ["steps '40'", "int"]),
    ({"steps": True}, ["steps True"]),
    ({"any_step": 1}, ["any_step 1", "bool or NoneType"]),
    ({"seconds_reset": None}, ["seconds_reset None"]),
    ({"index": 1}, ["another episode"]),
    ({"id": "toy/01/000", "task": 1}, ["toy/01/000", "not in the plan"]),
    ({"steps": -1}, ["steps -1", "negative"]),
    ({"outcome": "success"}, ["'success'", "any_step False, which decides it"]),
    ({"fingerprint": "g"}, ["'g'", "'f' for toy", "another run"]),
])
def test_edited_records_are_refused_by_field(run, changes, told):
    """A value that no evaluation writes is named with its record, file and field, and the next move."""
    edit_line(run, 0, **changes)
    text = refusal(load, run)
    assert all(part in text for part in [*told, str(run.episodes_path), "Remove its line"])


def test_records_of_a_later_version(run):
    """Fields that this version does not know are left out; the rest is read."""
    before = load(run)
    edit_line(run, 1, mood="sunny")
    pd.testing.assert_frame_equal(load(run), before)


def test_truncated_records(run, capsys):
    """A torn last line is a missing episode, with a notice."""
    run.episodes_path.write_bytes(run.episodes_path.read_bytes()[:-30])
    assert load(run)["outcome"].tolist() == ["success", "missing", "failure", "missing"]
    assert "torn last line" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["config", "planned", "fingerprints"])
def test_run_json_lacks_a_key(run, key):
    """The key that is lacking is named."""
    (run.folder / "run.json").write_text(json.dumps({name: value for name, value in run.info.items() if name != key}))
    assert f"has no {key}" in refusal(load, run)


@pytest.mark.parametrize("planned, told", [
    (["toy/00/000", "toy/0"], "'toy/0'"), ([7], "7"), (["toy/03/000"], "tasks 0 to 2"),
    (["toys/00/000"], "Did you mean 'toy'"), (["toy/00/000", "toy/00/000"], "twice"),
])
def test_a_plan_that_makes_no_sense(tmp_path, planned, told):
    """Ids that are none, and suites and tasks that are not there, are named."""
    run = make_run(tmp_path, [])
    edit_info(run, planned=planned)
    assert told in refusal(load, run)


def test_config_lacks_a_key(run):
    """Keys of the config are named with their place."""
    edit_info(run, config={"suites": ["toy"]})
    assert "config.policy" in refusal(load, run)
