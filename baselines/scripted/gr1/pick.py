"""Pick the object, put it into the container, look, and try again until the task's predicate holds.

One hand takes the object from above: fingertips come down in front of it, the thumb behind it, and close.
Lengths are metres, angles radians. Numbers without another source were tuned on built-in scenes, seeds 100 - 119.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from .arm import HAND_OPEN, SIDES, Actions, Body, Pose, palm_down, tucked
from .world import TABLE_TOP, Box, World

# Hand commands: pinky, ring, middle, index, thumb bend, thumb rotation. The thumb is turned under the palm.
SPREAD = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.7])
CLOSED = np.array([1.57, 1.57, 1.57, 1.57, 1.2, 1.74])
# Control steps. The fingers need 20 from spread to fist in the air (measured), less where they meet something.
CLOSE_STEPS, OPEN_STEPS, RETREAT_STEPS, SETTLE_STEPS = 18, 12, 20, 6

# The point between fingertips and thumb, in the wrist site's frame of a right hand (the left one's x is mirrored),
# and how far the tips come below it and below the wrist while they close, at the first tilt. From the hand's meshes.
PINCH = np.array([-0.005, -0.112, 0.078])
TIPS_BELOW_PINCH, TIPS_BELOW_WRIST = 0.024, 0.15
# How far the fingertips are lowered from palm down, radians.
TILTS = (0.6, 0.45, 0.8, 1.0)
# Directions of the fingers, radians inwards of straight ahead, and the one that costs nothing.
YAWS, NEUTRAL_YAW = np.linspace(-1.2, 1.8, 13), 0.4

# Where a long object is taken: its middle, or this part of its half length to either end.
PLACES, LONG = (0.0, 0.4, -0.4), 0.05
# The pinch is at the object's middle, but at most this far below its top: a palm needs the room.
DEEPEST = 0.042
FLOOR_MARGIN = 0.004
# How far above its goal the hand stops before it comes down, and how far it goes up with and without the object.
HOVER, LIFT, RISE = 0.11, 0.13, 0.12
# Free height kept over things on the way, and how wide around the hand's way they count.
CLEARANCE, WIDTH = 0.02, 0.13
# An object counts as held while its middle is this close to the pinch.
HELD = 0.1
# An object is let go this far above the rim of what it goes into.
DROP = 0.008

# Costs: of a metre of the object between fingers and thumb, of a metre (or RADIAN radians) out of reach, of a
# radian of yaw and of tilt, of a metre across the robot's middle, of a metre off the object's middle, of a hand full
# of other things (half of it at CONFLICT_POINTS points), of a failed try like it.
SPAN_COST, REACH_COST, YAW_COST, TILT_COST, CROSS_COST, PLACE_COST = 2.0, 8.0, 0.06, 0.1, 1.5, 2.0
CONFLICT_COST, CONFLICT_POINTS, AGAIN_COST = 1.0, 100, 0.3
# Room of the spread hand in its own frame (low and high corners): fingers, and thumb with what it closes on; how
# close the points are that stand for other things, and how far from the object they matter.
FINGER_ROOM = np.array([[-0.05, -0.20, -0.03], [0.05, 0.0, 0.045]])
THUMB_ROOM = np.array([[-0.05, -0.15, 0.045], [0.05, 0.0, 0.14]])
CLOUD_SPACING, NEIGHBOURHOOD = 0.012, 0.3


@dataclass(frozen=True)
class Grasp:
    """Which hand takes hold and how: yaw inwards of straight ahead and tilt in radians, place along the object.

    `pose` is the wrist's; `cost` says how little it suits.
    """

    side: str
    yaw: float
    tilt: float
    place: float
    pose: Pose
    cost: float


def pick_and_place(simulation: Any) -> Iterator[np.ndarray]:
    """Actions (29,), one a control step, without end, for a scene with an object and a container."""
    yield from PickAndPlace(simulation).actions()


class PickAndPlace:
    """The script of one episode."""

    def __init__(self, simulation: Any) -> None:
        self.world = World(simulation)
        self.body = Body(simulation)
        self.failed: list[Grasp] = []

    def actions(self) -> Actions:
        """Try until it is done or the object has left the table, then stand still."""
        for side in SIDES:
            self.body.park(side, tucked(side))
        while True:
            if self.world.succeeded() or self.world.position(self.world.obj)[2] < TABLE_TOP:
                yield from self.body.hold(1)
            else:
                yield from self.attempt()

    def attempt(self) -> Actions:
        """Take the object, carry it over the container, let go and step back."""
        grasp = self.best_grasp()
        yield from self.reach(grasp)
        yield from self.grab(grasp)
        if self.holds(grasp.side):
            yield from self.carry(grasp.side)
        else:
            self.failed.append(grasp)
        yield from self.let_go(grasp.side)
        yield from self.retreat(grasp.side)

    # -- phases

    def reach(self, grasp: Grasp) -> Actions:
        """Bring the spread hand above the object, then look again and come down around it."""
        self.body.hand[grasp.side] = SPREAD
        yield from self.travel(grasp.side, grasp.pose.moved(z=HOVER), TIPS_BELOW_WRIST)
        pose = self.wrist_pose(grasp.side, grasp.pose.rotation, grasp.place)
        yield from self.body.move(grasp.side, pose)
        yield from self.body.hold(2)

    def grab(self, grasp: Grasp) -> Actions:
        """Close the hand and lift."""
        self.body.hand[grasp.side] = CLOSED
        yield from self.body.hold(CLOSE_STEPS)
        yield from self.body.move(grasp.side, self.body.target_pose(grasp.side).moved(z=LIFT))
        yield from self.body.hold(2)

    def carry(self, side: str) -> Actions:
        """Bring the held object over its goal and, looking again, down to just above the rim."""
        hanging = self.body.arms[side].pose().position[2] - self.world.box(self.world.obj).bottom
        yield from self.travel(side, self.release_pose(side), max(hanging, TIPS_BELOW_WRIST))
        if self.holds(side):
            yield from self.body.move(side, self.release_pose(side))
            yield from self.body.hold(2)

    def let_go(self, side: str) -> Actions:
        """Open the hand and go straight up."""
        self.body.hand[side] = SPREAD
        yield from self.body.hold(OPEN_STEPS)
        yield from self.body.move(side, self.body.target_pose(side).moved(z=RISE))

    def retreat(self, side: str) -> Actions:
        """Fold the arm beside the body, far from object and container, and wait a moment for things to settle."""
        self.body.hand[side] = HAND_OPEN
        yield from self.body.swing(side, np.concatenate([np.zeros(3), tucked(side)]), RETREAT_STEPS)
        yield from self.body.hold(SETTLE_STEPS, until=self.world.succeeded)

    def holds(self, side: str) -> bool:
        """Whether the object is in the hand."""
        wrist = self.body.arms[side].pose()
        middle = wrist.position + wrist.rotation @ pinch(side)
        return bool(np.linalg.norm(self.world.box(self.world.obj).center - middle) < HELD)

    def travel(self, side: str, pose: Pose, below: float) -> Actions:
        """Bring a wrist to a pose over everything on the way; `below` is how far the hand hangs under the wrist."""
        start = self.body.target_pose(side)
        others = [item for item in self.world.items if item is not self.world.obj]
        top = self.world.highest(start.position, pose.position, WIDTH, others)
        height = max(top + below + CLEARANCE, pose.position[2])
        if start.position[2] < height - 0.02:
            yield from self.body.move(side, start.at([*start.position[:2], height]))
        if height > pose.position[2] + 0.02:
            yield from self.body.move(side, pose.at([*pose.position[:2], height]))
        yield from self.body.move(side, pose)

    # -- where to take hold and where to let go

    def best_grasp(self) -> Grasp:
        """The cheapest way to take the object, of both hands, all directions and places; reach is solved last."""
        best = None
        for grasp in sorted(self.grasps(), key=lambda grasp: grasp.cost):
            if best is not None and grasp.cost >= best.cost:
                break
            reached = replace(grasp, cost=grasp.cost + REACH_COST * self.out_of_reach(grasp.side, grasp.pose))
            best = reached if best is None or reached.cost < best.cost else best
        return best

    def grasps(self) -> Iterator[Grasp]:
        """All ways to take the object, with what they cost without the arm's reach."""
        box = self.world.box(self.world.obj)
        cloud = self.world.points([item for item in self.world.items if item is not self.world.obj], CLOUD_SPACING)
        cloud = cloud[np.linalg.norm(cloud - box.center, axis=1) < NEIGHBOURHOOD]
        places = PLACES if long_axis(box)[1] > LONG else PLACES[:1]
        for side, yaw, tilt, place in product(SIDES, YAWS, TILTS, places):
            rotation = rotation_of(side, yaw, tilt)
            pose = self.wrist_pose(side, rotation, place)
            others = conflicts(pose, cloud)
            cost = SPAN_COST * box.reach(ahead(rotation)) + YAW_COST * abs(yaw - NEUTRAL_YAW)
            cost += TILT_COST * abs(tilt - TILTS[0]) + PLACE_COST * abs(place) * long_axis(box)[1]
            cost += CONFLICT_COST * others / (others + CONFLICT_POINTS) + CROSS_COST * self.across(side, pose)
            cost += AGAIN_COST * sum(other.side == side and abs(other.yaw - yaw) < 0.4 for other in self.failed)
            yield Grasp(side, float(yaw), tilt, place, pose, cost)

    def across(self, side: str, pose: Pose) -> float:
        """Metres by which wrist and goal together lie on the other hand's side of the robot's middle."""
        outwards = 1.0 if side == "right" else -1.0
        places = (pose.position, self.world.position(self.world.container))
        return sum(max(0.0, -outwards * (float(place[0]) - self.world.middle)) for place in places)

    def out_of_reach(self, side: str, pose: Pose) -> float:
        """Error that the arm leaves at a pose and above it."""
        arm = self.body.arms[side]
        q, there = arm.solve(pose, np.concatenate([np.zeros(3), tucked(side)]))
        return max(there, arm.solve(pose.moved(z=LIFT), q)[1])

    def wrist_pose(self, side: str, rotation: np.ndarray, place: float) -> Pose:
        """Where the wrist is when the pinch is at a place along the object."""
        box = self.world.box(self.world.obj)
        axis, half = long_axis(box)
        x, y, middle = box.center + place * half * axis
        reach = float(np.linalg.norm(box.rotation[2] * box.half))  # up and down, of a round thing in the box
        height = max(middle, middle + reach - DEEPEST, middle - reach + TIPS_BELOW_PINCH + FLOOR_MARGIN)
        return Pose(np.array([x, y, height]) - rotation @ pinch(side), rotation)

    def release_pose(self, side: str) -> Pose:
        """Where the wrist is when the held object is just above its goal."""
        now, box = self.body.arms[side].pose(), self.world.box(self.world.obj)
        goal = self.goal()
        shift = goal - np.array([*box.center[:2], box.bottom - DROP])
        return Pose(now.position + shift, now.rotation)

    def goal(self) -> np.ndarray:
        """Where the object's lowest point is to come (3,): in the highest tier, or in the container's hollow."""
        container = self.world.container
        if container.region:
            region = self.world.geom_box(container.region)
            return np.array([*region.center[:2], region.bottom])
        return self.world.well(container)


def rotation_of(side: str, yaw: float, tilt: float) -> np.ndarray:
    """Rotation of a wrist with the palm down and the fingers `yaw` inwards of straight ahead."""
    return palm_down(yaw if side == "right" else -yaw, tilt)


def pinch(side: str) -> np.ndarray:
    """The point between fingertips and thumb in the wrist's frame."""
    return PINCH if side == "right" else PINCH * [-1, 1, 1]


def ahead(rotation: np.ndarray) -> np.ndarray:
    """Horizontal unit vector along the fingers of a wrist: hand and thumb close along it."""
    level = -rotation[:, 1] * [1, 1, 0]
    return level / np.linalg.norm(level)


def long_axis(box: Box) -> tuple[np.ndarray, float]:
    """Horizontal unit vector along the longest lying axis of a box, and its half length."""
    lying = np.where(np.abs(box.rotation[2]) < 0.5, box.half, 0.0)
    axis = box.rotation[:, int(np.argmax(lying))] * [1, 1, 0]
    return axis / np.linalg.norm(axis), float(lying.max())


def conflicts(pose: Pose, cloud: np.ndarray) -> int:
    """How many points (n, 3) of other things lie where the spread hand would be."""
    above = cloud[cloud[:, 2] > pose.position[2] - TIPS_BELOW_WRIST]
    local = (above - pose.position) @ pose.rotation
    rooms = (FINGER_ROOM, THUMB_ROOM)
    return int(sum(np.all((local > low) & (local < high), axis=1).sum() for low, high in rooms))
