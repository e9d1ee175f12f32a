"""What the scripts that put the object into a fixture and shut it have in common.

The fixture as read from the simulator, taking hold of the object, and the loop of putting it in and shutting until the
task's predicate holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arm import FINGERS, HAND_OPEN, SIDES, Actions, Body, Pose, hand_rotation, rotated, tucked
from .world import UP, Box, World

# Hand commands: pinky, ring, middle, index, thumb bend, thumb rotation. SPREAD turns the thumb under the palm.
SPREAD = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.7])
CLOSED = np.array([1.57, 1.57, 1.57, 1.57, 1.2, 1.74])
FIST = np.array([1.57, 1.57, 1.57, 1.57, 1.2, 0.0])
CLOSE_STEPS, GENTLE_CLOSE_STEPS, OPEN_STEPS, PRESS_STEPS = 18, 30, 14, 15

# Room between palm and object while a hand comes down beside it.
GAP = 0.02
# From the wrist to the knuckles of a fist.
KNUCKLES = 0.118
RIGHT, AHEAD = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
# A door state at which the fixture counts as shut with something to spare (the predicate asks for 0.005).
SHUT = 0.003
# How far the wrist rises after a grasp, and which part of that the object must have come along.
LIFT, CAME_ALONG = 0.15, 0.5
# An object tilted by less than this, radians, is brought upright while it is carried.
TILTED = 0.8


@dataclass(frozen=True)
class Hold:
    """How a hand takes an object, for the right hand (the left one mirrors it).

    yaw: fingers inwards of straight ahead; tilt: fingertips lowered; roll: 0 palm down, pi / 2 palm inwards. middle:
    the point of the wrist's frame that comes to the object's axis; beside: its last number is counted from the
    object's surface, not from its axis. lowest: least height of that point above the object's bottom; below_top:
    largest depth of it below the object's top.
    squeeze: radians that the fingers' targets are kept ahead of the fingers while they close.
    """

    yaw: float
    tilt: float
    roll: float
    middle: tuple[float, float, float]
    below_top: float
    beside: bool = False
    lowest: float = 0.0
    squeeze: float = 2.0

    def rotation(self, side: str) -> np.ndarray:
        """Rotation matrix (3, 3) of the wrist."""
        return turned_hand(side, self.yaw, self.tilt, self.roll)

    def offset(self, side: str) -> np.ndarray:
        """`middle` in the wrist's frame of a hand."""
        return np.array(self.middle) * ([1, 1, 1] if side == "right" else [-1, 1, 1])


def turned_hand(side: str, yaw: float, tilt: float, roll: float) -> np.ndarray:
    """Rotation of a wrist: fingers `yaw` inwards of straight ahead, lowered by `tilt`, palm `roll` inwards of down."""
    inwards = -1.0 if side == "right" else 1.0
    level = np.array([inwards * np.sin(yaw), np.cos(yaw), 0.0])
    across = np.array([inwards * np.cos(yaw), -np.sin(yaw), 0.0])
    down = np.array([0.0, 0.0, -1.0])
    forward = np.cos(tilt) * level + np.sin(tilt) * down
    palm = np.cos(roll) * (np.cos(tilt) * down - np.sin(tilt) * level) + np.sin(roll) * across
    return hand_rotation(forward, palm)


def finger_joints(side: str) -> list[str]:
    """The joints that the six numbers of a hand command move, in their order; of two to a finger the outer one."""
    joints = [f"{finger}_intermediate" for finger in FINGERS] + ["thumb_proximal_pitch", "thumb_proximal_yaw"]
    return [f"gripper0_{side}_{side[0].upper()}_{joint}_joint" for joint in joints]


class Fixture:
    """The fixture as it stands now; metres and radians in the world frame."""

    def __init__(self, simulation: Any) -> None:
        self.simulation = simulation
        self.model, self.data = simulation.model, simulation.data
        self.joint = self.model.joint(simulation.scene.fixture.joint).id
        self.door_body = int(self.model.jnt_bodyid[self.joint])

    def door(self) -> float:
        """Door state: 0 shut, 1 fully open."""
        return float(self.simulation.door())

    def value(self) -> float:
        """Joint value: metres or radians, 0 shut."""
        return float(self.data.qpos[self.model.jnt_qposadr[self.joint]])

    def anchor(self) -> np.ndarray:
        """A point (3,) of the joint's axis."""
        return self.data.xanchor[self.joint].copy()

    def interior(self) -> Box:
        """The goal box now."""
        corner, *neighbours = self.simulation.interior()
        edges = np.array(neighbours) - corner
        lengths = np.linalg.norm(edges, axis=1)
        return Box(corner + edges.sum(axis=0) / 2, (edges / lengths[:, None]).T, lengths / 2)

    def contains(self, point: np.ndarray) -> bool:
        """Whether a world point (3,) is in the goal box."""
        box = self.interior()
        return bool((np.abs((point - box.center) @ box.rotation) < box.half).all())


class Stow(ABC):
    """The script of one episode: bring the object into the fixture, then shut it."""

    def __init__(self, simulation: Any) -> None:
        self.world = World(simulation)
        self.body = Body(simulation)
        self.fixture = Fixture(simulation)
        self.takes = 0
        model = simulation.model
        self.finger_addresses = {
            side: [int(model.joint(name).qposadr[0]) for name in finger_joints(side)] for side in SIDES
        }

    def actions(self) -> Actions:
        """Try until it is done, then stand still."""
        for side in SIDES:
            self.body.park(side, tucked(side))
        while True:
            if self.world.succeeded():
                yield from self.body.hold(1)
            elif self.stowed():
                yield from self.shut()
            else:
                yield from self.attempt()

    def stowed(self) -> bool:
        """Whether the object's origin is inside."""
        return self.fixture.contains(self.object_position())

    def object_position(self) -> np.ndarray:
        """Origin (3,) of the object."""
        return self.world.position(self.world.obj)

    @abstractmethod
    def attempt(self) -> Actions:
        """Take the object, put it in, step back."""

    @abstractmethod
    def shut(self) -> Actions:
        """Shut the fixture with a hand and step back."""

    def is_shut(self) -> bool:
        """Whether the door is where the predicate wants it, or the predicate holds."""
        return self.fixture.door() < SHUT

    def keep_pressing(self) -> Actions:
        """Give the door time to come to rest, then stay there as long as the task is done."""
        yield from self.body.hold(PRESS_STEPS, until=self.world.succeeded)
        while self.world.succeeded():
            yield from self.body.hold(1)

    # -- phases

    def nearer_side(self) -> str:
        """The hand on whose side of the robot's middle the object is."""
        return "right" if self.object_position()[0] > self.world.middle else "left"

    def take(self, side: str, hold: Hold) -> Actions:
        """Bring the spread hand above the object, down beside it, close it and lift."""
        self.body.hand[side] = SPREAD
        yield from self.go_over(side, self.holding_pose(side, hold))
        pose = self.holding_pose(side, hold)
        if hold.beside:
            yield from self.body.move(side, pose.at(pose.position - GAP * pose.rotation[:, 2]))
        yield from self.body.move(side, pose)
        yield from self.body.hold(3)
        yield from self.close_hand(side, hold.squeeze)
        before = self.object_position()[2]
        yield from self.body.move(side, self.body.target_pose(side).moved(z=LIFT))
        yield from self.body.hold(2)
        self.lifted = self.object_position()[2] - before > CAME_ALONG * LIFT

    def close_hand(self, side: str, squeeze: float) -> Actions:
        """Close the fingers, their targets at most `squeeze` radians ahead of them."""
        for _ in range(CLOSE_STEPS if squeeze > 1.5 else GENTLE_CLOSE_STEPS):
            self.body.hand[side] = np.minimum(CLOSED, self.world.data.qpos[self.finger_addresses[side]] + squeeze)
            yield from self.body.hold(1)

    def go_over(self, side: str, pose: Pose) -> Actions:
        """Bring a wrist above a pose, high enough for the fingers to clear the object."""
        high = max(self.body.target_pose(side).position[2], self.world.box(self.world.obj).top + 0.2)
        start = self.body.target_pose(side)
        yield from self.body.move(side, start.at([*start.position[:2], high]))
        yield from self.body.move(side, pose.at([*pose.position[:2], high]))

    def let_go(self, side: str, hand: np.ndarray = SPREAD) -> Actions:
        """Open the hand where it is."""
        self.body.hand[side] = hand
        yield from self.body.hold(OPEN_STEPS)

    def tuck(self, side: str, steps: int = 20) -> Actions:
        """Fold an arm beside the body, waist straight."""
        self.body.hand[side] = HAND_OPEN
        yield from self.body.swing(side, np.concatenate([np.zeros(3), tucked(side)]), steps)

    def holding_pose(self, side: str, hold: Hold) -> Pose:
        """Where the wrist is when the hand is around the object."""
        box, rotation = self.world.box(self.world.obj), hold.rotation(side)
        height = max(float(box.center[2]), box.top - hold.below_top, box.bottom + hold.lowest)
        middle = np.array([*box.center[:2], height]) - rotation @ hold.offset(side)
        return Pose(middle - hold.beside * box.reach(rotation[:, 2]) * rotation[:, 2], rotation)

    def carried(self, side: str, goal: np.ndarray) -> Pose:
        """Wrist pose that brings the held object's box centre to a point (3,), and upright what has tilted a little."""
        now, box = self.body.arms[side].pose(), self.world.box(self.world.obj)
        turn = rotated(uprighting(box.rotation[:, 2]))
        return Pose(goal + turn @ (now.position - box.center), turn @ now.rotation)


def uprighting(axis: np.ndarray) -> np.ndarray:
    """Axis times angle (3,) of the turn that brings an object's own z axis up; none beyond TILTED."""
    across = np.cross(axis, UP)
    sine = float(np.linalg.norm(across))
    angle = float(np.arctan2(sine, axis @ UP))
    return across / sine * angle if sine > 1e-6 and angle < TILTED else np.zeros(3)
