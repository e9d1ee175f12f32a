"""One dry inference: a policy loaded in its own interpreter and asked about one observation of a suite.

`evalkit doctor` runs it:  python -m evalkit.doctor.inference '{"policy": "random", "suite": "toy", "options": {}}'
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from evalkit.doctor.findings import Finding, ok, problem
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.policy import Policy
from evalkit.registry import load_suite, make_policy
from evalkit.specs import check_policy_fits
from evalkit.suite import Suite
from evalkit.testing import Trial, fake_observation

LOAD, ANSWER = "policy", "dry inference"


def check(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Load the policy that `settings` name (policy, suite, options) and ask it twice; the first answer warms up."""
    suite = load_suite(settings["suite"])
    move = f"evalkit check-policy {settings['policy']} --suite {suite.name} says more"
    episode = Episode(suite.name, 0, 0, 7, suite.max_steps)
    try:
        policy = make_policy(settings["policy"], suite, settings["options"])
        check_policy_fits(policy.spec, suite)
        if policy.spec.privileged:
            yield ok(LOAD, "it reads the simulator itself, so only a run can try it")
            return
        policy.check_plan([episode])
        started = time.perf_counter()
        policy.load()
        check_policy_fits(policy.spec, suite)
    except InputError as error:
        yield problem(LOAD, str(error), "mend what it says")
        return
    except Exception as error:
        yield problem(LOAD, f"loading failed: {type(error).__name__}: {error}", move)
        return
    yield ok(LOAD, f"{settings['policy']} loaded in {time.perf_counter() - started:.1f} s: {describe(policy)}")
    try:
        yield ok(ANSWER, answer(policy, suite, episode))
    except Exception as error:
        yield problem(ANSWER, f"{type(error).__name__}: {error}", move)


def describe(policy: Policy) -> str:
    """What a policy says of itself, numbers and texts only."""
    said = {key: value for key, value in policy.describe().items()
            if isinstance(value, (str, int, float)) and value != ""}
    return ", ".join(f"{key} {value}" for key, value in said.items()) or policy.spec.name


def answer(policy: Policy, suite: Suite, episode: Episode) -> str:
    """Ask twice about a random observation; what went in, what came out, and milliseconds. Raises AssertionError unless
    the chunk is what suite and spec declare."""
    trial, observation, spent = Trial(policy, suite), fake_observation(suite, episode), []
    for _ in range(2):
        started = time.perf_counter()
        chunk, = trial.ask([observation])
        policy.synchronize()
        spent.append(1000 * (time.perf_counter() - started))
    views = ", ".join(f"{name} {'x'.join(map(str, observation.views[name].shape))}" for name in policy.spec.views)
    state = ", ".join(f"{name} {observation.state[name].size}" for name in policy.spec.state)
    return (f"views {views or 'none'}; state {state or 'none'}\nchunk {'x'.join(map(str, chunk.shape))} {chunk.dtype}, "
            f"{policy.spec.executed_steps} steps executed, values {chunk.min():.3g} to {chunk.max():.3g}; "
            f"{spent[0]:.0f} ms the first time, {spent[1]:.0f} ms then")


if __name__ == "__main__":
    print(json.dumps([asdict(finding) for finding in check(json.loads(sys.argv[1]))]))
