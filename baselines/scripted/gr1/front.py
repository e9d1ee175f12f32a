"""Put the object into the open microwave or cabinet from the front, then sweep the door shut from the outside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .arm import HAND_OPEN, Actions, Pose
from .sweep import sweep_door
from .take import AHEAD, FIST, KNUCKLES, RIGHT, Hold, Stow, turned_hand
from .world import UP

# Beside the object, palm down and inwards.
LOW = Hold(yaw=0.3, tilt=0.25, roll=0.5, middle=(0.0, -0.105, 0.075), below_top=0.06, squeeze=2.0)
# Beside an upright object, palm inwards, at half its height.
UPRIGHT = Hold(
    yaw=0.0, tilt=0.4, roll=1.45, middle=(0.0, -0.1, 0.027), below_top=1.0, beside=True, lowest=0.062, squeeze=0.7
)
TALL = 0.15
# How far inside the interior's front the near side of the object is brought, and how far above its floor.
INSIDE, ABOVE_FLOOR, BESIDE_WALL = 0.08, 0.015, 0.02
# How far the open palm leaves the object before the hand comes back out.
OFF = 0.015
# How far before the opening an object still lies at its mouth; its middle is this high above the fixture's floor then.
MOUTH, ON_FLOOR = 0.13, 0.02
# Where to press a door, from the hinge to its free edge, and by how much to turn the hand, one try after the other.
LEVERS, YAW_SHIFTS = (0.65, 0.85, 0.5), (0.0, 0.25, -0.25)
# Directions of the fingers for low things, and metres of span that a radian away from LOW's counts.
YAWS, YAW_COST = np.linspace(-0.3, 1.5, 7), 0.04
# A door state from which on the opening is free for a hand; half the height of a fist.
AJAR, FIST_RADIUS = 0.7, 0.05


class StowFromFront(Stow):
    """The script for boxes that are open to the front, with a door on a vertical hinge."""

    def __init__(self, simulation: Any) -> None:
        super().__init__(simulation)
        hinge_is_left = self.fixture.anchor()[0] < self.fixture.interior().center[0]
        self.outside, self.inside = ("left", "right") if hinge_is_left else ("right", "left")
        self.sweeps = 0

    def attempt(self) -> Actions:
        """Push the object in where it lies before the opening; else take it, put it in, let go, step back."""
        if self.at_mouth():
            yield from self.push_in()
            return
        yield from self.take(self.inside, self.best_hold())
        self.takes += 1
        if self.lifted:
            yield from self.insert(self.inside)
        else:
            yield from self.let_go(self.inside)
            yield from self.body.move(self.inside, self.body.target_pose(self.inside).moved(z=0.15))
        yield from self.tuck(self.inside)

    def best_hold(self) -> Hold:
        """How to take the object as it lies or stands; a little different each time."""
        shift = YAW_SHIFTS[self.takes % len(YAW_SHIFTS)]
        if self.world.box(self.world.obj).reach(UP) > TALL / 2:
            return replace(UPRIGHT, yaw=UPRIGHT.yaw + shift)
        return replace(LOW, yaw=self.narrow_yaw() + shift)

    def narrow_yaw(self) -> float:
        """The direction of the fingers along which the object is narrow, if possible close to that of LOW."""
        box = self.world.box(self.world.obj)
        inwards = -1.0 if self.inside == "right" else 1.0

        def cost(yaw: float) -> float:
            return box.reach(np.array([inwards * np.sin(yaw), np.cos(yaw), 0.0])) + YAW_COST * abs(yaw - LOW.yaw)

        return float(min(YAWS, key=cost))

    def at_mouth(self) -> bool:
        """Whether the object lies on the fixture's floor, sticking out to the front."""
        goal, thing = self.fixture.interior(), self.world.box(self.world.obj)
        beside, above = abs(thing.center[0] - goal.center[0]), thing.center[2] - goal.bottom
        before = self.front() - thing.center[1]
        return bool(beside < goal.half[0] and above > ON_FLOOR and -0.02 < before < MOUTH)

    def push_in(self) -> Actions:
        """Push the object with a fist from the front until its near side is well inside."""
        side, thing = self.inside, self.world.box(self.world.obj)
        self.body.hand[side] = FIST
        near = float(thing.center[1]) - thing.reach(AHEAD)
        height = max(float(thing.center[2]), self.fixture.interior().bottom + FIST_RADIUS)
        start = np.array([thing.center[0], near - KNUCKLES - 0.04, height])
        pose = Pose(start, turned_hand(side, 0.0, 0.0, 0.0))
        yield from self.body.move(side, pose.moved(y=-0.03, z=0.15))
        yield from self.body.move(side, pose)
        yield from self.body.move(side, pose.moved(y=self.front() + INSIDE - near + 0.04))
        yield from self.body.move(side, pose.moved(y=-0.03))
        yield from self.tuck(side)

    def front(self) -> float:
        """y of the interior's front."""
        goal = self.fixture.interior()
        return float(goal.center[1] - goal.half[1])

    def insert(self, side: str) -> Actions:
        """Bring the held object before the opening, straight in, let go and straight out."""
        inside = self.carried(side, self.place(side))
        before = inside.moved(y=-0.18)
        yield from self.body.move(side, before)
        inside = self.carried(side, self.place(side))
        yield from self.body.move(side, inside.moved(y=-0.18))
        yield from self.body.move(side, inside, steps=25)
        yield from self.body.hold(3)
        yield from self.let_go(side, HAND_OPEN)
        pose = self.body.target_pose(side)
        off = pose.at(pose.position - OFF * pose.rotation[:, 2])
        yield from self.body.move(side, off)
        yield from self.body.move(side, off.moved(y=-0.2))

    def place(self, side: str) -> np.ndarray:
        """Where the middle of the object's box is to come: at the wall away from the hand."""
        goal, thing = self.fixture.interior(), self.world.box(self.world.obj)
        away = -1.0 if side == "right" else 1.0
        y = self.front() + INSIDE + thing.reach(AHEAD)
        z = goal.bottom + ABOVE_FLOOR + thing.reach(UP)
        x = goal.center[0] + away * max(0.0, goal.half[0] - BESIDE_WALL - thing.reach(RIGHT))
        return np.array([x, y, z])

    def shut(self) -> Actions:
        """Sweep the door shut with the hand that is outside it."""
        if self.sweeps and self.fixture.door() > AJAR:
            yield from self.push_in()
        yield from sweep_door(self, self.outside, LEVERS[self.sweeps % len(LEVERS)])
        self.sweeps += 1
