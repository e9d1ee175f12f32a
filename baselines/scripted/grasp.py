"""Where to take hold of an object: try many poses of the open hand, keep those that fit, choose the cheapest.

All is computed in a frame in which the hand points straight down; a tilted approach rotates the points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .motion import facing, turned
from .world import VERTICAL, Pose, World

# Panda hand from its collision meshes, in the grip site's frame (u closing, v across, w pointing), metres.
PAD_HALF_WIDTH, PAD_BACK, PAD_FRONT = 0.008, 0.0116, 0.0044
FINGER_INNER, FINGER_TIP_OUTER, FINGER_OUTER = 0.0386, 0.0535, 0.0655
FINGER_HALF_WIDTH, FINGER_END, FINGER_TIP_LENGTH = 0.0105, 0.0095, 0.018
PALM_BEHIND, PALM_HALF_LENGTH, PALM_HALF_WIDTH = 0.031, 0.104, 0.032
HAND_LENGTH = 0.20
# What is kept free around the hand on its way in, and between the finger tips and what the object stands on.
MARGIN, FLOOR_MARGIN = 0.003, 0.004
# Widest thing that is taken between the pads: they open to 2 x FINGER_INNER.
WIDEST = 0.072
# A finger needs this much room beside a wall to be put there.
FINGER_ROOM = 0.022
# How far the grip site goes below the object's top.
DEPTHS = (0.029, 0.021, 0.013)
# The hand has no front, so half a turn of yaw is enough; joint 7 has more room to the left than to the right.
YAW_LOW = -1.2
YAWS = np.linspace(0, np.pi, 24, endpoint=False)
OFFSETS = np.arange(-0.06, 0.0601, 0.01)
# Spacing of the points that stand for shapes, and how far away other things matter.
OBJECT_SPACING, NEIGHBOUR_SPACING, NEIGHBOURHOOD = 0.006, 0.009, 0.20
# Costs (weights tuned on the asset pack): of a metre between the pads, of a metre that a held face is out of
# the pads' planes, of a metre off the object's middle along the closing direction, of a metre of leverage of
# its weight about that direction, of a metre less deep; of a radian of turning, of something in the hand's
# way (a point of it), of a failed grasp close by, of closing vertically.
WIDTH_COST, SLANT_COST, OFFSET_COST, LEVER_COST, DEPTH_COST = 0.3, 1.5, 0.25, 0.6, 0.5
TURN_COST, CONFLICT_COST, AGAIN_COST, TILTED_COST = 0.01, 0.01, 0.15, 0.5


@dataclass(frozen=True)
class Grasp:
    """How to hold an object: the grip site's pose and two clearances in metres."""

    pose: Pose
    object_top: float
    below_grip: float


@dataclass(frozen=True)
class Candidate:
    """A pose of the open hand in the frame that points down: closing angle, position (3,), and its cost."""

    angle: float
    position: np.ndarray
    cost: float


def plan_grasp(
    world: World,
    name: str,
    level: np.ndarray,
    shift: np.ndarray,
    approach: np.ndarray = -VERTICAL,
    failed: Sequence[Pose] = (),
) -> Grasp | None:
    """The cheapest grasp of an object along `approach`, or None where no pose of the hand closes on it.

    `level` is the downward rotation (3, 3) that costs nothing; `shift` (3,) is by how much the object will be
    carried, so that the hand fits there as well; poses close to `failed` ones are put last.
    """
    frame = frame_of(approach)
    cloud = world.points(name, OBJECT_SPACING)
    here, there = neighbourhood(world, name, cloud), neighbourhood(world, name, cloud + shift) - shift
    around = np.concatenate([here, there])
    neutral = np.arctan2(level[1, 0], level[0, 0])
    best: tuple[float, Pose] | None = None
    for candidate in candidates(cloud @ frame, around @ frame, frame.T @ VERTICAL):
        yaw = (candidate.angle - neutral - YAW_LOW) % np.pi + YAW_LOW
        rotation = turned(facing(approach, frame @ level[:, 0]), approach, -yaw)
        pose = Pose(frame @ candidate.position, rotation)
        again = any(similar(pose, other) for other in failed)
        cost = candidate.cost + TURN_COST * abs(yaw) + TILTED_COST * abs(rotation[2, 0]) + AGAIN_COST * again
        if best is None or cost < best[0]:
            best = cost, pose
    if best is None:
        return None
    return Grasp(best[1], float(cloud[:, 2].max()), float(best[1].position[2] - cloud[:, 2].min()))


def frame_of(approach: np.ndarray) -> np.ndarray:
    """Rotation (3, 3), its columns the world axes of the frame in which `approach` is straight down."""
    up = -approach / np.linalg.norm(approach)
    axis = np.cross(VERTICAL, up)
    if np.linalg.norm(axis) < 1e-9:
        return np.eye(3)
    return turned(np.eye(3), axis, float(np.arccos(np.clip(VERTICAL @ up, -1, 1))))


def similar(pose: Pose, other: Pose) -> bool:
    """Whether two grasps are nearly the same: within 2 cm and 20 degrees of closing direction."""
    near = np.linalg.norm(pose.position - other.position) < 0.02
    return bool(near and abs(pose.rotation[:, 0] @ other.rotation[:, 0]) > np.cos(np.radians(20)))


def plane_axes(angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal unit vectors (2,): the closing direction at this angle, and the one across it."""
    closing = np.array([np.cos(angle), np.sin(angle)])
    return closing, np.array([-closing[1], closing[0]])


def neighbourhood(world: World, name: str, cloud: np.ndarray) -> np.ndarray:
    """Points (n, 3) near an object of everything else, and of the plane that it stands on."""
    low, high = cloud.min(axis=0) - NEIGHBOURHOOD, cloud.max(axis=0) + NEIGHBOURHOOD
    others = world.other_points([name], NEIGHBOUR_SPACING)
    near = others[np.all((others > low) & (others < high), axis=1)]
    xs, ys = (np.arange(low[k], high[k], NEIGHBOUR_SPACING) for k in (0, 1))
    plane = np.stack(np.meshgrid(xs, ys, [cloud[:, 2].min() - 0.001]), axis=-1).reshape(-1, 3)
    return np.concatenate([near, plane])


def candidates(cloud: np.ndarray, around: np.ndarray, up: np.ndarray) -> Iterator[Candidate]:
    """Poses of the open hand, pointing down, between whose pads something of the object lies.

    `up` (3,) is the world's vertical, against which the held object's weight turns it between the pads.
    """
    weight_center = cloud.mean(axis=0)
    top, bottom = cloud[:, 2].max(), cloud[:, 2].min()
    middle = (cloud.max(axis=0) + cloud.min(axis=0))[:2] / 2
    heights = sorted({round(max(top - depth, bottom + FINGER_END + FLOOR_MARGIN), 4) for depth in DEPTHS})
    for angle in YAWS:
        closing, across = plane_axes(angle)
        object_plane = (cloud[:, :2] - middle) @ np.stack([closing, across], axis=1)
        around_plane = (around[:, :2] - middle) @ np.stack([closing, across], axis=1)
        for height in heights:
            object_grip = np.column_stack([object_plane, height - cloud[:, 2]])
            around_grip = np.column_stack([around_plane, height - around[:, 2]])
            for u, v, closing_cost in closings(object_grip):
                shift = np.array([u, v, 0.0])
                conflicts = hand_conflicts(object_grip - shift) + hand_conflicts(around_grip - shift)
                position = np.append(middle + closing * u + across * v, height)
                lever = np.cross(weight_center - position, up) @ np.append(closing, 0.0)
                cost = (
                    closing_cost
                    + OFFSET_COST * abs(u)
                    + LEVER_COST * abs(lever)
                    + DEPTH_COST * (height - heights[0])
                    + CONFLICT_COST * min(conflicts, 50)
                )
                yield Candidate(angle, position, float(cost))


def closings(points: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """Where pads would close on points (n, 3) in the grip frame: u and v to shift the hand by, and a cost."""
    between = points[(points[:, 2] > -PAD_BACK) & (points[:, 2] < PAD_FRONT)]
    for v in OFFSETS:
        slab = between[np.abs(between[:, 1] - v) < PAD_HALF_WIDTH]
        slab = slab[np.argsort(slab[:, 0], kind="stable")]
        for part in np.split(slab, np.flatnonzero(np.diff(slab[:, 0]) > FINGER_ROOM) + 1):
            if len(part) == 0 or part[-1, 0] - part[0, 0] > WIDEST:
                continue
            width, middle = part[-1, 0] - part[0, 0], (part[-1, 0] + part[0, 0]) / 2
            yield float(middle), float(v), float(WIDTH_COST * width + SLANT_COST * slant(part, v))


def slant(part: np.ndarray, v: float) -> float:
    """How far the two faces between the pads are turned out of the pads' planes, metres over a pad."""
    left, right = part[part[:, 1] < v, 0], part[part[:, 1] >= v, 0]
    if len(left) == 0 or len(right) == 0:
        return PAD_HALF_WIDTH
    return abs(float(left.min() - right.min())) + abs(float(left.max() - right.max()))


def hand_conflicts(points: np.ndarray) -> int:
    """How many points (n, 3), in the grip frame, the open hand would hit on its way in."""
    u, v, w = np.abs(points[:, 0]), np.abs(points[:, 1]), points[:, 2]
    tip = (u > FINGER_INNER - MARGIN) & (u < FINGER_TIP_OUTER + MARGIN) & (w < FINGER_END)
    finger = (u > FINGER_INNER - MARGIN) & (u < FINGER_OUTER + MARGIN) & (w < FINGER_END - FINGER_TIP_LENGTH)
    near = w > -HAND_LENGTH
    fingers = (tip | finger) & (v < FINGER_HALF_WIDTH + MARGIN)
    palm = (u < PALM_HALF_LENGTH + MARGIN) & (v < PALM_HALF_WIDTH + MARGIN) & (w < -PALM_BEHIND)
    return int(((fingers | palm) & near).sum())
