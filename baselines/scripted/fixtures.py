"""Moving the parts of fixtures: drawers pulled by the handle or pushed shut, doors swung shut, knobs turned.

Positions and lengths are metres, angles radians, all in the world frame.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .motion import CLOSED, OPEN, Actions, Hand, facing, turned
from .world import VERTICAL, Box, Joint, Pose, World

# How far the hand points down while it pulls a handle or pushes a front: flat enough to take a bar between
# fingers above and below it; steep enough to pass under the handles above and over the table.
PULL_TILT, PUSH_TILT = np.radians(10), np.radians(40)
# In front of a handle, and above a door or knob, from where the hand goes straight to it.
STAND_OFF = 0.09
# How far the target of a push or pull leads, so that the controller keeps pressing.
LEAD = 0.04
# How far the hand backs off from a handle, and how far up it goes from a handle, door or knob, afterwards.
BACK_OFF, RISE = 0.07, 0.11
# Where the hand starts to push: this far in front of the middle of a handle, or of a door's outer face.
HANDLE_GAP, DOOR_GAP = 0.02, 0.03
# Half length of the hand along the closing direction, and the free height kept under it on its way.
HAND_HALF_LENGTH, TRAVEL_CLEARANCE = 0.104, 0.03
# Length of the fingers below the palm (0.040), less a little: so deep they reach behind a door's upper edge.
FINGER_LENGTH = 0.024
# Where a door is pushed, as a part of its width from the hinge: short of the handle, far enough for leverage.
DOOR_PLACE = 0.7
DOOR_STEPS = 140
# A knob's ridge is held this far below its top, and turned in steps of KNOB_TURN up to KNOB_TURNS of them.
KNOB_DEPTH, KNOB_TURN, KNOB_TURNS = 0.018, 0.35, 4


def opening(joint: Joint) -> float:
    """Sign of the joint's motion that opens it: towards the end of its range that is farther from zero."""
    return -1.0 if abs(joint.low) > abs(joint.high) else 1.0


def openness(joint: Joint) -> float:
    """How far a drawer or door is open, as a part of its range."""
    return opening(joint) * joint.value / travel(joint)


def travel(joint: Joint) -> float:
    """Way from shut to fully open, metres or radians."""
    return max(abs(joint.low), abs(joint.high))


class FixtureMotions:
    """Scripts that move a fixture's joint until a condition holds."""

    def __init__(self, world: World, hand: Hand) -> None:
        self.world = world
        self.hand = hand

    def open_drawer(self, joint: Joint, done: Callable[[], bool]) -> Actions:
        """Take a drawer's handle and pull until `done()`."""
        outward = opening(joint) * joint.axis
        handle = self.handle(joint, outward)
        approach = -outward * np.cos(PULL_TILT) - VERTICAL * np.sin(PULL_TILT)
        pose = Pose(handle.center, self.nearest_rotation(approach, VERTICAL))
        yield from self.approach(pose, outward, OPEN)
        yield from self.hand.close()
        way = (1 - openness(self.world.joint(joint.name))) * travel(joint) + LEAD
        yield from self.hand.move(pose.at(handle.center + outward * way), CLOSED, steps=60, until=done)
        yield from self.hand.release()
        yield from self.leave(outward * BACK_OFF, OPEN)
        yield from self.leave(VERTICAL * RISE, OPEN)

    def shut_drawer(self, joint: Joint, done: Callable[[], bool]) -> Actions:
        """Push a drawer's handle with closed fingers until `done()`."""
        outward = opening(joint) * joint.axis
        approach = -outward * np.cos(PUSH_TILT) - VERTICAL * np.sin(PUSH_TILT)
        start = self.handle(joint, outward).center + outward * HANDLE_GAP
        pose = Pose(start, self.nearest_rotation(approach, np.cross(outward, VERTICAL)))
        yield from self.approach(pose, outward, CLOSED)
        way = abs(joint.value) + LEAD
        yield from self.hand.move(pose.at(start - outward * way), CLOSED, steps=60, gain=4.0, until=done)
        yield from self.leave(outward * BACK_OFF, CLOSED)

    def shut_door(self, joint: Joint, done: Callable[[], bool]) -> Actions:
        """Swing a door shut, fingers down, pushing its outer face along its arc until `done()`."""
        rotation = self.hand.level
        yield from self.approach(Pose(self.door_contact(joint, DOOR_GAP), rotation), VERTICAL, CLOSED)
        for _ in range(DOOR_STEPS):
            if done():
                break
            ahead = self.door_contact(self.world.joint(joint.name), -LEAD)
            yield self.hand.action(Pose(ahead, rotation), CLOSED)
        yield from self.leave(VERTICAL * RISE, CLOSED)

    def turn_knob(self, joint: Joint, done: Callable[[], bool]) -> Actions:
        """Take a knob from above across its ridge and turn it until `done()`."""
        ridge = max(self.world.boxes_of_bodies({joint.body}), key=Box.top)
        position = np.array([*joint.anchor[:2], ridge.top() - KNOB_DEPTH])
        pose = Pose(position, self.nearest_rotation(-VERTICAL, ridge.narrow_side()))
        yield from self.approach(pose, VERTICAL, OPEN)
        yield from self.hand.close()
        for turns in range(1, KNOB_TURNS + 1):
            rotation = turned(pose.rotation, joint.axis, opening(joint) * KNOB_TURN * turns)
            yield from self.hand.move(
                Pose(position, rotation), CLOSED, angle_within=0.1, steps=20, until=done
            )
        yield from self.hand.release()
        yield from self.leave(VERTICAL * RISE, OPEN)

    # -- ways there and back

    def approach(self, pose: Pose, back: np.ndarray, grip: float) -> Actions:
        """Go above the stand-off point of a pose, down to it, and in to the pose along -`back`."""
        stand_off = pose.position + back * STAND_OFF
        now = self.world.grip().position
        hanging = HAND_HALF_LENGTH * abs(float(pose.rotation[2, 0])) + TRAVEL_CLEARANCE
        clear = self.world.highest_point(now, stand_off, 0.08, ()) + hanging
        if clear > min(now[2], stand_off[2]):
            high = max(now[2], stand_off[2], clear)
            rise, over = pose.at([*now[:2], high]), pose.at([*stand_off[:2], high])
            yield from self.hand.move(rise, grip, within=0.04, angle_within=1.0, steps=25)
            yield from self.hand.move(over, grip, within=0.03, angle_within=0.4)
        yield from self.hand.move(pose.at(stand_off), grip, within=0.012, angle_within=0.08)
        yield from self.hand.move(pose, grip, within=0.004, angle_within=0.06, steps=40, gain=2.0)

    def leave(self, way: np.ndarray, grip: float) -> Actions:
        """Move the hand as it is by `way` (3,)."""
        now = self.world.grip()
        yield from self.hand.move(now.at(now.position + way), grip, within=0.03, steps=20)

    def nearest_rotation(self, approach: np.ndarray, closing: np.ndarray) -> np.ndarray:
        """Rotation facing `approach`, closing along plus or minus `closing`: the smaller turn from level."""
        options = [facing(approach, closing), facing(approach, -closing)]
        return max(options, key=lambda rotation: float(np.trace(rotation.T @ self.hand.level)))

    # -- where to take hold

    def handle(self, joint: Joint, outward: np.ndarray) -> Box:
        """The part of a drawer that sticks out farthest along `outward`."""
        return max(self.world.boxes_of_bodies({joint.body}), key=lambda box: box.extent(outward))

    def opened_patch(self, joint: Joint) -> np.ndarray:
        """Patch of the table over which a drawer comes when pulled out: lowest and highest (x, y), (2, 2)."""
        boxes = self.world.boxes_of_bodies({joint.body})
        cloud = np.concatenate([box.points(0.02) for box in boxes])[:, :2]
        outward = opening(joint) * joint.axis[:2]
        opened = cloud + outward * (1 - openness(joint)) * travel(joint)
        front = opened[opened @ outward > (cloud @ outward).max() - 0.02]
        return np.stack([front.min(axis=0), front.max(axis=0)])

    def door_contact(self, joint: Joint, outside: float) -> np.ndarray:
        """Point (3,) where fingers push a door: `outside` metres off its outer face, under its upper edge."""
        cloud = np.concatenate([box.points(0.02) for box in self.world.boxes_of_bodies({joint.body})])
        arms = (cloud - joint.anchor) * [1, 1, 0]
        along = self.panel_direction(joint)
        swing = np.cross(-opening(joint) * joint.axis, along)
        place = DOOR_PLACE * float((arms @ along).max())
        near = np.abs(arms @ along - place) < 0.03
        face = float((arms[near] @ swing).min())
        point = joint.anchor + along * place + swing * (face - outside)
        return np.array([*point[:2], cloud[:, 2].max() - FINGER_LENGTH])

    def panel_direction(self, joint: Joint) -> np.ndarray:
        """Horizontal unit vector from a door's hinge along its largest box."""
        panel = max(self.world.boxes_of_bodies({joint.body}), key=lambda box: float(np.prod(box.half)))
        arm = (panel.center - joint.anchor) * [1, 1, 0]
        axis = max(panel.rotation.T * [1, 1, 0], key=lambda direction: abs(float(direction @ arm)))
        return axis / np.linalg.norm(axis) * np.sign(axis @ arm)
