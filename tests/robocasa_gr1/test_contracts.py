"""What must hold on upstream's scenes and on the built-in ones."""

from __future__ import annotations

import pytest

from suites.robocasa_gr1.suite import ROWS
from tests.robocasa_gr1.checks import CHECKS

ALL = range(len(ROWS))

#: One task of each kind: cabinet, drawer, microwave, pick-and-place with and without distractors.
KINDS = (0, 1, 3, 14, 18)


@pytest.mark.parametrize("task", ALL, ids=lambda task: ROWS[task].short)
def test_builtin_predicate(task):
    CHECKS["predicate"]("builtin", None, task)


@pytest.mark.parametrize("task", ALL, ids=lambda task: ROWS[task].short)
def test_upstream_predicate(task, upstream, run_check):
    run_check("predicate", "upstream", upstream, task)


@pytest.mark.parametrize("check", ["contract", "same_without_views", "camera"])
@pytest.mark.parametrize("task", [1, 14], ids=lambda task: ROWS[task].short)
def test_builtin(check, task):
    CHECKS[check]("builtin", None, task)


@pytest.mark.parametrize("check", ["contract", "same_without_views", "camera", "as_upstream", "steps_as_upstream"])
@pytest.mark.parametrize("task", KINDS, ids=lambda task: ROWS[task].short)
def test_upstream(check, task, upstream, run_check):
    run_check(check, "upstream", upstream, task)


@pytest.mark.parametrize("task", ALL, ids=lambda task: ROWS[task].short)
def test_upstream_reset(task, upstream, run_check):
    run_check("reset_as_upstream", "upstream", upstream, task)


@pytest.mark.parametrize("task", [3, 14], ids=lambda task: ROWS[task].short)
def test_builtin_scenes_in_two_processes(task, run_check):
    """An episode's scene is the same in two processes, before and after others."""
    scenes = {run_check("scenes", "builtin", "-", task, order) for order in ("0,1,2", "2,0,1,0")}
    assert len(scenes) == 1 and len(set(scenes.pop().split("'"))) > 3


@pytest.mark.parametrize("task", KINDS, ids=lambda task: ROWS[task].short)
def test_upstream_scenes_in_two_processes(task, upstream, run_check):
    scenes = {run_check("scenes", "upstream", upstream, task, order) for order in ("0,1,2", "2,0,1,0")}
    assert len(scenes) == 1 and len(set(scenes.pop().split("'"))) > 3
