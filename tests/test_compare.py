"""Comparing two runs: records written by hand, numbers worked out by hand, every way in which runs may not match."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from dataclasses import asdict

import pytest

from evalkit.compare import compare
from evalkit.compare_text import FORMATS, render, rows_table
from evalkit.errors import InputError
from evalkit.records import Record, Run, fingerprint_hash
from evalkit.stats import mcnemar, paired_mean_difference

OUTCOMES = {"S": "success", "F": "failure", "E": "error"}
PARTS = {"max_steps": 40, "success_rule": "any_step", "seed_policy": "per_episode", "simulator": "1"}

#: Near: 8 both, 2 only A, 10 only B. Far: equal. Unreachable: never.
PAIRED_A = {0: "S" * 10 + "F" * 10, 1: "SF" * 10, 2: "F" * 20}
PAIRED_B = {0: "S" * 8 + "F" * 2 + "S" * 10, 1: "SF" * 10, 2: "F" * 20}

#: Near: 28 of 50 against 38 of 50.
UNPAIRED_A = {0: "S" * 28 + "F" * 22, 1: "SF" * 25, 2: "SF" * 25}
UNPAIRED_B = {0: "S" * 38 + "F" * 12, 1: "FS" * 25, 2: "FS" * 25}


def make_run(folder, outcomes, suites=("toy",), first=0, policy="noop", scene="", **parts) -> Run:
    """A run folder with a letter an episode from index `first`: success, failure, error or (.) not run."""
    run, parts = Run(folder), {**PARTS, **parts}
    config = {"suites": list(suites), "policy": policy, "policy_options": {}, "episodes": [first, first + 1],
              "seed_policy": "per_episode", "seed": 7}
    episodes = [(f"{suite}/{task:02d}/{index:03d}", suite, task, index, letter) for suite in suites
                for task, row in outcomes.items() for index, letter in enumerate(row, start=first)]
    fingerprint = {"hash": fingerprint_hash(parts), "parts": parts}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({
        "config": config, "planned": [episode[0] for episode in episodes],
        "fingerprints": dict.fromkeys(suites, fingerprint)}))
    with open(folder / "episodes.jsonl", "w") as file:
        for key, suite, task, index, letter in episodes:
            if letter != ".":
                record = Record(key, suite, task, index, 1, OUTCOMES[letter], fingerprint=fingerprint["hash"],
                                scene_sha=scene and f"{scene}{key}")
                file.write(json.dumps(asdict(record)) + "\n")
    return run


@pytest.fixture
def pair(tmp_path):
    """A function that makes two runs and compares them."""
    def build(outcomes_a, outcomes_b, a=None, b=None):
        numbered = tmp_path / str(len(list(tmp_path.iterdir())))
        return compare(make_run(numbered / "first", outcomes_a, **(a or {})),
                       make_run(numbered / "second", outcomes_b, **(b or {})))
    return build


def test_paired_rows(pair):
    """Same ids and fingerprint: discordant pairs decide; 2 against 10: mid-p (2 (1 + 12) + 66) / 4096, Holm x 3."""
    found = pair(PAIRED_A, PAIRED_B)
    near, far, unreachable = found.tasks
    assert found.pairings[0].paired and "same episode ids and fingerprint" in found.pairings[0].reason
    assert (near.k_a, near.n_a, near.k_b, near.n_b, near.only_a, near.only_b) == (10, 20, 18, 20, 2, 10)
    assert near.p == pytest.approx(92 / 4096) and near.p_holm == pytest.approx(3 * 92 / 4096)
    assert near.difference.value == pytest.approx(0.4) and near.verdict == "no difference shown"
    assert (far.only_a, far.only_b, far.p, far.difference.value) == (0, 0, 1.0, 0.0)
    assert (unreachable.k_a, unreachable.k_b, unreachable.verdict) == (0, 0, "no difference shown")


def test_paired_average(pair):
    """Mean of 8/20, 0, 0; McNemar on the sums 2 and 10; one average, so Holm changes nothing: B is better."""
    (average,) = pair(PAIRED_A, PAIRED_B).averages
    assert average.difference == paired_mean_difference([2, 0, 0], [10, 0, 0], [20] * 3)
    assert average.difference.value == pytest.approx(0.4 / 3) and average.difference.low > 0
    assert (average.rate_a, average.rate_b) == pytest.approx((20 / 60, 28 / 60))
    assert average.p == average.p_holm == mcnemar(2, 10) and average.verdict == "better"
    assert 0.9 < average.probability < 1


def test_discordant_episodes_are_named(pair):
    """By id, in order; concordant ones are not."""
    found = pair(PAIRED_A, PAIRED_B)
    assert found.only_a == ("toy/00/008", "toy/00/009")
    assert found.only_b == tuple(f"toy/00/{index:03d}" for index in range(10, 20))


def test_exchanging_the_runs_mirrors_everything(pair):
    """B against A: the opposite difference, interval, discordant episodes and verdict; the same p."""
    one, other = pair(PAIRED_A, PAIRED_B), pair(PAIRED_B, PAIRED_A)
    (forth,), (back,) = one.averages, other.averages
    assert (back.difference.low, back.difference.high) == pytest.approx((-forth.difference.high, -forth.difference.low))
    assert (back.verdict, back.p) == ("worse", forth.p) and other.only_a == one.only_b
    assert back.probability == pytest.approx(1 - forth.probability, abs=0.01)


def test_start_states_are_checked(pair):
    """The reason names how many pairs started from one state; others are warned of."""
    assert "not recorded" in pair(PAIRED_A, PAIRED_B).pairings[0].reason
    same = pair(PAIRED_A, PAIRED_B, {"scene": "x"}, {"scene": "x"})
    assert "equal in 60 of 60 pairs" in same.pairings[0].reason and same.warnings == ()
    other = pair(PAIRED_A, PAIRED_B, {"scene": "x"}, {"scene": "y"})
    assert other.pairings[0].paired and any("60 of 60 pairs did not start" in warning for warning in other.warnings)


def test_other_seed_policy_is_unpaired(pair):
    """Another fingerprint: Boschloo 0.036801, Newcombe 0.014337 .. 0.367829 for 28 against 38 of 50; Holm x 3."""
    found = pair(UNPAIRED_A, UNPAIRED_B, b={"seed_policy": "fixed"})
    near = found.tasks[0]
    assert not found.pairings[0].paired and "seed_policy" in found.pairings[0].reason
    assert near.p == pytest.approx(0.036801, abs=1e-6) and near.p_holm == pytest.approx(0.110403, abs=3e-6)
    assert (near.difference.low, near.difference.high) == pytest.approx((0.014337, 0.367829), abs=1e-6)
    assert near.only_a is None and near.verdict == "no difference shown"
    assert found.only_a == found.only_b == ()
    (average,) = found.averages
    assert average.difference.value == pytest.approx(0.2 / 3) and average.only_a is None


def test_differing_fields_are_named(pair):
    """Protocol and simulator are told apart; every field with both values."""
    found = pair(UNPAIRED_A, UNPAIRED_B, b={"seed_policy": "fixed", "max_steps": 80, "simulator": "2", "renderer": "x"})
    assert {(item.field, item.a, item.b) for item in found.fingerprint_differences} == {
        ("seed_policy", "per_episode", "fixed"), ("max_steps", 40, 80), ("simulator", "1", "2"),
        ("renderer", None, "x")}
    assert any("protocols differ in max_steps, seed_policy:" in warning for warning in found.warnings)
    assert any("simulators or assets differ in renderer, simulator:" in warning for warning in found.warnings)
    assert pair(UNPAIRED_A, UNPAIRED_B).warnings == ()


def test_other_suites_are_refused(tmp_path):
    """No suite in common: an error that names both runs' suites."""
    a = make_run(tmp_path / "a", PAIRED_A)
    b = make_run(tmp_path / "b", PAIRED_B, suites=("libero_goal",))
    with pytest.raises(InputError, match=r"toy.*libero_goal.*different suites"):
        compare(a, b)


def test_common_suites_of_two_runs(pair):
    """What only one ran is named; the others are compared, each with an average, with Holm over both, and all."""
    found = pair(PAIRED_A, PAIRED_B, {"suites": ("libero_goal", "libero_10", "toy")},
                 {"suites": ("libero_10", "libero_goal")})
    assert found.suites == ("libero_goal", "libero_10") and "only A ran toy: left out" in found.warnings
    goal, ten, both = found.averages
    assert goal.p_holm == pytest.approx(2 * goal.p) and (ten.suite, both.suite) == ("libero_10", "all suites")
    assert (both.only_a, both.only_b, both.n_a, both.p) == (4, 20, 120, mcnemar(4, 20))
    assert found.tasks[0].p_holm == pytest.approx(6 * 92 / 4096)
    assert "libero_goal: the average is over 3 of its 10 tasks" in found.warnings


def test_suites_of_two_benchmarks_have_no_common_average(pair):
    """A mean over unlike benchmarks is not printed."""
    suites = {"suites": ("toy", "libero_goal")}
    assert [row.suite for row in pair(PAIRED_A, PAIRED_B, suites, suites).averages] == ["toy", "libero_goal"]


def test_common_tasks_and_episodes_only(pair):
    """A: tasks 0, 1 from episode 0; B: tasks 1, 2 from episode 5: task 1, episodes 5 to 19; the rest is named."""
    found = pair({0: "S" * 20, 1: "SF" * 10}, {1: "S" * 20, 2: "S" * 20}, b={"first": 5})
    (row,) = found.tasks
    assert (row.task, row.n_a, row.k_a, row.k_b) == (1, 15, 7, 15)
    for part in ("task 0 of A left out", "task 2 of B left out", "5 episodes planned only in A left out (first: "
                 "toy/01/000)", "5 episodes planned only in B left out (first: toy/01/020)", "over 1 of its 3 tasks"):
        assert any(part in warning for warning in found.warnings), part


def test_no_common_episode_is_unpaired(pair):
    """Episodes 0 to 19 against 20 to 39: all of both, as independent samples, and it says so."""
    found = pair(PAIRED_A, PAIRED_B, b={"first": 20})
    assert not found.pairings[0].paired and "no episode id is in both plans" in found.pairings[0].reason
    assert (found.tasks[0].n_a, found.tasks[0].n_b) == (20, 20)
    assert any("all of either run are compared" in warning for warning in found.warnings)


def test_no_common_task_is_refused(tmp_path):
    """Same suite, other tasks."""
    a, b = make_run(tmp_path / "a", {0: "SS"}), make_run(tmp_path / "b", {1: "SS"})
    with pytest.raises(InputError, match=r"no task in common.*task 0 of A left out"):
        compare(a, b)


def test_errors_are_never_failures(pair):
    """A pair with an error is no pair; the rate's bounds count the error either way."""
    found = pair({0: "SSFE", 1: "SFSF", 2: "SS.F"}, {0: "SSSS", 1: "SESF", 2: "SSSF"})
    near, far, unreachable = found.tasks
    assert (near.k_a, near.n_a, near.k_b, near.n_b, near.errors_a, near.errors_b) == (2, 3, 3, 3, 1, 0)
    assert (near.low_a, near.high_a, near.low_b, near.high_b) == (2 / 4, 3 / 4, 1.0, 1.0)
    assert (far.k_b, far.n_b, far.errors_b, far.low_b, far.high_b) == (2, 3, 1, 2 / 4, 3 / 4)
    assert (unreachable.missing_a, unreachable.errors_a, unreachable.n_a) == (1, 0, 3)
    (average,) = found.averages
    assert (average.errors_a, average.missing_a, average.errors_b, average.missing_b) == (1, 1, 1, 0)
    assert (average.low_a, average.high_a) == pytest.approx(((2 + 2 + 2) / 12, (3 + 2 + 3) / 12))


def test_unpaired_errors_leave_the_other_run_alone(pair):
    """An error in A takes nothing from B where episodes are not pairs."""
    found = pair({0: "SSFE"}, {0: "SSSS"}, b={"seed_policy": "fixed"})
    assert (found.tasks[0].n_a, found.tasks[0].n_b, found.tasks[0].k_b) == (3, 4, 4)


def test_errors_may_withdraw_a_verdict(pair):
    """0 against 6 discordant is better by itself (mid-p 1/64); two errors of B could have been 2 for A: cannot tell."""
    complete = {0: "F" * 6 + "S" * 24}, {0: "S" * 6 + "S" * 24}
    assert pair(*complete).averages[0].verdict == "better"
    (average,) = pair({0: "F" * 6 + "S" * 24}, {0: "S" * 6 + "S" * 22 + "EE"}).averages
    assert (average.only_a, average.only_b, average.verdict) == (0, 6, "cannot tell")
    (both,) = pair({0: "F" * 6 + "S" * 22 + "EE"}, {0: "S" * 28 + "EE"}).averages  # the same two episodes in both
    assert both.verdict == "cannot tell"
    (sure,) = pair({0: "F" * 30}, {0: "S" * 28 + "EE"}).averages
    assert sure.verdict == "better"


def test_missing_episodes_may_withdraw_no_difference(pair):
    """Equal so far, half of A not run: nothing can be said yet."""
    (average,) = pair({0: "SF" * 15 + "." * 30}, {0: "SF" * 30}).averages
    assert (average.missing_a, average.n_a, average.verdict) == (30, 30, "cannot tell")


@pytest.mark.parametrize("n, verdict", [(1, "too few episodes"), (4, "too few episodes"), (6, "better")])
def test_too_few_episodes(pair, n, verdict):
    """4 episodes at best give mid-p 1/16: no outcome could show anything; 6 give 1/64."""
    (average,) = pair({0: "F" * n}, {0: "S" * n}).averages
    assert average.p == pytest.approx(0.5**n) and average.verdict == verdict


def test_too_few_episodes_for_many_tasks(pair):
    """6 episodes a task: at best 1/64, times 10 tasks above 5 %: too few for any task, enough for the average."""
    found = pair({task: "F" * 6 for task in range(10)}, {task: "S" * 6 for task in range(10)},
                 *[{"suites": ("libero_goal",)}] * 2)
    assert {row.verdict for row in found.tasks} == {"too few episodes"} and found.averages[0].verdict == "better"


@pytest.mark.parametrize("form", FORMATS)
def test_single_episode(pair, form):
    """One episode each is a row like any other."""
    found = pair({0: "S"}, {0: "S"})
    assert found.tasks[0].p == 1.0 and found.tasks[0].verdict == "too few episodes"
    assert "too few episodes" in render(found, form).replace("\n", " ")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("more", [{}, {"seed_policy": "fixed"}])
def test_empty_run(pair, form, more):
    """Nothing measured in A: dashes, no average, all missing in plain sight; never 0 %, never an exception."""
    found = pair({0: "....", 1: "...."}, {0: "SSFF", 1: "SSFF"}, more)
    (average,) = found.averages
    assert math.isnan(average.difference.value) and average.verdict == "too few episodes" and average.missing_a == 8
    text = render(found, form)
    assert text.isascii() or form == "terminal"
    if form != "csv":
        assert "no average" in text and "8 were not run" in text and "nan" not in text.lower()


def test_suite_that_was_not_started(tmp_path):
    """No fingerprint in run.json yet: unpaired, and why."""
    a, b = make_run(tmp_path / "a", {0: "...."}), make_run(tmp_path / "b", {0: "SSFF"})
    info = json.loads((a.folder / "run.json").read_text())
    (a.folder / "run.json").write_text(json.dumps({**info, "fingerprints": {}}))
    assert "was not started" in compare(a, b).pairings[0].reason


def test_no_average_over_fewer_measured_tasks(pair):
    """One task without a measured pair: its row is dashes, and the suite has no average."""
    found = pair({0: "SSSS", 1: "EEEE"}, {0: "SSFF", 1: "SSSS"})
    assert math.isnan(found.averages[0].difference.value) and math.isnan(found.averages[0].rate_a)
    assert "no average, a task has no measured episode" in render(found, "markdown")


def test_edited_files(tmp_path):
    """What does not hold together is refused, as everywhere; so is a plan of nothing."""
    a, b = make_run(tmp_path / "a", PAIRED_A), make_run(tmp_path / "b", PAIRED_B)
    info = json.loads((a.folder / "run.json").read_text())
    for planned, told in ((None, "planned None"), (["toy/0"], "'toy/0'"), (info["planned"][1:], "not in the plan")):
        (a.folder / "run.json").write_text(json.dumps({**info, "planned": planned}))
        with pytest.raises(InputError, match=told):
            compare(a, b)
    (a.folder / "run.json").write_text(json.dumps({**info, "planned": []}))
    a.episodes_path.write_text("")
    with pytest.raises(InputError, match="plans no episode"):
        compare(a, b)


def test_not_a_run(tmp_path):
    """A folder without run.json."""
    with pytest.raises(InputError, match="is not a run"):
        compare(Run(tmp_path), Run(tmp_path))


def test_a_run_against_itself(tmp_path):
    """No discordant episode, no difference, an interval all the same."""
    run = make_run(tmp_path / "run", UNPAIRED_A)
    found = compare(run, run)
    (average,) = found.averages
    assert (average.p, average.difference.value, found.only_a, found.only_b) == (1.0, 0.0, (), ())
    assert average.difference.low < 0 < average.difference.high and average.verdict == "no difference shown"


def test_seed_of_the_posterior(tmp_path):
    """One seed gives one number."""
    a, b = make_run(tmp_path / "a", UNPAIRED_A), make_run(tmp_path / "b", UNPAIRED_B)
    first, again, other = (compare(a, b, seed).averages[0].probability for seed in (1, 1, 2))
    assert first == again != other and compare(a, b, 1).seed == 1


def test_detectable_difference_follows_the_interval(pair):
    """(1.96 + 0.84) / 1.96 times the half width."""
    (average,) = pair(UNPAIRED_A, UNPAIRED_B, b={"seed_policy": "fixed"}).averages
    assert average.detectable == pytest.approx(2.801585 / 1.959964 * (average.difference.high - average.difference.low)
                                               / 2, rel=1e-5)


@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_readable_forms_say_everything(pair, form):
    """Both runs, the headline with n, why paired, errors, both lists of episodes, the seed."""
    found = pair(PAIRED_A, {**PAIRED_B, 2: "F" * 18 + "E."}, {"policy": "random"}, {"policy": "scripted"})
    text = " ".join(render(found, form).split())
    for part in ("A: first (policy random)", "B: second (policy scripted)", "toy, 3 tasks: A", "(20/58)", "(28/58)",
                 "McNemar mid-p, 2 only A / 10 only B", "P(B > A)", "toy: paired: same episode ids", "INCOMPLETE",
                 "1 episodes ended in errors and 1 were not run", "Only A succeeded (2): - toy/00/008 toy/00/009",
                 "Only B succeeded (10)", "seed 0", "2/10", "0/2"):
        assert part in text, part


@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_readable_forms_of_unlike_runs(pair, form):
    """Warnings and differing fields with both values; stand-in assets in the title; no discordant lists."""
    found = pair(UNPAIRED_A, UNPAIRED_B, {"asset_kind": "stand-in"}, {"asset_kind": "stand-in", "max_steps": 80})
    text = " ".join(render(found, form).split())
    for part in ("[stand-in assets: not comparable with published results]", "protocols differ in max_steps",
                 "toy: max_steps: 40 in A, 80 in B", "unpaired: fingerprints differ (max_steps)", "28/50", "38/50",
                 "Cochran-Mantel-Haenszel", "+1.4, +36.8", "0.0368", "this size shows about"):
        assert part in text, part
    assert "only A/B" not in text and "succeeded (" not in text and "INCOMPLETE" not in text


def test_a_reconstruction_is_marked(tmp_path):
    """What every table must say of a policy stands beside its run."""
    a, b = make_run(tmp_path / "a", PAIRED_A), make_run(tmp_path / "b", PAIRED_B, policy="qwen3dit")
    info = json.loads((b.folder / "run.json").read_text())
    (b.folder / "run.json").write_text(json.dumps({**info, "policy": {"note": "reconstruction of Qwen3DiT"}}))
    assert "- B: b (policy qwen3dit) [policy: reconstruction of Qwen3DiT]" in render(compare(a, b), "terminal")


def test_markdown_table(pair):
    """A row a task and the average, equal numbers of cells."""
    grid = [line for line in render(pair(PAIRED_A, PAIRED_B), "markdown").splitlines() if line.startswith("|")]
    assert len(grid) == 6 and len({line.count("|") for line in grid}) == 1
    assert [cell.strip() for cell in grid[2].split("|")[1:6]] == ["00", "near", "10/20", "18/20", "2/10"]


def test_csv_holds_raw_numbers(pair):
    """Fractions at full precision, whole counts, empty cells where there is no number."""
    rows = list(csv.DictReader(io.StringIO(render(pair(PAIRED_A, PAIRED_B), "csv"))))
    assert [row["task"] for row in rows] == ["0", "1", "2", ""]
    assert float(rows[0]["p"]) == pytest.approx(92 / 4096, abs=1e-12) and rows[0]["only_b"] == "10"
    assert float(rows[3]["difference"]) == pytest.approx(0.4 / 3) and float(rows[3]["low"]) > 0
    unpaired = pair(UNPAIRED_A, UNPAIRED_B, b={"seed_policy": "fixed"})
    assert next(csv.DictReader(io.StringIO(render(unpaired, "csv"))))["only_a"] == ""
    assert len(rows_table(unpaired)) == 4


@pytest.mark.parametrize("columns", [80, 100, 120, 200])
def test_terminal_shows_every_number(pair, monkeypatch, columns):
    """In a narrow window names are cut and verdicts wrapped, numbers never; the table is no wider than the window."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    suite = {"suites": ("libero_goal",)}
    text = re.sub(r"\x1b\[[0-9;]*m", "", render(pair(PAIRED_A, {**PAIRED_B, 2: "F" * 19 + "E"}, suite, suite),
                                                "terminal"))
    grid = text[text.index("  task") if "  task" in text else text.index("task "):text.index("Points, B - A")]
    assert max(map(len, grid.splitlines())) <= columns
    for number in ("10/20", "18/20", "2/10", "0/1", "+40.0", "0.0225", "0.0674", "20/59", "28/59"):
        assert any(f" {number} " in f" {line} " for line in grid.splitlines()), number


def test_unknown_form(pair):
    """The forms are listed."""
    with pytest.raises(InputError, match="terminal, markdown, csv"):
        render(pair(PAIRED_A, PAIRED_B), "latex")


