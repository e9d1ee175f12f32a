"""Drop the object into the open drawer from above, then push the drawer shut with a fist."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from baselines.scripted.geometry import subtree

from .arm import Actions, Pose
from .take import AHEAD, FIST, KNUCKLES, Hold, Stow, turned_hand
from .world import Box

# From above, fingertips in front of the object and the thumb behind it.
FROM_ABOVE = Hold(yaw=0.4, tilt=0.6, roll=0.0, middle=(-0.005, -0.112, 0.078), below_top=0.042)
# Beside the object, palm inwards.
BESIDE = Hold(
    yaw=0.5, tilt=0.5, roll=0.9, middle=(0.0, -0.1, 0.035), below_top=0.2, beside=True, lowest=0.062, squeeze=0.6
)
# By how much yaw and roll of the hand change from one try to the next.
SHIFTS = ((0.0, 0.0), (-0.4, 0.0), (-0.4, -0.4), (0.4, 0.3))
# How far the spread hand reaches below its wrist, and what is kept free above the drawer's front.
HAND_BELOW_WRIST, CLEARANCE = 0.135, 0.015
# How far off the drawer's middle the object is let go, on the hand's side, as a part of its half width.
OFF_CENTRE = 0.25
# The push: how far before the handle it starts, how far beyond the shut position it aims, how far above the middle.
BEFORE, BEYOND, ABOVE_HANDLE = 0.03, 0.06, 0.05


class StowInDrawer(Stow):
    """The script for drawers that open towards the robot."""

    def attempt(self) -> Actions:
        """Take the object, let it fall into the drawer, step back."""
        side = self.nearer_side()
        yield from self.take(side, self.next_hold())
        if self.lifted:
            yield from self.carry(side)
        yield from self.let_go(side)
        yield from self.body.move(side, self.body.target_pose(side).moved(z=0.12))
        yield from self.tuck(side)

    def next_hold(self) -> Hold:
        """How to take the object; a little different each time."""
        hold = BESIDE if self.world.obj.category == "cup" else FROM_ABOVE
        yaw, roll = SHIFTS[self.takes % len(SHIFTS)]
        self.takes += 1
        return replace(hold, yaw=hold.yaw + yaw, roll=hold.roll + roll)

    def carry(self, side: str) -> Actions:
        """Bring the held object over the drawer's front, then down as far as the hand stays above the drawer."""
        now, box = self.body.target_pose(side), self.world.box(self.world.obj)
        hanging = self.body.arms[side].pose().position[2] - box.bottom
        high = max(float(now.position[2]), self.rim() + hanging + CLEARANCE)
        low = max(self.carried(side, self.drop_point(side)).position[2], self.rim() + HAND_BELOW_WRIST + CLEARANCE)
        over = self.carried(side, self.drop_point(side))
        yield from self.body.move(side, now.at([*now.position[:2], high]))
        yield from self.body.move(side, over.at([*over.position[:2], high]))
        yield from self.body.move(side, over.at([*over.position[:2], low]))
        yield from self.body.hold(3)

    def door_boxes(self) -> list[Box]:
        """Boxes around the parts that move with the drawer."""
        return self.world.boxes_of_bodies(subtree(self.world.model, self.fixture.door_body))

    def rim(self) -> float:
        """Height of the drawer's front."""
        return max(box.top for box in self.door_boxes())

    def drop_point(self, side: str) -> np.ndarray:
        """Where the middle of the object is let go: over the open part, nearer to the hand's side."""
        box = self.fixture.interior()
        outwards = 1.0 if side == "right" else -1.0
        x = box.center[0] + outwards * OFF_CENTRE * box.half[0]
        y = (box.center[1] - box.half[1] + self.shut_front()) / 2
        return np.array([x, y, box.center[2] + self.world.box(self.world.obj).half[2]])

    def shut_front(self) -> float:
        """y of the near side of the goal box when shut, just behind the housing's front."""
        box = self.fixture.interior()
        return float(box.center[1] - box.half[1] - self.fixture.value())

    def shut(self) -> Actions:
        """Push the front with a fist, above its handle."""
        box = self.fixture.interior()
        side = "right" if box.center[0] > self.world.middle else "left"
        self.body.hand[side] = FIST
        front = min(float(part.center[1]) - part.reach(AHEAD) for part in self.door_boxes())
        start = np.array([box.center[0], front - BEFORE - KNUCKLES, box.center[2] + ABOVE_HANDLE])
        pose = Pose(start, turned_hand(side, 0.0, 0.0, 0.0))
        yield from self.body.move(side, pose.moved(z=0.1))
        yield from self.body.move(side, pose)
        beyond = self.shut_front() + BEYOND - KNUCKLES - start[1]
        yield from self.body.move(side, pose.moved(y=beyond), until=self.is_shut)
        yield from self.keep_pressing()
        yield from self.body.move(side, pose)
        yield from self.tuck(side)
