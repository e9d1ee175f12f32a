"""Specs: what a suite offers against what a policy needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evalkit.errors import InputError
from evalkit.registry import load_suite
from evalkit.specs import ActionSpec, PolicySpec, check_policy_fits

TOY = load_suite("toy")
ARM = ActionSpec({"delta": 3, "gripper": 1}, "delta position; gripper -1 open")


def test_action_size_is_the_sum_of_its_groups():
    """D is the sum of the group sizes."""
    assert ARM.size == 4


def test_split_and_join_are_inverse():
    """Groups are concatenated in the declared order, and split back, for one action and for a chunk."""
    chunk = np.arange(8.0).reshape(2, 4)
    groups = ARM.split(chunk)
    assert groups["delta"].tolist() == [[0, 1, 2], [4, 5, 6]] and groups["gripper"].tolist() == [[3], [7]]
    assert np.array_equal(ARM.join(dict(reversed(groups.items()))), chunk)
    assert ARM.join(ARM.split(np.arange(4))).tolist() == [0, 1, 2, 3]


def test_join_refuses_other_groups():
    """Missing and surplus groups are named."""
    with pytest.raises(ValueError, match=r"\['delta', 'wrist'\].*\['delta', 'gripper'\]"):
        ARM.join({"delta": np.zeros(3), "wrist": np.zeros(1)})


@pytest.mark.parametrize("chunk", [np.zeros(4), np.zeros((0, 4)), np.zeros((2, 3)), np.zeros((1, 2, 4))])
def test_check_refuses_other_shapes(chunk):
    """A chunk is (T, D) with T >= 1; the message says what was got and what is expected."""
    with pytest.raises(ValueError) as caught:
        ARM.check(chunk)
    assert str(chunk.shape) in str(caught.value) and "(T, 4)" in str(caught.value)


@pytest.mark.parametrize("kind", [object, str, complex, bool])
def test_check_refuses_other_dtypes(kind):
    """Only real numbers are joint targets or deltas; integers are."""
    with pytest.raises(ValueError, match="dtype"):
        ARM.check(np.zeros((3, 4)).astype(kind))
    ARM.check(np.zeros((3, 4), dtype=int))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_refuses_what_is_not_finite(value):
    """One NaN or infinity anywhere in a chunk is refused."""
    chunk = np.zeros((3, 4))
    chunk[2, 1] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        ARM.check(chunk)


def test_fitting_policies_pass():
    """A policy that needs nothing, and one that needs what the suite has, both fit."""
    check_policy_fits(PolicySpec("blind"), TOY)
    check_policy_fits(PolicySpec("seeing", views=("top",), state=("pos", "goal"), chunk_length=8, executed_steps=5,
                                 action_meaning=TOY.action.meaning, suites=("toy",)), TOY)


def test_every_mismatch_is_named():
    """One message lists all that does not fit, each with what the suite has."""
    spec = PolicySpec("strange", views=("wrist", "top"), state=("joints",), action_meaning="joint torque",
                      chunk_length=4, executed_steps=5, suites=("libero_goal", "libero_10"))
    with pytest.raises(InputError) as caught:
        check_policy_fits(spec, TOY)
    text = str(caught.value)
    for part in ("'strange'", "'toy'", "made for libero_goal, libero_10", "view 'wrist'", "has top",
                 "state group 'joints'", "has pos, goal", "'joint torque'", f"{TOY.action.meaning!r}",
                 "executes 5 steps of chunks of 4", "1 to 4"):
        assert part in text
    assert "view 'top'" not in text and text.count("  - ") == 5


@pytest.mark.parametrize("change", [{"executed_steps": 0}, {"executed_steps": 2}, {"views": ("front",)},
                                    {"state": ("velocity",)}, {"action_meaning": ""}, {"suites": ("libero_90",)}])
def test_each_mismatch_alone_is_refused(change):
    """Any single mismatch is enough."""
    with pytest.raises(InputError):
        check_policy_fits(replace(PolicySpec("one"), **change), TOY)
