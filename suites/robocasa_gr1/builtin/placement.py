"""Where things may stand on the table, and one sampler that finds room for them.

Lengths in metres in the table frame: origin at the table's centre, x to the robot's right, y away from the robot.
Regions are upstream's (tabletop_24dc.py, tabletop_drawer_pnp.py, tabletop_microwave_pnp.py, tabletop_cabinet_pnp.py
and the samplers of placement_samplers.py, worked out to numbers). What differs from upstream:

* a bad sample is followed by the next one; upstream gives up after the first object that is off its source container
  or on top of a neighbour there, and draws a whole new scene;
* footprints may not overlap seen from above unless one thing stands on the other, whatever the heights are: upstream
  lets an object hang over a neighbour that is lower than the object's support;
* what is optional and finds no room is left out; upstream leaves it at the world's origin;
* "over the source container" is tested in the container's own frame; upstream mixes up two orders of quaternions there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: World position of the table frame's origin, at the height of the table top.
TABLE = np.array([2.65, -1.65, 0.92])

#: Gap under a thing when it is put down (upstream's z_offset).
GAP = 0.01

#: Tries for a thing that must be placed, and for one that may be left out (placement_samplers.py).
TRIES, OPTIONAL_TRIES = 5000, 100

#: Key points of an object's bounding box that must be over its source container, of 15 (placement_samplers.py).
POINTS_OVER_SUPPORT = 3

_QUARTER, _EIGHTH = np.pi / 2, np.pi / 4
_BATCH = 100


@dataclass(frozen=True)
class Region:
    """Ranges for a footprint's centre and yaw; with `whole`, the whole footprint must lie within x and y."""

    x: tuple[float, float]
    y: tuple[float, float]
    yaw: tuple[float, float] = (-_EIGHTH, _EIGHTH)
    whole: bool = False


#: Pick-and-place tasks: target container, source container, other containers, things at the back edge.
TARGET = Region((-0.083, 0.518), (-0.138, 0.062), (-_QUARTER, _QUARTER))
SOURCE = Region((-0.146, 0.554), (-0.335, -0.035), (-_QUARTER, _QUARTER), whole=True)
OTHERS = Region((-0.55, 0.55), (-0.303, 0.147))
BACK_EDGE = Region((-0.50, 0.50), (0.225, 0.325), (_QUARTER, _QUARTER))

#: Half width of the square around its source's centre in which an object's centre lies.
ON_SOURCE = 0.05

#: Close tasks: the object (left hand for drawer and cabinet, right hand for the microwave), clutter behind it, and the
#: fixture's own place.
OBJECT = {
    "drawer": Region((-0.345, -0.145), (-0.279, -0.079), whole=True),
    "cabinet": Region((-0.345, -0.145), (-0.304, -0.104), whole=True),
    "microwave": Region((0.145, 0.345), (-0.304, -0.104), whole=True),
}
CLUTTER = Region((-0.59, 0.59), (-0.045, 0.355), whole=True)
FIXTURE = {"drawer": (0.244, 0.150), "cabinet": (0.0, 0.01875), "microwave": (0.183, 0.075)}

#: The paper towel holder of the close tasks stands at the left edge.
LEFT_EDGE, PAPER_TOWEL_Y = -0.61, (-0.375, 0.225)


class PlacementError(RuntimeError):
    """A reset found no scene in which everything required has room."""


class NoRoom(Exception):
    """This draw makes no scene, for the reason in the message; another draw may."""


@dataclass(frozen=True)
class Footprint:
    """A box seen from above: centre, yaw, half extents along its own x and y. Fields may be arrays of one shape."""

    x: float | np.ndarray
    y: float | np.ndarray
    yaw: float | np.ndarray
    half: tuple[float, float]

    def extent(self, yaw: float) -> tuple[np.ndarray, np.ndarray]:
        """Half extents along the axes of a frame that is turned by `yaw`."""
        cosine, sine = np.abs(np.cos(self.yaw - yaw)), np.abs(np.sin(self.yaw - yaw))
        return self.half[0] * cosine + self.half[1] * sine, self.half[0] * sine + self.half[1] * cosine


def overlap(one: Footprint, other: Footprint) -> np.ndarray:
    """Whether two footprints touch or overlap, by separating axes; broadcasts over arrays of footprints."""
    return ~(_separated(one, other) | _separated(other, one))


def _separated(frame: Footprint, other: Footprint) -> np.ndarray:
    """Whether an axis of `frame` lies between both."""
    along, across = _relative(frame, other.x, other.y)
    width, depth = other.extent(frame.yaw)
    return (np.abs(along) > frame.half[0] + width) | (np.abs(across) > frame.half[1] + depth)


def _relative(frame: Footprint, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World point or points in the frame of a footprint."""
    dx, dy, cosine, sine = x - frame.x, y - frame.y, np.cos(frame.yaw), np.sin(frame.yaw)
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def key_points(half: tuple[float, float], bottom: float, top: float) -> np.ndarray:
    """The 15 points (15, 3) by which upstream judges whether a box is in a region, in the box's body frame.

    Eight corners, six face centres and the centre, all pulled towards the centre by a factor of 0.8
    (object_utils.py, obj_in_region_with_keypoints).
    """
    corners = np.stack(np.meshgrid((-1, 1), (-1, 1), (-1, 1), indexing="ij"), axis=-1).reshape(-1, 3)
    faces = np.concatenate([np.eye(3), -np.eye(3)])
    units = np.concatenate([corners, faces, np.zeros((1, 3))])
    size = np.array([half[0], half[1], (top - bottom) / 2])
    return units * size * 0.8 + (0.0, 0.0, (top + bottom) / 2)


class Sampler:
    """Finds room on the table for one thing after another. `placed` maps names to the footprints so far."""

    def __init__(self, rng: np.random.Generator):
        self._rng = rng
        self.placed: dict[str, Footprint] = {}

    def fix(self, name: str, footprint: Footprint) -> None:
        """Record something whose place is not drawn. Raises NoRoom where it overlaps another thing."""
        if any(overlap(footprint, other) for other in self.placed.values()):
            raise NoRoom(f"no room for {name}")
        self.placed[name] = footprint

    def place(self, name: str, half: tuple[float, float], region: Region, optional: bool = False) -> bool:
        """Put `name` into `region`. Returns False where something optional has no room; otherwise raises NoRoom."""
        low, high = np.array([region.x, region.y, region.yaw]).T
        return self._find(name, half, low, high, optional, lambda tries: _within(tries, region))

    def place_on(self, name: str, half: tuple[float, float], support: str) -> bool:
        """Put `name` onto the thing called `support`, near its centre. Raises NoRoom."""
        base = self.placed[support]
        centre, reach = np.array([base.x, base.y, 0.0]), np.array([ON_SOURCE, ON_SOURCE, _EIGHTH])
        return self._find(name, half, centre - reach, centre + reach, False, lambda tries: _over(tries, base), support)

    def _find(self, name, half, low, high, optional, accepts, support="") -> bool:
        """Try batches of places drawn between `low` and `high` (x, y, yaw) and keep the first that suits."""
        obstacles = [other for key, other in self.placed.items() if key != support]
        for _ in range(0, OPTIONAL_TRIES if optional else TRIES, _BATCH):
            x, y, yaw = self._rng.uniform(low, high, size=(_BATCH, 3)).T
            tries = Footprint(x, y, yaw, half)
            good = accepts(tries)
            for obstacle in obstacles:
                good &= ~overlap(tries, obstacle)
            if good.any():
                best = int(np.argmax(good))
                self.placed[name] = Footprint(float(x[best]), float(y[best]), float(yaw[best]), half)
                return True
        if optional:
            return False
        raise NoRoom(f"no room for {name}")


def _within(tries: Footprint, region: Region) -> np.ndarray:
    width, depth = tries.extent(0.0) if region.whole else (0.0, 0.0)
    inside_x = (tries.x - width >= region.x[0]) & (tries.x + width <= region.x[1])
    return inside_x & (tries.y - depth >= region.y[0]) & (tries.y + depth <= region.y[1])


def _over(tries: Footprint, support: Footprint) -> np.ndarray:
    """Whether enough key points of each footprint are over `support`."""
    points = key_points(tries.half, 0.0, 0.0)
    cosine, sine = np.cos(tries.yaw)[:, None], np.sin(tries.yaw)[:, None]
    x = tries.x[:, None] + points[:, 0] * cosine - points[:, 1] * sine
    y = tries.y[:, None] + points[:, 0] * sine + points[:, 1] * cosine
    along, across = _relative(support, x, y)
    inside = (np.abs(along) <= support.half[0]) & (np.abs(across) <= support.half[1])
    return inside.sum(axis=1) >= POINTS_OVER_SUPPORT
