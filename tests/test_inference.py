"""One dry inference: what is said of a policy that answers, of one that does not, and of a server."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from evalkit.doctor.findings import OK, PROBLEM
from evalkit.doctor.inference import check
from evalkit.errors import InputError
from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from tests.helpers import environment


class Bent(Policy):
    """Answers as its option says."""

    def __init__(self, suite, how: str = "well"):
        self.spec, self._how = PolicySpec("bent", ("top",), ("goal",), chunk_length=4, executed_steps=2), how
        if how == "unfit":
            self.spec = PolicySpec("bent", ("thermal",))

    def load(self):
        if self._how == "missing":
            raise InputError("no checkpoint in /nowhere")
        if self._how == "broken":
            raise KeyError("weights")

    def act(self, observations):
        shape = {"short": (1, 2), "wide": (4, 9)}.get(self._how, (4, 2))
        return [np.full(shape, np.nan if self._how == "nan" else 0.5) for _ in observations]

    def describe(self):
        return {"device": "cpu", "parameters": 3, "more": {"left": "out"}}


def ask(how: str = "well", policy: str = "tests.test_inference:Bent"):
    options = {"how": how} if policy.endswith("Bent") else {}
    return list(check({"policy": policy, "suite": "toy", "options": options}))


def test_a_policy_that_answers():
    """What it says of itself, shapes in and out, and milliseconds."""
    loaded, answered = ask()
    assert (loaded.level, answered.level) == (OK, OK)
    assert "device cpu, parameters 3" in loaded.found and "left" not in loaded.found
    for said in ("top 32x32x3", "goal 2", "chunk 4x2 float64", "2 steps executed", "0.5 to 0.5", "ms the first time"):
        assert said in answered.found, answered.found


@pytest.mark.parametrize("how, said", [
    ("unfit", "it needs view 'thermal'"), ("missing", "no checkpoint in /nowhere"), ("broken", "KeyError: 'weights'")])
def test_a_policy_that_does_not_load(how, said):
    """One finding with the reason; nothing is asked."""
    finding, = ask(how)
    assert finding.level == PROBLEM and said in finding.found and finding.move


@pytest.mark.parametrize("how, said", [
    ("nan", "NaN"), ("short", "2 executed of 4"), ("wide", "shape (4, 9), expected (T, 2)")])
def test_a_policy_that_answers_nonsense(how, said):
    """It loads, and the answer is held against suite and spec."""
    loaded, answered = ask(how)
    assert (loaded.level, answered.level) == (OK, PROBLEM) and said in answered.found
    assert "evalkit check-policy" in answered.move


def test_a_policy_that_cannot_be_imported():
    """No traceback."""
    finding, = ask(policy="tests.no_such_module:Policy")
    assert finding.level == PROBLEM and "no_such_module" in finding.found


def test_a_server_that_is_not_there():
    """The remote policy says how such a server is started."""
    options = {"url": "ws://127.0.0.1:9", "protocol": "openpi", "connect_timeout": 1}
    finding, = check({"policy": "remote", "suite": "libero_goal", "options": options})
    assert finding.level == PROBLEM and "127.0.0.1:9" in finding.found


def test_findings_are_its_last_line():
    """As the doctor calls it, in another process."""
    settings = {"policy": "random", "suite": "toy", "options": {}}
    done = subprocess.run([sys.executable, "-m", "evalkit.doctor.inference", json.dumps(settings)], env=environment(),
                          capture_output=True, text=True, check=True)
    assert [finding["level"] for finding in json.loads(done.stdout.splitlines()[-1])] == [OK, OK]
