"""From a 29-value action to joint torques and finger commands, as robosuite 1.5.1 does it for GR1 with Fourier hands.

Arms and waist: robosuite's JOINT_POSITION controller with absolute targets (controllers/parts/generic/joint_pos.py,
gains of controllers/config/robots/default_gr1.json): torque = M (1000 (target - q) - 200 qd) + bias, where M is the
block of the mass matrix that belongs to that arm (or waist) alone, computed anew in each physics substep between
`mj_step1` and `mj_step2`. Hands: six values are copied to eleven position servos (models/grippers/fourier_hands.py).
robosuite clips both to the actuators' control ranges; MuJoCo clamps them to the same ranges by itself.

tests/robocasa_gr1/test_steps.py compares this with robosuite's controllers, checks.py `steps_as_upstream` with
upstream's environment: equal bits.
"""

from __future__ import annotations

import mujoco
import numpy as np

from suites.common.physics import disabled
from suites.robocasa_gr1.drive import advance
from suites.robocasa_gr1.simulation import STATE_JOINTS
from suites.robocasa_gr1.suite import GROUPS

#: Physics substeps of 0.002 s in a control step of 0.05 s.
SUBSTEPS = 25

#: Gains of default_gr1.json: 1/s^2 and 1/s, because they are multiplied by the mass matrix.
STIFFNESS, DAMPING = 1000.0, 200.0

#: Groups under torque control, each with its own block of the mass matrix.
_TORQUE = ("right_arm", "left_arm", "waist")

#: Servos of a hand in the order of robosuite's gripper model, and the value of the hand's six that each one gets.
_SERVOS = ("pinky_intermediate", "pinky_proximal", "ring_intermediate", "ring_proximal", "middle_intermediate",
           "middle_proximal", "index_intermediate", "index_proximal", "thumb_distal", "thumb_proximal_pitch",
           "thumb_proximal_yaw")
_COPIES = (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5)
_HANDS = {"right_hand": "gripper0_right_R", "left_hand": "gripper0_left_L"}


def _slices() -> dict[str, slice]:
    ends = np.cumsum(list(GROUPS.values()))
    return {name: slice(int(end) - size, int(end)) for (name, size), end in zip(GROUPS.items(), ends)}


class Controller:
    """Drives the robot of one model. `data` must stay the same object; resetting it in place is fine."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData):
        self._model, self._data = model, data
        joints = [model.joint(name) for group in _TORQUE for name in STATE_JOINTS[group]]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self._motors = np.array([actuator_of(model, joint.id) for joint in joints])
        self._blocks = _mass_blocks(model, self._dofs)
        servos = [f"{prefix}_{name}_joint" for prefix in _HANDS.values() for name in _SERVOS]
        self.servos = np.array([actuator_of(model, model.joint(name).id) for name in servos])
        parts = _slices()
        order = np.arange(sum(GROUPS.values()))
        self._targets = np.concatenate([order[parts[group]] for group in _TORQUE])
        self.fingers = np.concatenate([order[parts[group]][list(_COPIES)] for group in _HANDS])
        self._goal = np.zeros(len(joints))
        self._simulation = model._address, data._address
        self._state = data.qpos, data.qvel, data.qfrc_bias, data.qM

    def set_goal(self, action: np.ndarray) -> None:
        """Targets (29,) in the suite's order, radians; they hold until the next call."""
        self._goal = np.asarray(action, dtype=np.float64)[self._targets]
        self._data.ctrl[self.servos] = action[self.fingers]

    def hold(self) -> None:
        """Make the arms' and the waist's present joint positions the goal, and open the hands."""
        self._goal = self._data.qpos[self._qpos]
        self._data.ctrl[self.servos] = 0.0

    def advance(self, substeps: int = SUBSTEPS) -> None:
        """Simulate `substeps` times 0.002 s towards the goal.

        Only the last substep computes MuJoCo's sensors (forces at the wrists): nothing reads them in between.
        """
        with disabled(self._model, mujoco.mjtDisableBit.mjDSBL_SENSOR):
            self._advance(substeps - 1)
        self._advance(1)

    def _advance(self, substeps: int) -> None:
        advance(self._simulation, substeps, (STIFFNESS, DAMPING), self._goal, self._state, self._qpos, self._dofs,
                self._motors, self._blocks, self._data.ctrl)


def actuator_of(model: mujoco.MjModel, joint: int) -> int:
    """Index of the one actuator that drives a joint."""
    drives = (model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT) & (model.actuator_trnid[:, 0] == joint)
    found = np.flatnonzero(drives)
    if len(found) != 1:
        raise ValueError(f"joint {model.joint(joint).name} has {len(found)} actuators, one is needed; check robot.py")
    return int(found[0])


def _mass_blocks(model: mujoco.MjModel, dofs: np.ndarray) -> tuple[np.ndarray, ...]:
    """For each controlled group where in `data.qM` its block of the mass matrix lies.

    MuJoCo expands a packed matrix that holds the numbers 0 .. nM - 1 instead of masses: what then stands at (i, j) is
    the place of M[i, j].
    """
    places = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, places, np.arange(model.nM, dtype=np.float64))
    blocks, start = [], 0
    for group in _TORQUE:
        part = slice(start, start + GROUPS[group])
        blocks.append(np.asfortranarray(places[np.ix_(dofs[part], dofs[part])].astype(int)))
        start = part.stop
    return tuple(blocks)
