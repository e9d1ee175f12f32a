"""Tables: a run folder made by hand, its numbers worked out by hand, in every format."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from contextlib import closing

import pytest

from evalkit.grid import FORMATS
from evalkit.records import Record, Run, fingerprint_hash
from evalkit.stats import wilson
from evalkit.tables import render, task_table, title
from tests.helpers import evalkit

#: Outcome and steps of each planned episode; None: not run. Toy has the tasks near, far and unreachable.
OUTCOMES = {
    0: [("success", 10), ("success", 20), ("failure", 40), ("success", 6), ("error", 0)],
    1: [("failure", 40), ("failure", 40), ("error", 0), None, None],
    2: [("success", 30), ("failure", 40), ("failure", 40), ("failure", 40), ("failure", 40)],
}
UNMEASURED = {**OUTCOMES, 1: [("error", 0), ("error", 0), ("error", 0), None, None]}
COMPLETE = {task: [("success", 8), ("success", 8), ("failure", 40)] for task in range(3)}


def make_run(folder, outcomes=OUTCOMES, suites=("toy",), **parts) -> Run:
    """A run folder whose records are `outcomes`, for each of `suites`."""
    ids = {(suite, task, index): f"{suite}/{task:02d}/{index:03d}"
           for suite in suites for task, row in outcomes.items() for index in range(len(row))}
    config = {"suites": list(suites), "policy": "noop", "episodes": [0, 5], "seed_policy": "per_episode", "seed": 7}
    fingerprint = {"hash": fingerprint_hash(parts), "parts": parts}
    run = Run(folder)
    with closing(run):
        run.open({"config": config, "planned": list(ids.values()), "fingerprints": dict.fromkeys(suites, fingerprint)})
        for (suite, task, index), name in reversed(ids.items()):
            if outcomes[task][index] is not None:
                outcome, steps = outcomes[task][index]
                run.append(Record(name, suite, task, index, seed=1, outcome=outcome, steps=steps,
                                  fingerprint=fingerprint["hash"]))
    return run


@pytest.fixture
def run(tmp_path) -> Run:
    return make_run(tmp_path / "run")


def row(run: Run, name: str) -> dict:
    table = task_table(run)
    return table[table["name"] == name].iloc[0].to_dict()


def test_rows_are_the_tasks_and_their_average(run):
    """One row a task in the suite's order, then the suite's average."""
    assert task_table(run)["name"].tolist() == ["near", "far", "unreachable", "average"]


@pytest.mark.parametrize("name, successes, n, errors, missing, steps", [
    ("near", 3, 4, 1, 0, 19.0),          # (10 + 20 + 40 + 6) / 4
    ("far", 0, 2, 1, 2, 40.0),
    ("unreachable", 1, 5, 0, 0, 38.0),   # (30 + 4 x 40) / 5
    ("average", 4, 11, 2, 2, 346 / 11),  # all measured episodes
])
def test_counts(run, name, successes, n, errors, missing, steps):
    """Errors and missing episodes are counted beside n, never in it, nor in the mean of the steps."""
    found = row(run, name)
    assert (found["successes"], found["n"], found["errors"], found["missing"]) == (successes, n, errors, missing)
    assert found["mean_steps"] == pytest.approx(steps)


@pytest.mark.parametrize("name, successes, n", [("near", 3, 4), ("far", 0, 2), ("unreachable", 1, 5)])
def test_rate_and_interval_of_a_task(run, name, successes, n):
    """The rate is k/n of measured episodes, with its Wilson interval."""
    found = row(run, name)
    assert found["rate"] == successes / n and (found["low"], found["high"]) == wilson(successes, n)


def test_average_is_the_mean_of_rates(run):
    """(3/4 + 0/2 + 1/5) / 3, not 4/11; Wilson at n_eff = 9 / (1/4 + 1/2 + 1/5)."""
    found, n_eff = row(run, "average"), 9 / 0.95
    assert found["rate"] == pytest.approx(0.95 / 3)
    assert (found["low"], found["high"]) == pytest.approx(wilson(0.95 / 3 * n_eff, n_eff))


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_no_average_over_fewer_tasks(tmp_path, form):
    """A task without any measured episode has no rate, and its suite no average: NaN, printed as a dash."""
    run = make_run(tmp_path, UNMEASURED)
    for name in ("far", "average"):
        found = row(run, name)
        assert math.isnan(found["rate"]) and math.isnan(found["low"]) and math.isnan(found["high"])
    assert math.isnan(row(run, "far")["mean_steps"]) and row(run, "near")["rate"] == 0.75
    averages = [line for line in render(run, form).splitlines() if " average " in line]
    assert len(averages) == 1 and "4/9" in averages[0]
    cells = averages[0].replace("&", " ").replace("|", " ").split()
    assert cells[cells.index("4/9") + 1:][:2] == ["-", "-"] and "nan" not in render(run, form).lower()


def test_nothing_measured_at_all(tmp_path):
    """A run without records is a table of dashes, not an exception."""
    run = make_run(tmp_path, {0: [None, None], 1: [("error", 0), None]})
    assert all(render(run, form) for form in FORMATS)
    assert row(run, "average")["n"] == 0 and row(run, "average")["missing"] == 3


def test_two_suites_and_their_average(tmp_path):
    """Each suite has its own average; the last row is the mean over the tasks of all, if they are one benchmark's."""
    table = task_table(make_run(tmp_path, suites=("libero_spatial", "libero_goal")))
    averages = table[table["name"] == "average"]
    assert averages["suite"].tolist() == ["libero_spatial", "libero_goal", "all suites"]
    assert averages["rate"].tolist() == pytest.approx([0.95 / 3] * 3)
    assert averages["n"].tolist() == [11, 11, 22]
    assert averages["high"].iloc[2] < averages["high"].iloc[0]  # twice the episodes: a narrower interval
    mixed = task_table(make_run(tmp_path / "mixed", suites=("toy", "libero_goal")))
    assert mixed.loc[mixed["name"] == "average", "suite"].tolist() == ["toy", "libero_goal"]


def test_title_says_what_was_measured(run):
    """Suite, policy, episodes, seed policy and success rule; nothing about assets where there are none."""
    for part in ("toy", "noop", "0 to 4", "per_episode", "seed 7", "predicate true at any step"):
        assert part in title(run)
    assert "not comparable" not in title(run)


@pytest.mark.parametrize("policy, described, told", [
    ("dit4dit", {"checkpoint": {"path": "x", "sha256": "0123456789abcdef"}},
     "policy dit4dit (checkpoint 0123456789ab);"),
    ("remote", {"server": {"policy": "dit4dit", "checkpoint": {"sha256": "0123456789abcdef"}}},
     "policy remote (dit4dit, checkpoint 0123456789ab);"),
    ("of/mine/mine.py:Mine", {}, "policy mine.py:Mine;"), ("noop", {"server": {"policy": None}}, "policy noop;"),
])
def test_title_says_what_acts(run, policy, described, told):
    """A checkpoint by its hash, a server by what it serves, a file of one's own by its name."""
    info = run.info
    (run.folder / "run.json").write_text(json.dumps(
        {**info, "policy": described, "config": {**info["config"], "policy": policy}}))
    assert told in title(run)


@pytest.mark.parametrize("kind, warning", [
    ("real", None), ("stand-in", "stand-in assets: not comparable with published results"),
    ("altered", "altered visuals"), ("built-in", "built-in scenes: not comparable with published results"),
])
@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_assets_are_named_in_the_title(tmp_path, kind, warning, form):
    """Numbers made on assets that are not upstream's own say so wherever they are read."""
    text = " ".join(render(make_run(tmp_path, asset_kind=kind, simulator="1"), form).split())
    assert warning in text if warning else "not comparable" not in text


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_incomplete_runs_say_so(tmp_path, run, form):
    """Errors and missing episodes are told in words below the table; a complete run has no such words."""
    text = " ".join(render(run, form).split())
    assert "INCOMPLETE" in text and "2 episodes ended in errors and 2 were not run" in text
    assert "INCOMPLETE" not in render(make_run(tmp_path / "complete", COMPLETE), form)


def test_markdown(run):
    """A heading line, then a table in which every row has nine cells."""
    text = render(run, "markdown")
    grid = [line for line in text.splitlines() if line.startswith("|")]
    assert len(grid) == 6 and {line.count("|") for line in grid} == {10}
    assert [cell.strip() for cell in grid[2].split("|")[1:-1]] == [
        "toy", "0", "near", "3/4", "75.0", "30.1 - 95.4", "1", "0", "19"]
    assert text.startswith(title(run))


def test_csv_holds_raw_numbers(run):
    """CSV has one header, fractions at full precision, and empty cells where there is no number."""
    rows = list(csv.DictReader(io.StringIO(render(run, "csv"))))
    assert list(rows[0]) == ["suite", "task", "name", "successes", "n", "rate", "low", "high", "errors", "missing",
                             "mean_steps"]
    assert len(rows) == 4 and float(rows[2]["rate"]) == 0.2 and rows[3]["task"] == ""
    assert (float(rows[0]["low"]), float(rows[0]["high"])) == pytest.approx(wilson(3, 4), abs=1e-12)


def test_csv_leaves_undefined_numbers_empty(tmp_path):
    """NaN is an empty cell."""
    rows = list(csv.DictReader(io.StringIO(render(make_run(tmp_path, UNMEASURED), "csv"))))
    assert [rows[1][key] for key in ("rate", "low", "high", "mean_steps")] == [""] * 4


def test_latex_is_a_booktabs_table(run):
    """Rules of booktabs, eight cells a row, a line before the average, balanced braces, a caption."""
    text = render(run, "latex")
    for needed in ("\\begin{table}", "\\caption{", "\\toprule", "\\bottomrule", "\\end{tabular}"):
        assert text.count(needed) == 1
    body = text.split("\\midrule", 1)[1].split("\\bottomrule")[0].strip().splitlines()
    assert len(body) == 5 and body[3] == "\\midrule" and body.pop(3)
    assert all(line.replace("\\&", "").count("&") == 7 and line.endswith("\\\\") for line in body)
    assert text.count("{") == text.count("}") and "toy/00 & near & 3/4 & 75.0" in text


def test_latex_escapes_its_special_characters(tmp_path):
    """No bare %, _ or # is left; a backslash comes before each."""
    run = make_run(tmp_path, suites=("libero_goal",))
    text = render(run, "latex")
    assert "libero\\_goal" in text and "95\\%" in text and "per\\_episode" in text
    text = text.partition("\n")[2].replace("{!}{%", "")  # the packages; the end of a line of commands
    for character in "%_#":
        assert text.count(character) == text.count(f"\\{character}")


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_terminal_shows_every_number(tmp_path, monkeypatch, columns):
    """In a narrow window names are cut, numbers never are, and no line is wider than the window."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    text = re.sub(r"\x1b\[[0-9;]*m", "", render(make_run(tmp_path, suites=("libero_spatial",)), "terminal"))
    assert max(map(len, text.splitlines())) <= columns
    for number in ("libero_spatial/00", "3/4", "75.0", "30.1 - 95.4", "0/2", "0.0 - 65.8", "1/5", "20.0", "3.6 - 62.4",
                   "4/11", "31.7", "19", "40", "38", "31"):
        assert any(f" {number} " in f" {line} " for line in text.splitlines()), number
    assert [line.split()[-3:-1] for line in text.splitlines() if " 4/11 " in line] == [["2", "2"]]


def test_terminal_without_a_window(run):
    """In a file or a pipe the table is plain text."""
    assert "\x1b" not in render(run, "terminal")


@pytest.mark.parametrize("form", ["terminal", "csv"])
def test_table_command(run, tmp_path, form):
    """`evalkit table` prints the same and ends with status 1, naming what is missing, on an incomplete run."""
    done = evalkit("table", run.folder, "--format", form, cwd=tmp_path)
    assert done.returncode == 1 and "4 of 15 planned episodes have no measurement" in done.stderr
    assert "toy/00/004" in done.stderr
    if form != "terminal":
        assert done.stdout == render(run, form)
    assert "3/4" in done.stdout or "toy,0,near,3,4,0.75" in done.stdout


def test_table_command_on_a_complete_run(tmp_path):
    """A complete run ends with status 0 and says nothing on stderr; reading changes nothing in the folder."""
    run = make_run(tmp_path / "run", COMPLETE)
    before = sorted((path.name, path.read_bytes()) for path in run.folder.iterdir())
    done = evalkit("table", run.folder, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.count("2/3") == 3
    assert sorted((path.name, path.read_bytes()) for path in run.folder.iterdir()) == before
