"""A control step with upstream's physics, bit for bit, and without what upstream computes for nobody.

In each of the 25 substeps of a control step robosuite 1.4.0 runs `mj_forward` twice before `mj_step`
(environments/base.py `step`, controllers/base_controller.py `update`). Positions and velocities do not change between
the three, so their stages are computed once here; the solver's three passes share what they can (solver.py). Force
sensors, which nothing reads in between, are left to the last substep. Observables are read at the one substep at which
upstream samples them, and only those that an Observation holds; success is asked once, not twice, and where it can be.
The substeps run in one compiled loop: between them there is no Python.

tests/libero/test_steps.py compares it with upstream's step: equal bits in mjData, observables and success.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numba import njit
from robosuite.utils.transform_utils import axisangle2quat, quat2mat

from suites.common.machine_code import mj_step1, mj_step2
from suites.libero import compiled, proof, solver
from suites.libero.compiled import find_offsets
from suites.libero.goal import Goal
from suites.libero.osc import drive

#: Observables that an Observation is made of, besides the cameras' (robosuite's names).
STATE_OBSERVABLES = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")

_NO_TURN = np.eye(3)
#: Change of the fingers' commands for a gripper action of -1, which opens them.
_OPENING = np.array([-1.0, 1.0])


class ControlStep:
    """Runs control steps on upstream's environment `inner`, whose own `step` could take over at any time.

    What upstream's step keeps is kept: all of mjData, the controller's goal, the gripper's integrated action, the
    clocks of the observables, the counters. Not kept are values that nobody reads: observables besides those returned,
    and the robot's `recent_*` buffers. A state that MuJoCo calls bad (beyond 1e10) is reset a little earlier: before
    the controller sees it. `inner` must not be reset hard.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._clock = ObservableClock(inner)
        self._arm, self._goal = Arm(inner), Goal(inner)
        self._cameras = tuple(name for name, observable in inner._observables.items()
                              if observable.modality == "image")

    def __call__(self, action: np.ndarray, look: bool) -> tuple[dict[str, np.ndarray], bool]:
        """Execute `action` (7,) float64; observables as upstream names and samples them, and upstream's success.

        look: whether the cameras' images are among them. Raises ValueError after upstream's own horizon of 1000 steps.
        """
        inner, arm = self._inner, self._arm
        if inner.done:
            raise ValueError(f"upstream's episode ended after {inner.horizon} steps; reset it")
        inner.timestep += 1
        sampled, begin = self._clock.advance(arm.substeps), 0
        if not inner.robots[0].controller.new_update:
            # The first step after a reset: upstream's controller still sees the robot before its init state was set.
            inner.sim.forward()
            inner._pre_action(action, True)
            inner.sim.step()
            arm.sample()
            begin = 1
        arm.aim(action)
        pause = max(begin, sampled + 1) if look else arm.substeps
        arm.advance(begin, pause, sampled)
        seen = {name: array.copy() for name, array in arm.seen.items()}
        if look:
            seen |= {name: np.array(inner._observables[name]._sensor({})) for name in self._cameras}
            arm.advance(pause, arm.substeps, sampled)
        inner.cur_time += inner.control_timestep
        success = self._goal()
        inner.done = inner.timestep >= inner.horizon and not inner.ignore_done
        inner._post_process()
        return seen, success


class ObservableClock:
    """The clock of every observable of `inner`, kept for all at once (as robosuite/utils/observables.py `update`).

    All are sampled in the same substep: they have one rate, start together and are updated together.
    """

    def __init__(self, inner: Any) -> None:
        self._observables = list(inner._observables.values())
        self._period = self._observables[0]._sampling_timestep
        self._timestep = inner.model_timestep

    def advance(self, substeps: int) -> int:
        """Let the clocks run for a control step; the substep after which the observables are sampled."""
        first = self._observables[0]
        elapsed, sampled, found = first._time_since_last_sample, first._sampled, None
        for substep in range(substeps):
            elapsed += self._timestep
            if not sampled and self._period >= elapsed:
                sampled, found = True, substep
            if elapsed >= self._period:
                elapsed %= self._period
                sampled = False
        if found is None:
            raise RuntimeError("upstream samples no observable in this control step: somebody changed its clocks")
        for observable in self._observables:
            observable._time_since_last_sample, observable._sampled = elapsed, sampled
        return found


class Arm:
    """The Panda under upstream's OSC_POSE controller, and its gripper.

    seen: observables by upstream's names, as they were when last sampled.
    """

    def __init__(self, inner: Any) -> None:
        self._robot, self.substeps = inner.robots[0], int(inner.control_timestep / inner.model_timestep)
        model, data, robot = inner.sim.model._model, inner.sim.data._data, self._robot
        dofs, joints = _span(robot._ref_joint_vel_indexes), _span(robot._ref_joint_pos_indexes)
        if dofs.start != 0:
            raise ValueError(f"the arm's degrees of freedom start at {dofs.start} instead of 0")
        motors, fingers = _span(robot._ref_joint_actuator_indexes), _span(robot._ref_joint_gripper_actuator_indexes)
        low, high = model.actuator_ctrlrange[fingers].T
        site, body = robot.eef_site_id, model.body(robot.robot_model.eef_name).id
        position, rotation = data.site_xpos[site], data.site_xmat[site].reshape(3, 3)
        watched = position, data.xquat[body], data.qpos[_span(robot._ref_gripper_joint_pos_indexes)]
        self.seen = {name: array.copy() for name, array in zip(STATE_OBSERVABLES, watched)}
        self._watched = *watched, *self.seen.values()
        self._simulator = (model._address, data._address, find_offsets(), solver.problem(model, data),
                           solver.supports(model) and proof.holds(), site, position, rotation)
        self._arm = (np.zeros((2, 3, model.nv)), data.qM, _entries(model, dofs), data.qpos[joints], data.qvel,
                     data.qfrc_bias[dofs])
        self._motors = data.ctrl[motors], *robot.torque_limits
        self._fingers = data.ctrl[fingers], 0.5 * (high + low), 0.5 * (high - low)

    def aim(self, action: np.ndarray) -> None:
        """Take up the action (7,) of a new control step (controllers/osc.py `set_goal`)."""
        controller, gripper = self._robot.controller, self._robot.gripper
        delta = controller.scale_action(action[:6])
        turns = bool(delta[3:].any())
        turn = quat2mat(axisangle2quat(delta[3:])) if turns else _NO_TURN
        # New arrays, as upstream makes: they are changed in place here, which nobody else should see.
        controller.goal_pos, controller.goal_ori = np.array(controller.goal_pos), np.array(controller.goal_ori)
        gripper.current_action = np.array(gripper.current_action)
        # models/grippers/panda_gripper.py: -1 opens, +1 closes, the fingers in opposite directions
        speed = _OPENING * gripper.speed * np.sign(action[6:])
        self._action = (turns, turn, delta, controller.goal_pos, controller.goal_ori, *self._arm, controller.kp,
                        controller.kd, controller.initial_joint, *self._motors, gripper.current_action, speed,
                        *self._fingers)

    def advance(self, begin: int, end: int, sampled: int) -> None:
        """Simulate the substeps from `begin` to before `end`; after substep `sampled` the observables are sampled."""
        if begin < end:
            simulate(begin, end, self.substeps - 1, sampled, self._watched, *self._simulator, *self._action)

    def sample(self) -> None:
        """Sample the observables now."""
        sample(*self._watched)


@njit(cache=True)
def sample(position, quaternion, grip, seen_position, seen_quaternion, seen_grip):
    """Copy the hand's pose and the fingers' joints; upstream's quaternions are wxyz in mjData and xyzw when seen."""
    solver.copy(position, seen_position)
    solver.copy(grip, seen_grip)
    for i in range(4):
        seen_quaternion[i] = quaternion[(i + 1) % 4]


@njit(cache=True, nogil=True)
def simulate(begin, end, last, sampled, watched, model, data, at, problem, solves, site, position, rotation, turns,
             turn, delta, goal_position, goal_rotation, jacobian, *arguments):
    """Substeps of a control step. model, data: addresses; solves: whether solver.py may; site, position, rotation: the
    hand's. The first substep moves the goals, in place, by delta (6,), of which turn (3, 3) is the rotation if it
    `turns`; the rest is for osc.drive."""
    for substep in range(begin, end):
        mj_step1(model, data)
        rows = solver.rows(data, at, len(problem.qacc))
        kept = np.full(len(rows.state), -1, np.int8)
        # Upstream's two forward calls, both under the controls of the substep before; the second one starts where the
        # first one's solver ended.
        compiled.mj_fwd_actuation(model, data)
        compiled.mj_fwd_acceleration(model, data)
        if solves:
            cost = solver.solve(model, data, at, problem, rows, kept, np.nan)
            solver.solve(model, data, at, problem, rows, kept, cost)
        else:
            compiled.mj_fwd_constraint(model, data)
            compiled.mj_fwd_constraint(model, data)
        if substep == 0:
            solver.copy(position + delta[:3], goal_position)
            if turns:
                np.dot(turn, rotation, goal_rotation)
        compiled.mj_jac_site(model, data, jacobian[0].ctypes.data, jacobian[1].ctypes.data, site)
        drive(position, rotation, goal_position, goal_rotation, jacobian, *arguments)
        if solves:
            compiled.mj_fwd_actuation(model, data)
            compiled.mj_fwd_acceleration(model, data)
            solver.solve(model, data, at, problem, rows, kept, np.nan)
            if substep == last:
                compiled.mj_sensor_acc(model, data)
            compiled.mj_check_acc(model, data)
            compiled.mj_euler(model, data)
        else:
            mj_step2(model, data)
        if substep == sampled:
            sample(*watched)


def _entries(model: mujoco.MjModel, dofs: slice) -> np.ndarray:
    """(n, n) places in mjData's sparse inertia matrix of the arm's own."""
    numbered = np.empty((model.nv, model.nv))
    mujoco.mj_fullM(model, numbered, np.arange(model.nM, dtype=np.float64))
    return np.ascontiguousarray(numbered[dofs, dofs].astype(np.int64))


def _span(indexes: list[int]) -> slice:
    """The slice that holds consecutive `indexes`."""
    first, last = int(indexes[0]), int(indexes[-1])
    if list(indexes) != list(range(first, last + 1)):
        raise ValueError(f"indexes {list(indexes)} of the robot are not consecutive")
    return slice(first, last + 1)
