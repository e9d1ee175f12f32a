"""A scripted policy for LIBERO that knows the truth: goal predicates in, OSC actions out.

`plan_actions(simulator)` takes upstream's `ControlEnv` after its reset and yields one action a control step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .fixtures import HAND_HALF_LENGTH, FixtureMotions, openness
from .grasp import Grasp, plan_grasp
from .motion import CLOSED, OPEN, Actions, Hand
from .world import VERTICAL, Joint, Pose, World

# Goals are worked on in this order: what must be open is opened before things are put in.
ORDER = {"open": 0, "turnon": 1, "on": 2, "in": 2, "close": 3}
GOAL_TRIES, GRASP_TRIES = 4, 4
# Control steps that things may fall before their goal is tried again.
SETTLE_STEPS = 10
# Openness from which a drawer takes things, and at which pulling ends.
OPEN_ENOUGH, FULLY_OPEN = 0.5, 0.97
# The hand lifts by LIFT to see whether the object comes along; held at its rim it tilts, so less will do.
LIFT, LIFTED = 0.06, 0.012
# Free height kept below a carried object, and above what it is put on, metres.
CARRY_CLEARANCE, RELEASE_CLEARANCE = 0.025, 0.010
# Objects are let go this far below the upper edge of a deep container: the hand stays out of it. In each
# further try they go deeper, which frees what hung on a finger.
DEEP = 0.06
# Two things on one region stand this part of its half size beside its middle.
SLOT = 0.6
# How far before a grasp the hand is lined up, beyond the object's top, metres.
READY = 0.04
# What is held has been dropped when it has moved by this much in the hand, metres.
DROPPED = 0.05
# An object is pushed in from INSERT_FROM metres before its place, which is INSERT_SHORT of the half depth
# before the middle: the hand stays outside.
INSERT_FROM, INSERT_SHORT = 0.20, 0.35
# How far the hand points down while it puts something into an opening from the side.
INSERT_TILT = np.radians(35)


def plan_actions(simulator: Any) -> Iterator[np.ndarray]:
    """Yield one (7,) float32 OSC action a control step, reading ground truth from the simulator as it goes.

    The caller executes each action before it asks for the next one. Ends when the script is done.
    """
    yield from Script(World(simulator)).run()


class Script:
    """Turns the task's goals into motions, one after the other."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hand = Hand(world)
        self.fixtures = FixtureMotions(world, self.hand)
        self.held = False
        self.tries = dict.fromkeys(world.goals, 0)

    def run(self) -> Actions:
        """Work on the first goal that does not hold, in order, until all do or each has had its tries."""
        goals = sorted(self.world.goals, key=lambda goal: ORDER.get(goal[0], 2))
        while missing := [goal for goal in goals if self.is_due(goal)]:
            self.tries[missing[0]] += 1
            yield from self.achieve(missing[0])
            yield from self.settle(missing[0])

    def is_due(self, goal: tuple[str, ...]) -> bool:
        """Whether a goal does not hold and has tries left."""
        return self.tries[goal] < GOAL_TRIES and not self.world.holds(goal)

    def settle(self, goal: tuple[str, ...]) -> Actions:
        """Wait a little for a goal to hold: what was let go may still be falling."""
        here = self.world.grip()
        for _ in range(SETTLE_STEPS):
            if self.world.holds(goal):
                return
            yield self.hand.action(here, OPEN)

    def achieve(self, goal: tuple[str, ...]) -> Actions:
        """Motions for one goal predicate."""
        kind, name = goal[0], goal[1]
        if kind in ("on", "in"):
            yield from self.make_accessible(goal[2])
            yield from self.pick_and_place(name, goal[2])
            return
        for joint in self.world.joints(name):
            if self.world.holds(goal):
                return
            yield from self.move_joint(joint, goal)

    def move_joint(self, joint: Joint, goal: tuple[str, ...]) -> Actions:
        """Motions for an open, close or turnon goal."""

        def done() -> bool:
            return self.world.holds(goal)

        if goal[0] == "turnon":
            yield from self.fixtures.turn_knob(joint, done)
        elif goal[0] == "open" and joint.is_slide:
            yield from self.fixtures.open_drawer(joint, done)
        elif goal[0] == "close" and joint.is_slide:
            yield from self.fixtures.shut_drawer(joint, done)
        elif goal[0] == "close":
            yield from self.fixtures.shut_door(joint, done)

    def make_accessible(self, target: str) -> Actions:
        """Pull out the drawer that a target region lies in."""
        if not self.world.is_region(target):
            return
        for joint in self.world.joints(target):
            if joint.is_slide and openness(joint) < OPEN_ENOUGH:
                yield from self.pull_out(joint)

    def pull_out(self, joint: Joint) -> Actions:
        """Open a drawer all the way, after clearing what it would come to hang over."""
        away = self.fixtures.opened_patch(joint)
        for name in self.world.objects_over(away):
            yield from self.set_aside(name, away)

        def done() -> bool:
            return openness(self.world.joint(joint.name)) > FULLY_OPEN

        yield from self.fixtures.open_drawer(joint, done)

    # -- pick and place

    def pick_and_place(self, name: str, target: str) -> Actions:
        """Take an object and put it on or into a target; try another grasp where it does not come along."""
        failed: list[Pose] = []
        for _ in range(GRASP_TRIES):
            entry = self.world.side_entry(target)
            tries = max((self.tries[goal] for goal in self.tries if goal[1:] == (name, target)), default=1)
            point, bottom = self.destination(name, target, tries * DEEP)
            if entry is not None:
                point, bottom = self.inside(target, entry)
            approach = -VERTICAL
            if entry is not None:
                approach = entry * np.cos(INSERT_TILT) - VERTICAL * np.sin(INSERT_TILT)
            grasp = self.grasp_for(name, point, bottom, approach, failed)
            if grasp is None:
                return
            yield from self.pick(grasp, name)
            if self.held:
                if entry is None:
                    yield from self.place(grasp, name, point, bottom)
                else:
                    yield from self.insert(grasp, name, point, bottom, entry)
            if self.held:
                return
            failed.append(grasp.pose)
            yield from self.hand.release()

    def grasp_for(
        self, name: str, point: np.ndarray, bottom: float, approach: np.ndarray, failed: list[Pose]
    ) -> Grasp | None:
        """A grasp that fits where the object is and where it goes."""
        low = self.world.points(name, 1.0)[:, 2].min()
        shift = np.append((point - self.world.position(name))[:2], bottom + RELEASE_CLEARANCE - low)
        return plan_grasp(self.world, name, self.hand.level, shift, approach, failed)

    def pick(self, grasp: Grasp, name: str) -> Actions:
        """Come along the approach, close the fingers, lift a little."""
        position, now = grasp.pose.position, self.world.grip().position
        back = -grasp.pose.rotation[:, 2]
        ready = position + back * (max(grasp.object_top - position[2], 0.0) + READY)
        hanging = HAND_HALF_LENGTH * abs(grasp.pose.rotation[2, 0]) + 0.10 * (1 + grasp.pose.rotation[2, 2])
        clear = self.world.highest_point(now, ready, 0.06, ()) + 0.025 + hanging
        if now[2] < clear:
            rise = grasp.pose.at([*now[:2], clear])
            yield from self.hand.move(rise, OPEN, within=0.03, angle_within=1.0, steps=25)
        if ready[2] < clear:
            yield from self.hand.move(grasp.pose.at([*ready[:2], clear]), OPEN, within=0.03, angle_within=0.3)
        yield from self.hand.move(grasp.pose.at(ready), OPEN, within=0.012, angle_within=0.08)
        yield from self.hand.move(grasp.pose, OPEN, within=0.004, angle_within=0.06, steps=40, gain=2.0)
        yield from self.hand.close()
        before = self.world.position(name)[2]
        lifted = position + VERTICAL * LIFT
        yield from self.hand.move(grasp.pose.at(lifted), CLOSED, within=0.012, steps=25)
        self.held = self.world.position(name)[2] - before > LIFTED

    def hang(self, name: str) -> float:
        """How far a held object reaches below the grip site at this moment, metres."""
        return float(self.world.grip().position[2] - self.world.points(name, 1.0)[:, 2].min())

    def carry(self, grasp: Grasp, name: str, point: np.ndarray) -> Actions:
        """Bring the held object over a point, high enough for all that lies in between."""
        now, origin = self.world.grip().position, self.world.position(name)
        aside = np.linalg.norm(self.world.points(name, 1.0)[:, :2] - origin[:2], axis=1).max()
        highest = self.world.highest_point(origin, point, float(aside) + 0.01, (name,))
        height = max(now[2], highest + self.hang(name) + CARRY_CLEARANCE)
        if height > now[2] + 0.01:
            yield from self.hand.move(grasp.pose.at([*now[:2], height]), CLOSED, within=0.02, steps=40)
        offset = self.world.grip().position - self.world.position(name)
        over = np.array([*(point + offset)[:2], height])
        yield from self.hand.move(grasp.pose.at(over), CLOSED, within=0.012, steps=110)
        moved = self.world.grip().position - self.world.position(name) - offset
        self.held = bool(np.linalg.norm(moved) < DROPPED)

    def place(self, grasp: Grasp, name: str, point: np.ndarray, bottom: float) -> Actions:
        """Carry the held object over a point, lower its lowest point to a height, let go, withdraw."""
        yield from self.carry(grasp, name, point)
        if not self.held:
            return
        offset = self.world.grip().position - self.world.position(name)
        release = np.array([*(point + offset)[:2], bottom + RELEASE_CLEARANCE + self.hang(name)])
        yield from self.hand.move(grasp.pose.at(release), CLOSED, within=0.008, steps=50, gain=1.5)
        yield from self.hand.release()
        yield from self.hand.move(grasp.pose.at(release + VERTICAL * 0.10), OPEN, within=0.03, steps=25)

    def insert(self, grasp: Grasp, name: str, point: np.ndarray, bottom: float, entry: np.ndarray) -> Actions:
        """Bring the held object in front of an opening, push it in along `entry`, let go, withdraw."""
        before = point - entry * INSERT_FROM
        yield from self.carry(grasp, name, before)
        if not self.held:
            return
        offset = self.world.grip().position - self.world.position(name)
        height = bottom + RELEASE_CLEARANCE + self.hang(name)
        for goal, slack in ((before, 0.02), (point, 0.008)):
            pose = grasp.pose.at([*(goal + offset)[:2], height])
            yield from self.hand.move(pose, CLOSED, within=slack, steps=70, gain=2.0)
        yield from self.hand.release()
        yield from self.hand.move(pose.at(pose.position - entry * 0.18), OPEN, within=0.03, steps=30)

    def set_aside(self, name: str, away: np.ndarray) -> Actions:
        """Move an object on the table away from a patch (2, 2) of lowest and highest (x, y)."""
        spot = self.world.free_spot(name, away)
        cloud = self.world.points(name, 1.0)
        if spot is None:
            return
        grasp = self.grasp_for(name, spot, cloud[:, 2].min(), -VERTICAL, [])
        if grasp is not None:
            yield from self.pick(grasp, name)
            if self.held:
                yield from self.place(grasp, name, spot, float(cloud[:, 2].min()))

    # -- where things go

    def inside(self, target: str, entry: np.ndarray) -> tuple[np.ndarray, float]:
        """The point for an object's origin, and the floor's height, in a region entered from the side."""
        box = self.world.region(target)
        depth = float(np.abs(box.rotation.T @ entry) @ box.half)
        middle = box.center + self.world.sideways_middle(target, entry)
        return middle - entry * INSERT_SHORT * depth, self.world.floor(target)

    def destination(self, name: str, target: str, depth: float) -> tuple[np.ndarray, float]:
        """The point (3,) over which an object's origin goes, and the height its lowest point goes down to.

        In a container that is the floor, or `depth` metres below the upper edge if that is higher.
        """
        owner = self.world.region_owner(target)
        if not self.world.is_region(target):
            point = self.world.position(target)
            surface = self.world.surface(target, *point[:2])
            return point, surface if np.isfinite(surface) else float(point[2])
        box = self.world.region(target)
        top = float(box.center[2] + np.abs(box.rotation[2]) @ box.half)
        if owner is None:
            return box.center, top
        drawer = bool(self.world.joints(target))
        point = self.world.uncovered_middle(target) if drawer else box.center + self.slot(name, target)
        surface = self.world.surface(owner, *point[:2])
        surface = surface if np.isfinite(surface) else top
        deep = drawer or target.endswith("contain_region")
        return point, max(surface, top - depth if deep else top)

    def slot(self, name: str, target: str) -> np.ndarray:
        """Shift (3,) from a region's middle that leaves room for the others that go onto the same region."""
        sharing = [goal[1] for goal in self.world.goals if goal[0] == "on" and goal[2] == target]
        if len(sharing) < 2:
            return np.zeros(3)
        box = self.world.region(target)
        cloud = self.world.points(name, 1.0)
        spans = cloud.max(axis=0) - cloud.min(axis=0)
        axis = int(np.argmin(spans[:2]))
        half = float(np.abs(box.rotation[axis]) @ box.half)
        place = 2 * sharing.index(name) / (len(sharing) - 1) - 1
        return np.eye(3)[axis] * half * SLOT * place
