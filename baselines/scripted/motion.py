"""Straight-line motions of the hand as OSC actions, closed loop on the grip site's true pose.

An action is (7,): position and rotation step in units of the controller's largest step, then the gripper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .world import VERTICAL, Pose, World

OPEN, CLOSED = -1.0, 1.0

# robosuite's OSC_POSE default: an action of 1 asks for this much in one control step.
POSITION_STEP = 0.05
ROTATION_STEP = 0.5
# The controller covers only part of what it is asked for in a step; asking for more is faster, still stable.
GAIN = 2.5

# A motion that comes no closer by PROGRESS (metres plus radians) in STALL_STEPS steps is over.
PROGRESS, STALL_STEPS = 0.002, 12

# Panda's geometry: the wrist (joint 6) lies this far behind the grip site and beside it, towards the base.
# The stretched arm spans 0.70 m from shoulder to wrist and gets stuck there, so it is kept a little bent.
WRIST_BEHIND, WRIST_BESIDE, LONGEST_ARM = 0.208, 0.088, 0.68
# A hand counts as pointing down when its pointing direction has at least this downward part.
STEEP = 0.85
TILTS = np.radians(np.arange(0, 61, 4))

# Closing takes at most CLOSE_STEPS; the fingers stand still when they move by less than STILL metres a step.
CLOSE_STEPS, STILL = 14, 0.0005
# Opening begins this many control steps after closing: the gripper's command runs from one end to the other.
REVERSAL_STEPS = 10
# Held things are free when the fingers have opened by this much, metres.
FREE = 0.012

Actions = Iterator[np.ndarray]


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle (3,), radians, of a rotation matrix."""
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    if angle < 1e-6:
        return np.zeros(3)
    skew = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    return angle / max(np.linalg.norm(skew), 1e-9) * skew


def turned(rotation: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """A rotation matrix turned about a world axis by an angle in radians."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross) @ rotation


def facing(approach: np.ndarray, closing: np.ndarray) -> np.ndarray:
    """Rotation of a grip site that points along `approach` and closes along `closing`, made perpendicular."""
    z = approach / np.linalg.norm(approach)
    x = closing - (closing @ z) * z
    x = x / np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


class Hand:
    """The arm as a hand that can be sent to poses; every motion yields one action a control step.

    `level` is its first rotation made exactly downward: turns are measured from there.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.level = facing(-VERTICAL, world.grip().rotation[:, 0])

    def errors(self, target: Pose) -> tuple[np.ndarray, np.ndarray]:
        """What is left to a pose: translation (3,) in metres and rotation vector (3,) in radians."""
        now = self.world.grip()
        return target.position - now.position, rotation_vector(target.rotation @ now.rotation.T)

    def action(self, target: Pose, grip: float, gain: float = GAIN) -> np.ndarray:
        """One action (7,) float32 towards a pose."""
        shift, turn = self.errors(target)
        step = np.concatenate([shift / POSITION_STEP, turn / ROTATION_STEP]) * gain
        return np.append(np.clip(step, -1, 1), grip).astype(np.float32)

    def move(
        self,
        target: Pose,
        grip: float,
        within: float = 0.008,
        angle_within: float = 0.05,
        steps: int = 70,
        gain: float = GAIN,
        until: Callable[[], bool] | None = None,
    ) -> Actions:
        """Go straight to a pose; ends within `within` metres and `angle_within` radians of it.

        Ends sooner when `until()` is true, when the hand comes no closer, or after `steps` actions.
        """
        target = self.within_reach(target)
        closest, stalled = np.inf, 0
        for _ in range(steps):
            shift, turn = (float(np.linalg.norm(error)) for error in self.errors(target))
            if (shift < within and turn < angle_within) or (until is not None and until()):
                return
            stalled = 0 if shift + turn < closest - PROGRESS else stalled + 1
            if stalled >= STALL_STEPS:
                return
            closest = min(closest, shift + turn)
            yield self.action(target, grip, gain)

    def within_reach(self, target: Pose) -> Pose:
        """The pose; a hand that points down is tilted outwards as little as keeps the arm bent."""
        if target.rotation[2, 2] > -STEEP:
            return target
        outwards = target.position - self.world.shoulder
        outwards = outwards * [1, 1, 0] / np.linalg.norm(outwards[:2])
        axis = np.cross(outwards, VERTICAL)
        poses = [Pose(target.position, turned(target.rotation, axis, tilt)) for tilt in TILTS]
        spans = [self.arm_span(pose, outwards) for pose in poses]
        fits = [pose for pose, span in zip(poses, spans, strict=True) if span < LONGEST_ARM]
        return fits[0] if fits else poses[int(np.argmin(spans))]

    def arm_span(self, pose: Pose, outwards: np.ndarray) -> float:
        """Metres from shoulder to wrist with the hand at a pose; `outwards` is from base to hand."""
        pointing = pose.rotation[:, 2]
        beside = outwards - (outwards @ pointing) * pointing
        beside = beside / max(float(np.linalg.norm(beside)), 1e-9)
        wrist = pose.position - WRIST_BEHIND * pointing - WRIST_BESIDE * beside
        return float(np.linalg.norm(wrist - self.world.shoulder))

    def hold(self, grip: float, steps: int) -> Actions:
        """Stay where the hand is, for the fingers to open or close."""
        here = self.world.grip()
        for _ in range(steps):
            yield self.action(here, grip)

    def release(self) -> Actions:
        """Open the fingers until what they held is free: a little wider than it, or as wide as they go."""
        here, held, gap = self.world.grip(), self.world.finger_gap(), np.inf
        for step in range(CLOSE_STEPS):
            yield self.action(here, OPEN)
            moved, gap = abs(gap - self.world.finger_gap()), self.world.finger_gap()
            if gap > held + FREE or (step > REVERSAL_STEPS and moved < STILL):
                return

    def close(self) -> Actions:
        """Close the fingers until they stop on something or on each other."""
        here, gap, still = self.world.grip(), np.inf, 0
        for step in range(CLOSE_STEPS):
            yield self.action(here, CLOSED)
            moved, gap = abs(gap - self.world.finger_gap()), self.world.finger_gap()
            still = still + 1 if moved < STILL else 0
            if step > 4 and still >= 2:
                return
