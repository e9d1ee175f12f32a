"""Sweep a hinged door shut with a fist that follows its outer face."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from baselines.scripted.geometry import subtree

from .arm import Actions, Pose
from .take import FIST, turned_hand

if TYPE_CHECKING:
    from .take import Stow

# Where the fist's middle is in the wrist's frame.
FIST_MIDDLE = np.array([0.0, -0.09, 0.018])
# Distance of the fist's middle from the door's face while it comes beside it, and while it presses.
APART, PRESS = 0.10, 0.03
# Angles: how far beyond the shut position it presses, and how far it goes in a control step.
BEYOND, PER_STEP = 0.3, 0.03


def sweep_door(script: Stow, side: str, lever: float) -> Actions:
    """Bring a fist beside the outer face of the door and around its hinge until it is shut, then away.

    lever: the part of the door's width, from the hinge, at which it presses.
    """
    door = Door(script, side, lever)
    body = script.body
    body.hand[side] = FIST
    start = door.angle()
    yield from body.move(side, door.fist(start, APART).moved(z=0.12))
    yield from body.move(side, door.fist(start, APART))
    for angle in np.arange(start, -BEYOND, -PER_STEP):
        if script.fixture.door() < 0.001:
            break
        yield from body.move(side, door.fist(angle, PRESS), steps=1)
    yield from script.keep_pressing()
    yield from body.move(side, door.fist(0.0, APART))
    yield from script.tuck(side)


class Door:
    """A door on a vertical hinge that opens towards the robot; angles are radians, 0 shut, positive open."""

    def __init__(self, script: Stow, side: str, lever: float) -> None:
        self.fixture, self.side, self.lever = script.fixture, side, lever
        self.hinge = self.fixture.anchor()
        boxes = script.world.boxes_of_bodies(subtree(script.world.model, self.fixture.door_body))
        along = self.along(self.angle())
        self.width = max(float((box.center - self.hinge) @ along) + box.reach(along) for box in boxes)
        out = self.out(self.angle())
        self.thickness = max(float((box.center - self.hinge) @ out) + box.reach(out) for box in boxes)
        self.height = script.fixture.interior().center[2]

    def angle(self) -> float:
        """How far it is open now."""
        return abs(self.fixture.value())

    @property
    def sign(self) -> float:
        """1 where the hinge is on the left, -1 where it is on the right."""
        return 1.0 if self.side == "left" else -1.0

    def along(self, angle: float) -> np.ndarray:
        """Unit vector from the hinge to the free edge."""
        return np.array([self.sign * np.cos(angle), -np.sin(angle), 0.0])

    def out(self, angle: float) -> np.ndarray:
        """Unit vector out of the outer face."""
        return np.array([-self.sign * np.sin(angle), -np.cos(angle), 0.0])

    def fist(self, angle: float, apart: float) -> Pose:
        """Wrist pose with the fist's middle `apart` from the outer face."""
        rotation = turned_hand(self.side, 0.5 * angle, 0.0, 0.0)
        face = self.hinge + self.lever * self.width * self.along(angle) + self.thickness * self.out(angle)
        middle = np.array([*(face + apart * self.out(angle))[:2], self.height])
        return Pose(middle - rotation @ FIST_MIDDLE, rotation)
