"""A control step with upstream's physics, bit for bit, and without what upstream computes for nobody.

In each of the 25 substeps of a control step robosuite 1.4.0 runs `mj_forward` twice before `mj_step`
(environments/base.py `step`, controllers/base_controller.py `update`). Positions and velocities do not change between
the three, so their stages are computed once here. The solver does change something: before MuJoCo 3.3.6 each pass
leaves another warm start for the next one, so all three passes stay. Force sensors, which nothing reads in between,
are left to the last substep. Observables are read at the one substep at which upstream samples them, and only those
that an Observation holds; the success predicate is evaluated once, not twice.

tests/libero/test_steps.py compares it with upstream's step: equal bits in mjData, observables and success.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
from numba import njit

from suites.libero import compiled, solver
from suites.libero.compiled import find_offsets
from suites.libero.osc import drive

#: Observables that an Observation is made of, besides the cameras' (robosuite's names).
STATE_OBSERVABLES = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")


@contextlib.contextmanager
def disabled(model: mujoco.MjModel, part: mujoco.mjtDisableBit) -> Iterator[None]:
    """Within it, MuJoCo leaves out `part` of the computation on `model`."""
    before = model.opt.disableflags
    model.opt.disableflags = before | part
    try:
        yield
    finally:
        model.opt.disableflags = before


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
        self._arm = Arm(inner)
        self._cameras = tuple(name for name, observable in inner._observables.items()
                              if observable.modality == "image")

    def __call__(self, action: np.ndarray, look: bool) -> tuple[dict[str, np.ndarray], bool]:
        """Execute `action` (7,) float64; observables as upstream names and samples them, and upstream's success.

        look: whether the cameras' images are among them. Raises ValueError after upstream's own horizon of 1000 steps.
        """
        inner = self._inner
        if not inner.robots[0].controller.new_update:
            # The first step after a reset: upstream's controller still sees the robot before its init state was set.
            seen, _, success, _ = inner.step(action)
            return seen, bool(success)
        if inner.done:
            raise ValueError(f"upstream's episode ended after {inner.horizon} steps; reset it")
        inner.timestep += 1
        seen = self._simulate(action, STATE_OBSERVABLES + self._cameras if look else STATE_OBSERVABLES)
        inner.cur_time += inner.control_timestep
        success = inner._check_success()
        inner.done = inner.timestep >= inner.horizon and not inner.ignore_done
        inner._post_process()
        return seen, bool(success)

    def _simulate(self, action: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        arm, last = self._arm, self._arm.substeps - 1
        sampled, seen = self._clock.advance(arm.substeps), {}
        with disabled(arm.model, mujoco.mjtDisableBit.mjDSBL_SENSOR):
            arm.begin(action)
            if sampled < last:
                arm.advance(sampled + 1)
                seen = self._read(names)
            arm.advance(last - sampled - 1 if sampled < last else last)
        arm.advance(1)
        return self._read(names) if sampled == last else seen

    def _read(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        return {name: np.array(self._inner._observables[name]._sensor({})) for name in names}


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
    """The Panda under upstream's OSC_POSE controller, and its gripper, substep by substep."""

    def __init__(self, inner: Any) -> None:
        self.model, self._data, self._robot = inner.sim.model._model, inner.sim.data._data, inner.robots[0]
        self.substeps = int(inner.control_timestep / inner.model_timestep)
        model, data, robot = self.model, self._data, self._robot
        dofs = _span(robot._ref_joint_vel_indexes)
        if dofs.start != 0:
            raise ValueError(f"the arm's degrees of freedom start at {dofs.start} instead of 0")
        motors, fingers = _span(robot._ref_joint_actuator_indexes), _span(robot._ref_joint_gripper_actuator_indexes)
        low, high = model.actuator_ctrlrange[fingers].T
        inertia = np.empty((model.nv, model.nv))
        mujoco.mj_fullM(model, inertia, np.arange(len(data.qM), dtype=np.float64))
        entries = np.ascontiguousarray(inertia[dofs, dofs].astype(np.int64))
        self._hand = data.site_xpos[robot.eef_site_id], data.site_xmat[robot.eef_site_id].reshape(3, 3)
        self._state = data.qpos[_span(robot._ref_joint_pos_indexes)], data.qvel, data.qfrc_bias[dofs], *self._hand
        self._motors = data.ctrl[motors], *robot.torque_limits
        self._fingers = data.ctrl[fingers], 0.5 * (high + low), 0.5 * (high - low)
        self._simulator = (model._address, data._address, find_offsets(), solver.problem(model, data),
                           solver.supports(model), robot.eef_site_id)
        self._drive = np.zeros((2, 3, model.nv)), data.qM, entries, *self._state

    def begin(self, action: np.ndarray) -> None:
        """Take up the action (7,) of a control step; the next `advance` goes on from here."""
        mujoco.mj_step1(self.model, self._data)
        controller, gripper = self._robot.controller, self._robot.gripper
        controller.ee_pos, controller.ee_ori_mat = (array.copy() for array in self._hand)
        controller.new_update = False  # it is up to date with what `set_goal` reads
        controller.set_goal(action[:6])
        controller.new_update = True
        # models/grippers/panda_gripper.py: -1 opens, +1 closes, the fingers in opposite directions
        gripper.current_action = np.array(gripper.current_action)
        speed = np.array([-1.0, 1.0]) * gripper.speed * np.sign(action[6:])
        self._goal = (controller.goal_pos, controller.goal_ori, controller.kp, controller.kd, controller.initial_joint,
                      *self._motors, gripper.current_action, speed, *self._fingers)
        self._begun = True

    def advance(self, substeps: int) -> None:
        """Simulate `substeps` of the control step."""
        simulate(substeps, self._begun, *self._simulator, *self._drive, *self._goal)
        self._begun = self._begun and substeps == 0


@njit(cache=True, nogil=True)
def simulate(substeps, begun, model, data, at, problem, solves, site, jacobian, *drive_arguments):
    """Run `substeps`, of the first of which mj_step1 has `begun` or not. model, data: addresses; solves: whether
    solver.py may; site: the hand's; the rest is osc.drive's."""
    for substep in range(substeps):
        if substep > 0 or not begun:
            compiled.mj_step1(model, data)
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
        compiled.mj_jac_site(model, data, jacobian[0].ctypes.data, jacobian[1].ctypes.data, site)
        drive(jacobian, *drive_arguments)
        if not solves:
            compiled.mj_step2(model, data)
            continue
        compiled.mj_fwd_actuation(model, data)
        compiled.mj_fwd_acceleration(model, data)
        solver.solve(model, data, at, problem, rows, kept, np.nan)
        compiled.mj_sensor_acc(model, data)
        compiled.mj_check_acc(model, data)
        compiled.mj_euler(model, data)


def _span(indexes: list[int]) -> slice:
    """The slice that holds consecutive `indexes`."""
    first, last = int(indexes[0]), int(indexes[-1])
    if list(indexes) != list(range(first, last + 1)):
        raise ValueError(f"indexes {list(indexes)} of the robot are not consecutive")
    return slice(first, last + 1)
