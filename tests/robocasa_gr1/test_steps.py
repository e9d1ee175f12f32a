"""A control step in one compiled call leaves what robosuite's controllers would, bit for bit, in all of mjData."""

from __future__ import annotations

import itertools

import pytest

from baselines.scripted import Scripted
from benchmarks.robocasa_gr1_plain import Plain
from evalkit.testing import random_actions
from suites.robocasa_gr1.builtin.control import Controller
from tests.robocasa_gr1.checks import SUITE, episode, held, left, make_env, scripted_actions

pytestmark = pytest.mark.simulator


@pytest.mark.parametrize("task", [1, 18])
def test_a_step_is_robosuites(task):
    env = make_env("builtin", None, task)
    env.reset(episode(task))
    model, data = env.simulator.model, env.simulator.data
    controller = Controller(model, data)
    plain = Plain(model, data, controller)
    start = held(env.simulator)
    moves = [start + action for action in 0.2 * random_actions(SUITE, 24)]
    for action in itertools.chain(moves, scripted_actions(env, Scripted(SUITE), 60)):
        controller.set_goal(action)
        controller.advance()
        plain.step(action)
        assert left(plain.data) == left(data)
    env.close()
