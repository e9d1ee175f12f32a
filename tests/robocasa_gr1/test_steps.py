"""A control step in one compiled call leaves what robosuite's controllers would, bit for bit, in all of mjData."""

from __future__ import annotations

import itertools

import mujoco
import numpy as np
import pytest

from baselines.scripted import Scripted
from evalkit.testing import random_actions
from suites.robocasa_gr1.builtin.control import Controller, actuator_of
from suites.robocasa_gr1.simulation import STATE_JOINTS
from tests.robocasa_gr1.checks import SUITE, derived, episode, held, make_env, scripted_actions

pytestmark = pytest.mark.simulator


class Plain:
    """robosuite's own joint controllers on a copy of a simulation's state, called in every substep."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData):
        from robosuite.controllers.parts.generic.joint_pos import JointPositionController
        from robosuite.utils.binding_utils import MjSim

        self.sim, every = MjSim(model), mujoco.mjtState.mjSTATE_INTEGRATION
        self.data = self.sim.data._data
        state = np.empty(mujoco.mj_stateSize(model, every))
        mujoco.mj_getState(model, data, state, every)
        mujoco.mj_setState(model, self.data, state, every)
        self.parts = {}
        for group in ("right_arm", "left_arm", "waist"):
            joints = [model.joint(name) for name in STATE_JOINTS[group]]
            motors = [actuator_of(model, joint.id) for joint in joints]
            indexes = {"joints": [joint.id for joint in joints], "qpos": [joint.qposadr[0] for joint in joints],
                       "qvel": [joint.dofadr[0] for joint in joints]}
            part = JointPositionController(self.sim, indexes, model.actuator_ctrlrange[motors].T, kp=1000,
                                           input_type="absolute")
            part.kd = np.full(len(joints), 200.0)  # default_gr1.json
            self.parts[group] = (part, motors)

    def step(self, action: np.ndarray) -> None:
        """25 substeps; the fingers' servos hold what they were told."""
        goals = SUITE.action.split(action)
        for _ in range(25):
            self.sim.step1()
            for group, (part, motors) in self.parts.items():
                part.set_goal(goals[group])
                self.data.ctrl[motors] = np.clip(part.run_controller(), part.actuator_min, part.actuator_max)
            self.sim.step2()


@pytest.mark.parametrize("task", [1, 18])
def test_a_step_is_robosuites(task):
    env = make_env("builtin", None, task)
    env.reset(episode(task))
    model, data = env.simulator.model, env.simulator.data
    plain, controller = Plain(model, data), Controller(model, data)
    start = held(env.simulator)
    moves = [start + action for action in 0.2 * random_actions(SUITE, 24)]
    for action in itertools.chain(moves, scripted_actions(env, Scripted(SUITE), 60)):
        controller.set_goal(action)
        plain.data.ctrl[controller.servos] = data.ctrl[controller.servos]
        plain.step(action)
        controller.advance()
        assert derived(plain.data) == derived(data)
    env.close()
