"""Registry: suites and policies by name, the user's own by import path."""

from __future__ import annotations

import sys

import pytest

import baselines
from baselines.noop import Noop
from evalkit.environments import environment_names, find_environment
from evalkit.errors import InputError
from evalkit.registry import (
    expand_suites,
    load_suite,
    make_policy,
    policy_names,
    policy_summary,
    suite_names,
)

TOY = load_suite("toy")
PAPER = ["libero_spatial", "libero_object", "libero_goal", "libero_10"]


def message(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("name", suite_names())
def test_suites_are_consistent(name):
    """A suite is called as it is registered, its tasks are numbered from 0, its numbers are positive."""
    suite = load_suite(name)
    assert suite.name == name
    assert [task.index for task in suite.tasks] == list(range(len(suite.tasks)))
    assert len({task.name for task in suite.tasks}) == len(suite.tasks)
    assert suite.episodes_per_task > 0 and suite.max_steps > 0 and suite.wait_steps >= 0 and suite.control_hz > 0
    assert len(suite.hold_action) == suite.action.size or suite.action.groups.keys() <= suite.state.keys()
    assert suite.scenes and all(needs.memory_gb > 0 and needs.resets >= 0 for needs in suite.scenes.values())
    assert suite.success_rule in ("any_step", "chunk_end") and suite.seed_policies


def test_libero_protocol():
    """Tasks, horizons and episodes of the paper's release."""
    expected = {"libero_spatial": (10, 220), "libero_object": (10, 280), "libero_goal": (10, 300),
                "libero_10": (10, 520), "libero_90": (90, 400)}
    for name, (tasks, horizon) in expected.items():
        suite = load_suite(name)
        assert (len(suite.tasks), suite.max_steps) == (tasks, horizon)
        assert (suite.episodes_per_task, suite.wait_steps, suite.success_rule) == (50, 10, "any_step")
        assert suite.seed_policies[0] == "reference"
    assert len({task.instruction for task in load_suite("libero_90").tasks}) == 74  # keyed by index, not language


def test_unknown_suite():
    """An unknown suite is answered with the nearest name and all allowed ones, groups too."""
    text = message(load_suite, "libero_gaol")
    assert "'libero_gaol'" in text and "Did you mean 'libero_goal'?" in text
    assert all(name in text for name in [*suite_names(), "libero"])


def test_no_suggestion_when_nothing_is_near():
    """A name that is near to none gets the allowed ones only."""
    text = message(load_suite, "zzz")
    assert "Did you mean" not in text and "toy" in text


def test_group_is_its_members_in_order():
    """`libero` is the paper's four suites."""
    assert expand_suites(["libero"]) == PAPER


def test_expansion_keeps_order_and_drops_repeats():
    """Each suite appears once, where it was named first."""
    assert expand_suites(["toy", "libero_10", "libero", "toy"]) == ["toy", "libero_10", "libero_spatial",
                                                                    "libero_object", "libero_goal"]


def test_expansion_refuses_unknown_names():
    """A wrong name among right ones is found."""
    assert "'liberoo'" in message(expand_suites, ["toy", "liberoo"])


@pytest.mark.parametrize("name", policy_names())
def test_policies_say_what_they_are(name):
    """`evalkit list policies` has one line for each."""
    assert len(policy_summary(name)) > 20


def test_unknown_policy():
    """An unknown policy is answered with the nearest name and all allowed ones."""
    text = message(make_policy, "rendom", TOY, {})
    assert "Did you mean 'random'?" in text and all(name in text for name in policy_names())


def test_user_policy_by_import_path():
    """``package.module:Class`` is a policy of the user's own; options reach its constructor."""
    policy = make_policy("tests.faulty_policies:Slow", TOY, {"seconds": 0.25})
    assert type(policy).__name__ == "Slow" and policy.seconds == 0.25
    assert isinstance(make_policy("baselines.noop:Noop", TOY, {}), Noop)


@pytest.mark.parametrize("path", ["no_such_package.module:Class", "tests.faulty_policies:NoSuchClass",
                                  "tests.faulty_policies:", ":Class", "tests.no_such_module:Class"])
def test_user_policy_that_cannot_be_imported(path):
    """A wrong import path is the user's mistake, with the form that is expected."""
    text = message(make_policy, path, TOY, {})
    assert repr(path) in text and "package.module:Class" in text


def test_unknown_policy_option():
    """An option that the policy does not take is named, with the nearest one."""
    text = message(make_policy, "random", TOY, {"chunks": 4})
    assert "'random'" in text and "'chunks'" in text and "Did you mean 'chunk'?" in text
    assert "(none)" in message(make_policy, "noop", TOY, {"speed": 1})


@pytest.mark.parametrize("chunk", [0, -3, 1.5, "many"])
def test_wrong_option_value(chunk):
    """A value outside its range is refused with what was got and what is allowed."""
    text = message(make_policy, "random", TOY, {"chunk": chunk})
    assert repr(chunk) in text and "1 or more" in text


@pytest.mark.parametrize("source", ["import no_such_package", "1 / 0", "def broken(:", "raise SystemError('driver')"])
def test_a_policy_that_cannot_be_imported_costs_the_others_nothing(tmp_path, monkeypatch, capsys, source):
    """Environments of suites and of other policies are found, and listings name the fault."""
    (tmp_path / "broken_baseline.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_baseline", raising=False)
    monkeypatch.setitem(baselines.POLICIES, "broken", "broken_baseline:Mine")
    assert {"libero", "robocasa_gr1", "native", "lerobot"} <= set(environment_names())
    assert "notice: policy 'broken' cannot be imported" in capsys.readouterr().err
    assert find_environment("libero").name == "libero" and capsys.readouterr().err == ""
    assert find_environment("native").name == "native"
    assert policy_summary("broken").startswith("cannot be imported: ")
