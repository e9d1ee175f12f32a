"""The GR1's body: kinematics of both arms, and motions that yield one action (29,) a control step.

Positions are metres, angles radians, all in the world frame. An action is absolute joint targets in the order left
arm 7, right arm 7, left hand 6, right hand 6, waist 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np

from baselines.scripted.geometry import Pose

SIDES = ("left", "right")
OTHER = {"left": "right", "right": "left"}

# Joint and site names of robosuite's GR1 with Fourier hands, in the order of the action.
WAIST = tuple(f"robot0_torso_waist_{axis}" for axis in ("yaw", "pitch", "roll"))
ARM = ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow_pitch", "wrist_yaw", "wrist_roll", "wrist_pitch")
FINGERS = ("pinky", "ring", "middle", "index")
WRIST_SITE = "gripper0_{side}_grip_site"

# Hand commands: pinky, ring, middle, index, thumb bend, thumb rotation.
HAND_OPEN = np.zeros(6)

# The arm beside the body, elbow bent, hand forward and above the table's edge (right arm).
TUCKED = np.array([0.3, -0.5, 0.0, -2.2, 0.0, 0.0, 0.0])
# Mirroring an arm pose left to right: roll and yaw joints change sign.
MIRROR = np.array([1.0, -1.0, -1.0, 1.0, -1.0, -1.0, 1.0])

# Inverse kinematics: damping, largest joint step an iteration, pull towards the posture in what is left free,
# metres that a radian of orientation error counts, and cost of moving a waist joint against an arm joint.
DAMPING, LARGEST_STEP, POSTURE_PULL, RADIAN, WAIST_COST = 0.01, 0.25, 0.05, 0.3, 3.0
ITERATIONS, CLOSE_ENOUGH = 60, 5e-4

# The joint controller is overdamped: in a step a joint covers 1 - 0.775 of what is asked for (slow pole 5.1 /s,
# measured). Asking for 0.775 / 0.225 times the wanted step on top of the present target makes it keep up.
LEAD = 3.4
# Speeds, per control step: mean metres and radians of the wrist, and largest step of a parked joint. SHORTEST: steps.
MEAN_METRES, MEAN_RADIANS, PARK_STEP = 0.022, 0.09, 0.08
SHORTEST = 5

Actions = Iterator[np.ndarray]


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle (3,), radians, of a rotation matrix."""
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine = float(np.linalg.norm(skew))
    angle = np.arctan2(sine, np.trace(rotation) - 1)
    return skew if sine < 1e-9 else angle / sine * skew


def rotated(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of an axis times angle (3,)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def hand_rotation(forward: np.ndarray, palm: np.ndarray) -> np.ndarray:
    """Rotation of a wrist site whose fingers point along `forward` and whose palm faces `palm` (made square).

    The site's -y axis runs along the fingers and its +z axis out of the palm, on both hands; the right thumb is on
    its -x side, the left one on its +x side.
    """
    y = -np.asarray(forward, dtype=float) / np.linalg.norm(forward)
    z = palm - (palm @ y) * y
    z = z / np.linalg.norm(z)
    return np.stack([np.cross(y, z), y, z], axis=1)


def palm_down(yaw: float, tilt: float) -> np.ndarray:
    """Rotation of a wrist site: fingers towards +y turned left by `yaw`, palm down, fingertips lowered by `tilt`."""
    level, down = np.array([-np.sin(yaw), np.cos(yaw), 0.0]), np.array([0.0, 0.0, -1.0])
    return hand_rotation(np.cos(tilt) * level + np.sin(tilt) * down, np.cos(tilt) * down - np.sin(tilt) * level)


def smooth(steps: int) -> np.ndarray:
    """Parts (steps,) of a way covered after each step, with least jerk, the last being 1."""
    t = np.arange(1, steps + 1) / steps
    return t**3 * (10 - 15 * t + 6 * t**2)


class Arm:
    """Kinematics of one arm together with the waist: joints q (10,) are waist 3, then arm 7.

    It computes on data of its own; the simulation is only read.
    """

    def __init__(self, simulation: Any, side: str) -> None:
        self.side = side
        self.model, self.data = simulation.model, simulation.data
        self._scratch = mujoco.MjData(self.model)
        self._scratch.qpos[:] = self.data.qpos
        names = [*WAIST, *(f"robot0_{side[0]}_{joint}" for joint in ARM)]
        self.ids = np.array([self.model.joint(name).id for name in names])
        self.addresses = self.model.jnt_qposadr[self.ids]
        self.low, self.high = self.model.jnt_range[self.ids].T
        self.site = self.model.site(WRIST_SITE.format(side=side)).id
        self.posture = np.concatenate([np.zeros(3), tucked(side)])
        self._cost = np.array([WAIST_COST] * 3 + [1.0] * 7)

    def joints(self) -> np.ndarray:
        """Measured q (10,)."""
        return self.data.qpos[self.addresses].copy()

    def pose(self) -> Pose:
        """Measured pose of the wrist site."""
        return Pose(self.data.site_xpos[self.site].copy(), self.data.site_xmat[self.site].reshape(3, 3).copy())

    def forward(self, q: np.ndarray) -> Pose:
        """Pose of the wrist site at joints q (10,)."""
        self._scratch.qpos[self.addresses] = q
        mujoco.mj_kinematics(self.model, self._scratch)
        rotation = self._scratch.site_xmat[self.site].reshape(3, 3).copy()
        return Pose(self._scratch.site_xpos[self.site].copy(), rotation)

    def errors(self, pose: Pose, q: np.ndarray) -> np.ndarray:
        """What is left to a pose at joints q: metres (3,) and rotation vector (3,)."""
        now = self.forward(q)
        return np.concatenate([pose.position - now.position, rotation_vector(pose.rotation @ now.rotation.T)])

    def solve(self, pose: Pose, start: np.ndarray, iterations: int = ITERATIONS) -> tuple[np.ndarray, float]:
        """Joints (10,) that bring the wrist to a pose, found from `start`, and the error left there.

        The error is in metres, a radian counting as RADIAN metres.
        """
        q, weights = start.copy(), np.array([1.0] * 3 + [RADIAN] * 3)
        error = weights * self.errors(pose, q)
        for _ in range(iterations):
            if np.linalg.norm(error) < CLOSE_ENOUGH:
                break
            jacobian = weights[:, None] * self._jacobian()
            step = self._step(jacobian, error, q, np.ones(10, dtype=bool))
            blocked = ((q <= self.low) & (step < 0)) | ((q >= self.high) & (step > 0))
            if blocked.any():
                step = self._step(jacobian, error, q, ~blocked)
            q = np.clip(q + np.clip(step, -LARGEST_STEP, LARGEST_STEP), self.low, self.high)
            error = weights * self.errors(pose, q)
        return q, float(np.linalg.norm(error))

    def _step(self, jacobian: np.ndarray, error: np.ndarray, q: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Joint step (10,) with the `free` joints: damped least squares, what is left free pulled to the posture."""
        scaled = np.where(free, jacobian / self._cost, 0.0)
        inverse = scaled.T @ np.linalg.inv(scaled @ scaled.T + DAMPING**2 * np.eye(6))
        pull = np.where(free, POSTURE_PULL * (self.posture - q) * self._cost, 0.0)
        return (inverse @ error + pull - inverse @ (scaled @ pull)) / self._cost

    def _jacobian(self) -> np.ndarray:
        """Motion of the wrist site (6, 10), metres and radians, per radian of each joint, where `forward` was last."""
        axes = self._scratch.xaxis[self.ids]
        arms = self._scratch.site_xpos[self.site] - self._scratch.xanchor[self.ids]
        return np.concatenate([np.cross(axes, arms), axes], axis=1).T


def tucked(side: str) -> np.ndarray:
    """Arm joints (7,) that keep an idle hand beside the body, off the table."""
    return TUCKED if side == "right" else TUCKED * MIRROR


class Body:
    """Targets of both arms, hands and the waist; every motion yields one action a control step.

    The targets start at the measured pose and are what the joints should have reached after the step.
    """

    def __init__(self, simulation: Any) -> None:
        self.arms = {side: Arm(simulation, side) for side in SIDES}
        self.arm = {side: self.arms[side].joints()[3:] for side in SIDES}
        self.hand = {side: HAND_OPEN.copy() for side in SIDES}
        self.waist = self.arms["right"].joints()[:3]
        self._parking: dict[str, np.ndarray] = {}

    def targets(self, side: str) -> np.ndarray:
        """Present targets q (10,) of the waist and an arm."""
        return np.concatenate([self.waist, self.arm[side]])

    def target_pose(self, side: str) -> Pose:
        """Pose of a wrist at the present targets: where it is going to be, contacts aside."""
        return self.arms[side].forward(self.targets(side))

    def park(self, side: str, joints: np.ndarray) -> None:
        """From now on move an arm to joints (7,) beside whatever else is done, until a motion takes that arm."""
        self._parking[side] = joints

    def step(self, side: str | None = None, q: np.ndarray | None = None) -> np.ndarray:
        """The action (29,) after which waist and arm of `side` should be at q (10,); without both they stay."""
        before = {"waist": self.waist, **self.arm}
        after = dict(before)
        if side is not None:
            self._parking.pop(side, None)
            after["waist"], after[side] = q[:3], q[3:]
        for parked, goal in self._parking.items():
            way = goal - before[parked]
            after[parked] = before[parked] + way * min(1.0, PARK_STEP / max(float(np.abs(way).max()), 1e-9))
        self.waist, self.arm = after["waist"], {name: after[name] for name in SIDES}
        lead = {part: after[part] + LEAD * (after[part] - before[part]) for part in after}
        return np.concatenate([lead["left"], lead["right"], self.hand["left"], self.hand["right"], lead["waist"]])

    # -- motions

    def hold(self, steps: int, until: Callable[[], bool] | None = None) -> Actions:
        """Keep arms and waist where they are meant to be; ends sooner when `until()` is true."""
        for _ in range(steps):
            if until is not None and until():
                return
            yield self.step()

    def move(
        self, side: str, pose: Pose, steps: int | None = None, until: Callable[[], bool] | None = None
    ) -> Actions:
        """Bring a wrist straight to a pose; ends sooner when `until()` is true. The other arm stays or parks."""
        arm, start, q = self.arms[side], self.target_pose(side), self.targets(side)
        way, turn = pose.position - start.position, rotation_vector(pose.rotation @ start.rotation.T)
        for part in smooth(steps or duration(way, turn)):
            if until is not None and until():
                return
            q, _ = arm.solve(Pose(start.position + part * way, rotated(part * turn) @ start.rotation), q)
            yield self.step(side, q)

    def swing(self, side: str, q: np.ndarray, steps: int) -> Actions:
        """Bring waist and arm to joints q (10,), each joint on its shortest way."""
        start = self.targets(side)
        for part in smooth(steps):
            yield self.step(side, start + part * (q - start))


def duration(way: np.ndarray, turn: np.ndarray) -> int:
    """Control steps for a motion over `way` (3,) metres and `turn` (3,) radians."""
    return max(
        SHORTEST,
        int(np.ceil(np.linalg.norm(way) / MEAN_METRES)),
        int(np.ceil(np.linalg.norm(turn) / MEAN_RADIANS)),
    )
