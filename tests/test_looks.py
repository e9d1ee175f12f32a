"""Sequential comparisons as a user meets them: a plan that holds, looks in order, refusals, and the error kept."""

from __future__ import annotations

import csv
import io
import json
import math
import os

import numpy as np
import pytest

from evalkit.compare import compare
from evalkit.errors import InputError
from evalkit.looks import FILE, Looks, _take, look, read, render
from evalkit.merge import open_parts
from evalkit.pairing import Cell
from evalkit.records import Run
from evalkit.sequential import e_value, paired_z
from tests.helpers import evalkit
from tests.test_compare import make_run

#: A part of five episodes of each task. In the paired part of GOOD against BAD all 15 pairs fall to B: z = sqrt(15).
BAD, GOOD, HALF = ({task: row for task in range(3)} for row in ("FFFFF", "SSSSS", "SFSFF"))


def add_part(folder, number: int, outcomes, **parts) -> None:
    """A run of episodes 5 * number to 5 * number + 4 of the toy suite in a sub-folder of `folder`."""
    run = make_run(folder / f"{number:02d}", outcomes, first=5 * number, **parts)
    info = json.loads((run.folder / "run.json").read_text())
    info["config"] |= {"tasks": None, "episodes": [5 * number, 5 * number + 5], "seed_policy": "per_episode",
                       "seed": 7}
    (run.folder / "run.json").write_text(json.dumps(info))


@pytest.fixture
def take(tmp_path):
    """A function that adds the parts given (None: no further one) and looks, at most 20 episodes a task."""
    def called(a=None, b=None, budget=20, looks=None, rule="obrien_fleming", path=None, **parts):
        for name, outcomes, more in (("old", a, {}), ("new", b, parts)):
            if outcomes:
                add_part(tmp_path / name, len(list((tmp_path / name).glob("*/run.json"))), outcomes, **more)
        return look(open_parts(tmp_path / "old"), open_parts(tmp_path / "new"), budget, looks, rule, path)
    return called


def test_the_plan_comes_first(take, tmp_path):
    """Without any run: the file, four looks at 5, 10, 15 and 20 episodes a task, what to run next; nothing decided."""
    found, notes = take()
    assert found.plan.looks == (5, 10, 15, 20) and found.taken == () and found.measured == (0, 0)
    assert read(tmp_path / "new" / FILE) == found and not (tmp_path / "old").exists()
    text = render(found, notes)
    for part in ("at most 20 episodes", "4.049", "2.024", "not taken", "there is no run in", "--episodes 0:5",
                 found.name):
        assert part in text


def test_looks_are_taken_as_episodes_come(take):
    """Equal parts: continue, continue; then B gains 15 of 15 pairs: z = sqrt(15) = 3.873 >= 2.337 at the third look."""
    take()
    (first,) = take(HALF, HALF)[0].taken
    assert (first.episodes, first.evidence, first.decision, first.better) == (5, 0.0, "continue", None)
    assert len(take(HALF, HALF)[0].taken) == 2
    found, notes = take(BAD, GOOD)
    assert [item.episodes for item in found.taken] == [5, 10, 15] and notes == []
    last = found.taken[-1]
    assert (last.decision, last.better) == ("stop", "B") and last.evidence == pytest.approx(15**0.5)
    text = " ".join(render(found, notes).split())
    assert "Stopped early, look 3 of 4 (15 of 20 episodes of each task)" in text and "This comparison is over" in text


def test_a_stop_is_final(take):
    """What comes after a stop changes nothing, however it turns out; asking again gives the same."""
    take()
    early, _ = take(BAD, GOOD)
    assert early.taken[-1].decision == "continue"  # sqrt(15) < 4.049: even this is not enough for the first of four
    stopped, _ = take(BAD, GOOD)
    assert stopped.stopped and stopped.taken[-1].evidence == pytest.approx(30**0.5)
    again, _ = take(GOOD, BAD)
    assert again == stopped == take()[0]


def test_no_difference_when_the_budget_is_used(take):
    """Four looks at equal outcomes end with the budget, and say that nothing was shown."""
    for _ in range(4):
        found, notes = take(HALF, HALF)
    assert found.stopped and found.taken[-1].better is None and "no difference shown" in render(found, notes)


def test_looks_that_were_missed_are_made_up_in_order(take, tmp_path):
    """15 episodes at the first call: the looks at 5 and 10 come first, and the one at 10 stops, whatever came later."""
    for number, (a, b) in enumerate([(BAD, GOOD), (BAD, GOOD), (GOOD, BAD)]):
        add_part(tmp_path / "old", number, a)
        add_part(tmp_path / "new", number, b)
    found, _ = take()
    assert [item.episodes for item in found.taken] == [5, 10] and found.taken[-1].better == "B"


def test_episodes_between_looks_wait(take):
    """With looks at 10 and 20, five episodes are not looked at, and the next move names the missing ones."""
    found, notes = take(BAD, GOOD, looks=2)
    assert found.taken == () and "--episodes 0:10" in render(found, notes)
    assert len(take(BAD, GOOD, looks=2)[0].taken) == 1


def test_a_plan_after_the_fact_says_so(take):
    """Episodes that were measured before the plan was written are counted in a note; those before it are not hidden."""
    found, notes = take(HALF, HALF)
    assert found.measured == (15, 15) and any("A had 15 and B 15 measured episodes" in note for note in notes)
    assert any("A had 15" in note for note in take(HALF, HALF)[1])


@pytest.mark.parametrize("change, named", [({"budget": 30}, "budget: 20 there, 30 now"),
                                           ({"looks": 5}, "looks: 4 there, 5 now"),
                                           ({"rule": "pocock"}, "rule: 'obrien_fleming' there, 'pocock' now")])
def test_another_plan_is_refused(take, tmp_path, change, named):
    """Budget, looks and rule stay; the file is left as it was. Another file is another comparison."""
    take(HALF, HALF)
    before = (tmp_path / "new" / FILE).read_text()
    with pytest.raises(InputError, match="does not keep the error") as refused:
        take(**change)
    assert named in str(refused.value) and (tmp_path / "new" / FILE).read_text() == before
    assert take(path=tmp_path / "other.json", **change)[0] == read(tmp_path / "other.json")


def test_other_runs_are_refused(take, tmp_path):
    """Another policy, other conditions, other tasks or another run A under the same plan."""
    take(HALF, HALF)
    new = open_parts(tmp_path / "new")
    for name, outcomes, parts, message in (
            ("one/old", HALF, {"policy": "scripted"}, "policies.*scripted"),
            ("two/old", HALF, {"seed_policy": "fixed"}, "paired True, and now there is False"),
            ("three/old", {0: "SFSFF"}, {}, "same tasks in both runs.*task 1 is only in B"),
            ("four/older", HALF, {}, "a: 'old' there, 'older' now")):
        add_part(tmp_path / name, 0, outcomes, **parts)
        with pytest.raises(InputError, match=f"(?s){message}"):
            look(open_parts(tmp_path / name), new, 20)


def test_changed_episodes_are_refused(take, tmp_path):
    """A success edited into a failure after its look."""
    take(HALF, HALF)
    path = tmp_path / "new" / "00" / "episodes.jsonl"
    path.write_text(path.read_text().replace('"success"', '"failure"', 1))
    with pytest.raises(InputError, match=r"changed since look 1.*\+0.000 then, -1.000 now"):
        take()


@pytest.mark.parametrize("edit", [{"budget": 40}, {"measured": [0, 0]}, {"written": "2020-01-01"}, {"looks": 0},
                                  {"taken": []}, {"taken": [{"episodes": 5}]}, {"surprise": 1}, {"plan": None}, None])
def test_an_edited_plan_is_refused(take, tmp_path, edit):
    """Whatever is changed in the file; a look removed from it is taken again from the same episodes."""
    found, _ = take(HALF, HALF)
    path = tmp_path / "new" / FILE
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | edit) if edit is not None else path.read_text()[:50])
    if edit == {"taken": []}:
        assert take()[0] == found
        return
    with pytest.raises(InputError, match=r"was edited|is not a plan of looks"):
        take()


def test_errors_count_against_whoever_leads(take):
    """15 pairs for B: z = 3.87 >= 2.863. Four errors of B where A succeeded: (15 - 4) / sqrt(19) = 2.52 is no stop."""
    take(BAD, GOOD)
    look = take(GOOD, {0: "SSSSE", 1: "SSSEE", 2: "SSSSE"})[0].taken[-1]
    assert (look.lost, look.decision) == (4, "continue") and look.evidence == pytest.approx(11 / 19**0.5)
    assert "4 episodes in error, counted against whoever leads" in look.statement


def test_an_error_that_cannot_undo_a_stop(take):
    """One error of B where A succeeded: (15 - 1) / 4 = 3.5 >= 2.863."""
    take(BAD, GOOD)
    look = take(GOOD, {**GOOD, 0: "SSSSE"})[0].taken[-1]
    assert (look.lost, look.better, look.evidence) == (1, "B", 3.5)


def test_many_errors_show_nothing(take):
    """One pair in five for B, errors of both in the others: they could turn it round, so it counts as no evidence."""
    for _ in range(2):
        found, _ = take({task: "FEEEE" for task in range(3)}, {task: "SEEEE" for task in range(3)})
    assert (found.taken[-1].decision, found.taken[-1].evidence, found.taken[-1].lost) == ("continue", 0.0, 48)


def test_missing_episodes_make_a_look_wait(take):
    """A task of which four episodes were run holds back the look at five."""
    found, _ = take(BAD, {0: "SSSSS", 1: "SSSS.", 2: "SSSSS"})
    assert found.taken == ()


def test_unpaired_runs(take):
    """Other seed policy in B: CMH over tasks instead of pairs; 0 of 15 against 15 of 15 stops at the second look."""
    take(BAD, GOOD, seed_policy="fixed")
    found, notes = take(BAD, GOOD, seed_policy="fixed")
    assert found.subject["paired"] is False and found.taken[-1].better == "B"
    assert "unpaired" in render(found, notes) and any("protocols differ in seed_policy" in note for note in notes)


def test_anytime_looks(take):
    """A look after each episode of three pairs: 3 pairs e = 2, 6 e = 9.14, 9 e = 51.2 >= 20."""
    found, notes = take(BAD, GOOD, rule="anytime")
    assert [round(item.evidence, 2) for item in found.taken] == [2.0, 9.14, 51.2] and found.taken[-1].better == "B"
    assert "after 9 of 60 paired episodes" in " ".join(render(found, notes).split())


def test_anytime_needs_pairs(take, tmp_path):
    """Other fingerprints are refused with the field's name, and looks make no sense with it."""
    with pytest.raises(InputError, match=r"needs pairs.*fingerprints differ \(seed_policy\)"):
        take(BAD, GOOD, rule="anytime", seed_policy="fixed")
    with pytest.raises(InputError, match="pass no --looks"):
        take(rule="anytime", looks=4)


@pytest.mark.parametrize("wrong", [{"budget": 0}, {"budget": 3}, {"looks": 0}, {"rule": "pockock"}])
def test_impossible_plans_write_nothing(take, tmp_path, wrong):
    """No budget, more looks than episodes, no look, another rule."""
    with pytest.raises(InputError):
        take(**wrong)
    assert list(tmp_path.iterdir()) == []


def test_complete_runs_without_parts(tmp_path):
    """Two ordinary runs; what is planned beyond the budget is not looked at, and it says so."""
    a = make_run(tmp_path / "a", {0: "F" * 20, 1: "F" * 20})
    b = make_run(tmp_path / "b", {0: "F" * 10 + "S" * 10, 1: "F" * 10 + "S" * 10})
    found, notes = look(a, b, 10, 2)
    assert found.stopped and found.taken[-1].evidence == 0.0
    assert any("40 planned episodes are beyond the budget" in note for note in notes)


def test_parts_are_compared_as_one_run(take, tmp_path):
    """The table of the whole comparison takes the same folders; parts with a gap are refused."""
    take(BAD, GOOD)
    take(HALF, HALF)
    (average,) = compare(open_parts(tmp_path / "old"), open_parts(tmp_path / "new")).averages
    assert (average.n_a, average.k_a, average.k_b, average.only_b) == (30, 6, 21, 15)
    os.rename(tmp_path / "old" / "00", tmp_path / "aside")
    add_part(tmp_path / "old", 3, HALF)
    with pytest.raises(InputError, match="Parts must add up"):
        open_parts(tmp_path / "old")


@pytest.mark.parametrize("rule", ["obrien_fleming", "pocock", "anytime"])
def test_false_positives(rule):
    """Equal policies, two tasks of 40 episodes: wrong in at most 5 % of 4,000 comparisons, counted on arrays; the first
    100 of them are looked at as the command does, with the same verdict each."""
    plan, generator = Looks(40, None if rule == "anytime" else 4, rule, "a", "b", "now"), np.random.default_rng(0)
    outcomes = generator.random((4000, 2, 2, 40)) < 0.6  # comparison, run, task, episode
    a, b = outcomes[:, 0], outcomes[:, 1]
    only_a, only_b = (side.sum(1).cumsum(1)[:, np.array(plan.plan.looks) - 1] for side in (a & ~b, b & ~a))
    stops = e_value(only_a, only_b) >= 20 if rule == "anytime" else \
        np.abs(paired_z(only_a, only_b)) >= plan.plan.boundaries
    wrong = stops.any(1)
    assert wrong.mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
    for comparison in range(100):
        cells = [Cell("toy", task, True, *({str(index): bool(value) for index, value in enumerate(side[task])}
                                           for side in outcomes[comparison])) for task in (0, 1)]
        looks = (_take(plan, cells, episodes, True) for episodes in plan.plan.looks)
        assert (next((item.better for item in looks if item.decision == "stop"), None) is not None) == wrong[comparison]


def test_csv(take):
    """A row a look, with raw texts and no sentence."""
    rows = list(csv.DictReader(io.StringIO(render(*take(HALF, HALF), "csv"))))
    assert len(rows) == 4 and rows[0]["decision"] == "continue" and rows[3]["error spent %"] == "5.000"


def test_command(tmp_path):
    """Status 1 while it goes on, 0 when it is over; the plain table warns of looks under way; refusals are status 2."""
    for name in ("old", "new"):
        add_part(tmp_path / name, 0, HALF)
    asked = ("compare", "old", "new", "--budget", 10, "--looks", 2)
    first = evalkit(*asked, cwd=tmp_path)
    assert first.returncode == 1 and "continue to 10 episodes" in first.stdout and first.stderr == ""
    table = evalkit("compare", "old", "new", cwd=tmp_path)
    assert table.returncode == 0 and "are not over" in table.stderr and "McNemar" in table.stdout
    refused = evalkit("compare", "old", "new", "--budget", 12, "--looks", 2, cwd=tmp_path)
    assert refused.returncode == 2 and "budget: 10 there, 12 now" in refused.stderr and refused.stdout == ""
    assert evalkit("compare", "old", "new", "--looks", 2, cwd=tmp_path).returncode == 2
    for name in ("old", "new"):
        add_part(tmp_path / name, 1, HALF)
    last = evalkit(*asked, "--format", "markdown", cwd=tmp_path)
    assert last.returncode == 0 and "stop: no difference shown" in last.stdout
    assert evalkit("compare", "old", "new", cwd=tmp_path).stderr == ""


def test_a_folder_without_runs_is_not_a_run(tmp_path):
    """No plan is made by the plain table, and an empty folder is no run."""
    with pytest.raises(InputError, match="is not a run"):
        compare(open_parts(tmp_path), open_parts(tmp_path))
    assert isinstance(open_parts(tmp_path), Run) and list(tmp_path.iterdir()) == []
