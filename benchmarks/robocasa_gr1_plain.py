"""Built-in scenes in a loop as the public wrapper's: robosuite's controllers, the whole frame drawn in every step."""

from __future__ import annotations

import cv2
import mujoco
import numpy as np

from suites.robocasa_gr1.builtin.control import SUBSTEPS, Controller, actuator_of
from suites.robocasa_gr1.builtin.simulation import visual_only
from suites.robocasa_gr1.simulation import STATE_JOINTS
from suites.robocasa_gr1.suite import ACTION, EGO_FRAME, VIEW
from suites.robocasa_gr1.views import COLUMNS_KEPT, ROWS_KEPT, ego_view


class Plain:
    """A copy of a simulation's state, driven by robosuite's own joint controllers in every substep.

    hands: knows which servos are the fingers', and what each is told.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, hands: Controller):
        from robosuite.controllers.parts.generic.joint_pos import JointPositionController
        from robosuite.utils.binding_utils import MjSim

        self.sim, self._hands, every = MjSim(model), hands, mujoco.mjtState.mjSTATE_INTEGRATION
        self.data = self.sim.data._data
        state = np.empty(mujoco.mj_stateSize(model, every))
        mujoco.mj_getState(model, data, state, every)
        mujoco.mj_setState(model, self.data, state, every)
        self._parts = {}
        for group in ("right_arm", "left_arm", "waist"):
            joints = [model.joint(name) for name in STATE_JOINTS[group]]
            motors = [actuator_of(model, joint.id) for joint in joints]
            indexes = {"joints": [joint.id for joint in joints], "qpos": [joint.qposadr[0] for joint in joints],
                       "qvel": [joint.dofadr[0] for joint in joints]}
            part = JointPositionController(self.sim, indexes, model.actuator_ctrlrange[motors].T, kp=1000,
                                           input_type="absolute")
            part.kd = np.full(len(joints), 200.0)  # default_gr1.json
            self._parts[group] = (part, motors)

    def step(self, action: np.ndarray) -> None:
        """One control step."""
        goals = ACTION.split(action)
        self.data.ctrl[self._hands.servos] = action[self._hands.fingers]
        for _ in range(SUBSTEPS):
            self.sim.step1()
            for group, (part, motors) in self._parts.items():
                part.set_goal(goals[group])
                self.data.ctrl[motors] = np.clip(part.run_controller(), part.actuator_min, part.actuator_max)
            self.sim.step2()


class WholeFrames:
    """The ego camera's whole frames of one model and both views that the public wrapper makes of each."""

    def __init__(self, model: mujoco.MjModel):
        kept = model.vis.global_.offheight, model.vis.global_.offwidth
        model.vis.global_.offheight, model.vis.global_.offwidth = EGO_FRAME
        self._renderer, self._option = mujoco.Renderer(model, *EGO_FRAME), visual_only()
        model.vis.global_.offheight, model.vis.global_.offwidth = kept

    def draw(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        """``ego_view``, and ``ego_view_pad``: the whole frame, padded to a square."""
        self._renderer.update_scene(data, "egoview", self._option)
        frame = self._renderer.render()
        bars = (EGO_FRAME[1] - EGO_FRAME[0]) // 2
        square = np.pad(frame, ((bars, bars), (0, 0), (0, 0)))
        return {"ego_view": ego_view(frame[ROWS_KEPT, COLUMNS_KEPT]), "ego_view_pad": cv2.resize(square, VIEW[::-1])}

    def close(self) -> None:
        self._renderer.close()
