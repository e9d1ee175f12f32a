"""The contracts over every registered policy, and over every suite that runs in the driver's interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.registry import load_object, load_suite, make_policy, policy_class, policy_names, suite_names
from evalkit.suite import EnvOptions
from evalkit.testing import check_env, check_policy

#: Native policies and servers keep the contract in tests of their own: they need a checkpoint, or somebody who answers.
IN_WORKERS = [name for name in policy_names() if not policy_class(name).interpreter and name != "remote"]
IN_DRIVER = [name for name in suite_names() if not load_suite(name).interpreter]


@pytest.mark.parametrize("name", IN_DRIVER)
def test_env_contract(name):
    """Every suite of the driver's interpreter keeps the Env contract on each of its tasks."""
    suite = load_suite(name)
    for task in suite.tasks:
        for views in ((), tuple(suite.views)):
            env = load_object(suite.env)(suite, task.index, EnvOptions(views, suite.seed_policies[0]))
            check_env(env, [Episode(name, task.index, index, 11 + index, suite.max_steps) for index in range(2)])
            env.close()


@pytest.mark.parametrize("suite_name", suite_names())
@pytest.mark.parametrize("policy_name", IN_WORKERS)
def test_policy_contract(policy_name, suite_name, tmp_path):
    """Every policy that acts in the rollout workers keeps the Policy contract on every suite it is made for."""
    suite = load_suite(suite_name)
    options = {}
    if policy_name == "replay":
        recorded = {f"{suite_name}/00/{index:03d}": np.full((5, suite.action.size), index) for index in range(3)}
        np.savez(tmp_path / "actions.npz", **recorded)
        options["actions"] = str(tmp_path / "actions.npz")
    policy = make_policy(policy_name, suite, options)
    if policy.spec.privileged:
        assert policy.spec.suites, "a privileged policy names the suites whose simulator it can read"
        return
    check_policy(policy, suite)


def test_scripted_refuses_other_suites():
    """A privileged policy is refused on a suite whose simulator it cannot read, before anything starts."""
    from evalkit.specs import check_policy_fits

    with pytest.raises(InputError, match="made for libero_spatial"):
        check_policy_fits(make_policy("scripted", load_suite("toy"), {}).spec, load_suite("toy"))
