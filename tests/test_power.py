"""Power tables: the published numbers of episodes, per task and in all, and what a planned size shows."""

from __future__ import annotations

import math

import pytest

from evalkit.errors import InputError
from evalkit.power import detection_table, power_table, render

#: Successes of 250 on the 24 tasks of a published policy: mean 56.87 %, mean p (1 - p) 0.2347.
RATES = [k / 250 for k in (162, 194, 119, 133, 134, 188, 141, 122, 125, 159, 152, 104, 158, 132, 160, 174, 139, 148,
                           171, 119, 90, 142, 101, 145)]


@pytest.mark.parametrize("difference, correlation, episodes, per_task", [
    (0.01, 0.0, 36838, 1535), (0.02, 0.0, 9210, 384), (0.03, 0.0, 4094, 171), (0.03, 0.3, 2866, 120),
    (0.03, 0.5, 2047, 86), (0.03, 0.7, 1228, 52), (0.05, 0.0, 1474, 62), (0.05, 0.5, 737, 31), (0.10, 0.0, 369, 16),
    (0.10, 0.7, 111, 5),
])
def test_published_sizes(difference, correlation, episodes, per_task):
    """Per arm, in all and for each of 24 tasks, rounded up."""
    table = power_table(24, RATES)
    row = table[(table["difference"] == difference) & (table["correlation"] == correlation)].iloc[0]
    assert (row["episodes"], row["per_task"]) == (episodes, per_task)


def test_one_rate_for_all_tasks():
    """57 against 54 % (towards 50 %, the harder way): 7.8489 x (0.2451 + 0.2484) / 0.0009; 98.6 has nothing above."""
    assert power_table(10, 0.57, [0.03], [0.0])["episodes"].tolist() == [math.ceil(7.84888 * 0.4935 / 0.0009)]
    assert power_table(10, 0.986, [0.02], [0.0])["episodes"].tolist() == [
        math.ceil(7.84888 * (0.986 * 0.014 + 0.966 * 0.034) / 0.0004)]


@pytest.mark.parametrize("correlation, points", [(0.0, 5.5), (0.3, 4.6), (0.5, 3.9), (0.7, 3.0)])
def test_published_detectable_differences(correlation, points):
    """24 x 50 with 80 % power."""
    table = detection_table(24, 50, RATES).set_index("correlation")
    assert 100 * table.loc[correlation, "suite"] == pytest.approx(points, abs=0.05)
    assert table.loc[correlation, "task"] > 4 * table.loc[correlation, "suite"]


def test_so_few_episodes_show_nothing():
    """One episode of one task: no difference at all; printed as none, not as a number."""
    assert math.isnan(detection_table(1, 1)["task"].iloc[0])
    assert "none" in render(["toy"], episodes_per_task=1)


def test_readable_tables():
    """Rows in the order asked, sizes in all and per task, and what the protocol's 20 episodes of three tasks show."""
    text = render(["toy"], 0.5, differences=[0.1, 0.05])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[2].split("|")[1:3]] == ["10", "385 (129)"]
    assert [cell.strip() for cell in lines[3].split("|")[1:2]] == ["5"]
    assert "toy: 3 tasks near 50.0 %" in text and "What 3 x 20 episodes" in text
    assert "unpaired" in lines[0] and "paired, correlation 0.7" in lines[0]


def test_csv_is_raw():
    """One line a difference and correlation."""
    lines = render(["toy"], differences=[0.1], correlations=[0.0, 0.5], form="csv").splitlines()
    assert lines[0] == "difference,correlation,episodes,per_task"
    assert lines[1] == "0.1,0.0,385,129" and len(lines) == 3


@pytest.mark.parametrize("more", [
    {"rates": [0.5, 0.6]}, {"rates": 57}, {"rates": math.nan}, {"differences": [3]}, {"differences": [0.0]},
    {"correlations": [1.5]}, {"power": 80}, {"differences": [0.7]}, {"tasks": 0},
])
def test_wrong_input(more):
    """Percentages for fractions, other numbers of rates, differences that do not fit: a message, never a number."""
    with pytest.raises(InputError):
        power_table(**{"tasks": 3, **more})


@pytest.mark.parametrize("more, told", [({"rates": 1.2}, "got 120 %"), ({"differences": [0.0]}, "points, got 0"),
                                        ({"power": 1.0}, "got 100 %")])
def test_wrong_input_is_repeated_as_it_was_given(more, told):
    """The command line takes percent and points: so do the messages."""
    with pytest.raises(InputError, match=told):
        power_table(**{"tasks": 3, **more})


def test_unknown_form():
    """The forms are named."""
    with pytest.raises(InputError, match=r"unknown table format 'latex'.*\n.*terminal, markdown, csv"):
        render(["toy"], form="latex")


def test_wrong_planned_size():
    """No episodes is no plan."""
    with pytest.raises(InputError, match="0 episodes a task"):
        detection_table(3, 0)
