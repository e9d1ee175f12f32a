"""The command line on real LIBERO in Ray workers, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from evalkit.records import Run
from evalkit.tables import AVERAGE, task_table, title

pytestmark = pytest.mark.end_to_end

REPOSITORY = Path(__file__).resolve().parents[1]
PACK = Path(os.environ.get("EVALKIT_LIBERO_ASSETS", REPOSITORY.parent / "shared" / "data" / "libero_assets"))

needs_pack = pytest.mark.skipif(not PACK.is_dir(), reason="needs LIBERO's assets: set EVALKIT_LIBERO_ASSETS, or put "
                                                          "the shared pack beside the checkout")

#: Success rates that a first scripted probe reached on init states 0 to 4 of each suite, on upstream's geometry.
PROBE = {"libero_object": 50 / 50, "libero_spatial": 42 / 50, "libero_goal": 35 / 50, "libero_10": 30 / 50}

#: Episodes of each task here: one, or two with EVALKIT_FULL_TESTS=1; 0 to 4 (200 in all) take six minutes on two slow
#: cores.
FIRST, END = 2, 4 if os.environ.get("EVALKIT_FULL_TESTS") else 3


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "evalkit.cli", *map(str, arguments)]


def evalkit(*arguments: object, status: int = 0) -> subprocess.CompletedProcess:
    """Run the command line from the repository; fail with its output unless it ends with `status`."""
    done = subprocess.run(command(*arguments), cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def measurements(folder: Path) -> dict[str, dict]:
    return {record.id: record.measurement() for record in Run(folder).records().values()}


def by_suite(table: pd.DataFrame) -> dict[str, int]:
    """Successes of each suite."""
    averages = table[(table["name"] == AVERAGE) & (table["suite"] != "all suites")]
    return dict(zip(averages["suite"], averages["successes"]))


@needs_pack
def test_scripted_policy_solves_the_paper_suites(tmp_path):
    """The main job on upstream's geometry: every episode measured, the probe's rates reached, no task at zero."""
    out = tmp_path / "run"
    printed = evalkit("run", "--suite", "libero", "--policy", "scripted", "--episodes", f"{FIRST}:{END}",
                      "--assets", PACK, "--out", out)
    table = task_table(Run(out))
    print(table.to_string())
    assert len(Run(out).records()) == 40 * (END - FIRST)
    assert "libero_10/09" in printed.stdout and str(out) in printed.stdout
    for suite, successes in by_suite(table).items():
        n = 10 * (END - FIRST)
        assert successes >= PROBE[suite] * n, f"{suite}: {successes}/{n}, the probe had {PROBE[suite]:.0%}"
    at_zero = table[table["successes"] == 0]
    assert at_zero.empty, f"no paper task stays at zero:\n{at_zero}"


def test_scripted_policy_on_stand_ins(tmp_path):
    """Generated assets carry the main job without any download: at least 60 % overall, and the title warns."""
    out = tmp_path / "run"
    evalkit("run", "--suite", "libero_object,libero_goal", "--policy", "scripted", "--episodes", 1, "--assets",
            "stand-in", "--out", out)
    table = task_table(Run(out))
    print(table.to_string())
    overall = table[table["suite"] == "all suites"].iloc[0]
    assert overall["n"] == 20
    assert overall["rate"] >= 0.6
    assert "stand-in assets: not comparable with published results" in title(Run(out))


def test_holding_still_never_succeeds(tmp_path):
    """The noop policy scores 0, in suites of two interpreters in one run; status 0: every episode was measured."""
    out = tmp_path / "run"
    evalkit("run", "--suite", "libero_spatial,toy", "--policy", "noop", "--tasks", "0,2", "--episodes", 1,
            "--assets", "stand-in", "--out", out)
    assert {record.id: record.outcome for record in Run(out).records().values()} == dict.fromkeys(
        ("libero_spatial/00/000", "libero_spatial/02/000", "toy/00/000", "toy/02/000"), "failure")
    assert Run(out).info["config"]["seed_policy"] == "per_episode", "the first that both suites have"


def test_broken_assets_are_refused(tmp_path):
    """An incomplete asset folder is one screen of what is missing, status 2, and leaves no run behind."""
    (tmp_path / "assets" / "scenes").mkdir(parents=True)
    done = evalkit("run", "--suite", "libero_goal", "--policy", "noop", "--assets", tmp_path / "assets",
                   "--out", tmp_path / "run", status=2)
    assert "articulated_objects/flat_stove.xml" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 25
    assert not (tmp_path / "run").exists()
