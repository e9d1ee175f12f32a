"""Geometry of the stand-ins: primitive geoms, small revolved meshes, and builders that combine them.

Lengths are metres, quaternions (w, x, y, z). Builders work with z up; `Shape.y_up` turns the result for
objects whose own frame has y up. A builder returns a Shape: what collides (`solid`) and what a camera sees
(`drawn`) are separate lists, because collisions want few boxes and pictures want round surfaces.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

Vec = tuple[float, ...]
IDENTITY: Vec = (1.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Mesh:
    """A closed triangle mesh: vertices (N, 3), and faces (M, 3) counter-clockwise seen from outside."""

    vertices: tuple[Vec, ...]
    faces: tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True)
class Geom:
    """One MuJoCo geom. `size` holds half sizes as MuJoCo wants them for `kind`; it is empty for a mesh."""

    kind: str
    pos: Vec
    size: Vec
    quat: Vec = IDENTITY
    look: str = "white"
    mesh: Mesh | None = None

    def moved(self, offset: Vec, quat: Vec = IDENTITY) -> "Geom":
        """The same geom after a rotation about the origin, then a shift."""
        pos = rotation(quat) @ np.array(self.pos) + np.array(offset)
        return dataclasses.replace(self, pos=tuple(pos), quat=multiply(quat, self.quat))


@dataclasses.dataclass(frozen=True)
class Shape:
    """Geoms that collide and geoms that are drawn; `+` puts two shapes together."""

    solid: tuple[Geom, ...] = ()
    drawn: tuple[Geom, ...] = ()

    def __add__(self, other: "Shape") -> "Shape":
        return Shape(self.solid + other.solid, self.drawn + other.drawn)

    def moved(self, offset: Vec, quat: Vec = IDENTITY) -> "Shape":
        """The same shape after a rotation about the origin, then a shift."""
        return Shape(
            tuple(g.moved(offset, quat) for g in self.solid),
            tuple(g.moved(offset, quat) for g in self.drawn),
        )

    def y_up(self) -> "Shape":
        """Turn a shape built with z up so that its top points along y: (x, y, z) becomes (x, z, -y)."""
        return self.moved((0, 0, 0), about((1, 0, 0), -math.pi / 2))


# --- rotations ------------------------------------------------------------------------------------


def about(axis: Vec, angle: float) -> Vec:
    """Quaternion of a rotation by `angle` radians about a unit axis."""
    s = math.sin(angle / 2)
    return (math.cos(angle / 2), axis[0] * s, axis[1] * s, axis[2] * s)


def multiply(a: Vec, b: Vec) -> Vec:
    """Quaternion of: first rotate by b, then by a."""
    w, v = a[0], np.array(a[1:])
    x, u = b[0], np.array(b[1:])
    return (float(w * x - v @ u), *(float(c) for c in w * u + x * v + np.cross(v, u)))


def rotation(quat: Vec) -> np.ndarray:
    """The (3, 3) matrix of a quaternion of any length but zero."""
    w, v = quat[0], np.array(quat[1:])
    norm = w * w + v @ v
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return ((w * w - v @ v) * np.eye(3) + 2 * np.outer(v, v) + 2 * w * cross) / norm


def pointing(direction: np.ndarray) -> Vec:
    """Quaternion that turns x into `direction` and keeps y horizontal (y stays put where x points up)."""
    x, y, z = direction / np.linalg.norm(direction)
    return multiply(
        about((0, 0, 1), math.atan2(y, x) if math.hypot(x, y) > 1e-9 else 0.0),
        about((0, 1, 0), -math.asin(z)),
    )


# --- boxes ----------------------------------------------------------------------------------------


def block(low: Vec, high: Vec, look: str, quat: Vec = IDENTITY) -> Shape:
    """A box from its two corners, solid and drawn; `quat` turns it about its own centre."""
    centre = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
    half = tuple((b - a) / 2 for a, b in zip(low, high, strict=True))
    geom = Geom("box", centre, half, quat, look)
    return Shape((geom,), (geom,))


def blocks(look: str, *corners: tuple[Vec, Vec]) -> Shape:
    """Several boxes of one look, each given by its two corners."""
    return join(*(block(low, high, look) for low, high in corners))


def hollow(low: Vec, high: Vec, walls: Vec, floor: float, look: str) -> Shape:
    """An open box from its outer corners; `walls`: thickness of the sides across x and y; floor 0 is none."""
    (x0, y0, z0), (x1, y1, z1), (tx, ty) = low, high, walls
    sides = blocks(
        look,
        ((x0, y0, z0 + floor), (x0 + tx, y1, z1)),
        ((x1 - tx, y0, z0 + floor), (x1, y1, z1)),
        ((x0 + tx, y0, z0 + floor), (x1 - tx, y0 + ty, z1)),
        ((x0 + tx, y1 - ty, z0 + floor), (x1 - tx, y1, z1)),
    )
    return sides + block((x0, y0, z0), (x1, y1, z0 + floor), look) if floor else sides


def slab(centre: Vec, half: Vec, look: str, quat: Vec = IDENTITY) -> Shape:
    """A box from its centre and half sizes, solid and drawn."""
    geom = Geom("box", centre, half, quat, look)
    return Shape((geom,), (geom,))


def rod(
    start: Vec, end: Vec, half_width: float, half_height: float, look: str, drawn_radius: float | None = None
) -> Shape:
    """A bar between two points, `half_width` sideways; drawn as a capsule if it is given a `drawn_radius`."""
    a, b = np.array(start, float), np.array(end, float)
    quat, length = pointing(b - a), float(np.linalg.norm(b - a))
    centre = tuple((a + b) / 2)
    geom = Geom("box", centre, (length / 2, half_width, half_height), quat, look)
    if drawn_radius is None:
        return Shape((geom,), (geom,))
    upright = multiply(quat, about((0, 1, 0), math.pi / 2))
    return Shape((geom,), (Geom("capsule", centre, (drawn_radius, length / 2), upright, look),))


def rods(
    points: Sequence[Vec], half_width: float, half_height: float, look: str, drawn_radius: float | None = None
) -> Shape:
    """Bars along a line of points, for handles."""
    pairs = itertools.pairwise(points)
    return join(*(rod(a, b, half_width, half_height, look, drawn_radius) for a, b in pairs))


def sleeve(low: Vec, high: Vec, look: str, grow: float = 0.0004) -> Shape:
    """A printed band: a drawn box `grow` metres larger sideways than the body it covers."""
    shape = block((low[0] - grow, low[1] - grow, low[2]), (high[0] + grow, high[1] + grow, high[2]), look)
    return only_drawn(shape)


def join(*shapes: Shape) -> Shape:
    """All given shapes as one."""
    return Shape(tuple(g for s in shapes for g in s.solid), tuple(g for s in shapes for g in s.drawn))


def only_drawn(*shapes: Shape) -> Shape:
    """The shapes without their solid half: decoration."""
    return Shape((), join(*shapes).drawn)


def only_solid(*shapes: Shape) -> Shape:
    """The shapes without their drawn half."""
    return Shape(join(*shapes).solid, ())


def ball(centre: Vec, half: Vec, look: str) -> Shape:
    """A drawn ellipsoid."""
    return Shape((), (Geom("ellipsoid", centre, half, IDENTITY, look),))


# --- round things ---------------------------------------------------------------------------------


def prism(radius: float, bottom: float, top: float, look: str, sides: int = 8) -> Shape:
    """An upright regular prism out of sides/2 boxes (`radius`: to the flat sides), drawn as a cylinder."""
    half, centre = (top - bottom) / 2, (0.0, 0.0, (top + bottom) / 2)
    width = radius * math.tan(math.pi / sides)
    solid = tuple(
        Geom("box", centre, (radius, width, half), about((0, 0, 1), 2 * math.pi * k / sides), look)
        for k in range(sides // 2)
    )
    return Shape(solid, (Geom("cylinder", centre, (radius, half), IDENTITY, look),))


def wall(start: Vec, end: Vec, half_thick: float, sides: int) -> tuple[Geom, ...]:
    """One storey of a round wall: a ring of tilted boxes from (radius, z) `start` to (radius, z) `end`."""
    (r0, z0), (r1, z1) = start, end
    length, slope = math.hypot(r1 - r0, z1 - z0), math.atan2(z1 - z0, r1 - r0)
    radius, width = (r0 + r1) / 2, max(r0, r1) * math.tan(math.pi / sides)
    tilt = about((0, 1, 0), -slope)
    return tuple(
        Geom(
            "box",
            (radius * math.cos(a), radius * math.sin(a), (z0 + z1) / 2),
            (length / 2, width, half_thick),
            multiply(about((0, 0, 1), a), tilt),
        )
        for a in (2 * math.pi * k / sides for k in range(sides))
    )


def lathe(profile: Sequence[Vec], look: str, segments: int = 32) -> Shape:
    """The drawn surface of a (radius, z) outline turned about z.

    An outline that starts and ends on the axis (radius 0) is closed by its two poles, any other is a closed
    loop. Either way the solid lies to the left of the outline as it is walked: out along the bottom, up,
    and back in.
    """
    on_axis = profile[0][0] == 0 and profile[-1][0] == 0
    rings = list(profile[1:-1]) if on_axis else list(profile)
    angles = [2 * math.pi * k / segments for k in range(segments)]
    vertices = [(r * math.cos(a), r * math.sin(a), z) for r, z in rings for a in angles]
    pairs = [(i, i + 1) for i in range(len(rings) - 1)] + ([] if on_axis else [(len(rings) - 1, 0)])
    faces = []
    for low, high in pairs:
        for k in range(segments):
            a, b = low * segments + k, low * segments + (k + 1) % segments
            c, d = high * segments + k, high * segments + (k + 1) % segments
            faces += [(a, b, d), (a, d, c)]
    if on_axis:
        first, last, top = len(vertices), len(vertices) + 1, (len(rings) - 1) * segments
        vertices += [(0.0, 0.0, profile[0][1]), (0.0, 0.0, profile[-1][1])]
        faces += [(first, (k + 1) % segments, k) for k in range(segments)]
        faces += [(last, top + k, top + (k + 1) % segments) for k in range(segments)]
    return Shape((), (Geom("mesh", (0, 0, 0), (), IDENTITY, look, Mesh(tuple(vertices), tuple(faces))),))


def rounded_plate(centre: Vec, half: Vec, bottom: float, top: float, look: str, points: int = 48) -> Shape:
    """A drawn plate of half sizes `half` around (x, y) `centre`, its outline between ellipse and box."""
    x, y = centre
    vertices, faces = [(x, y, bottom), (x, y, top)], []
    for k in range(points):
        angle = 2 * math.pi * k / points
        c, s = (math.copysign(abs(f) ** 0.75, f) for f in (math.cos(angle), math.sin(angle)))
        vertices += [(x + half[0] * c, y + half[1] * s, z) for z in (bottom, top)]
    for k in range(points):
        a, b = 2 + 2 * k, 2 + 2 * ((k + 1) % points)
        faces += [(0, b, a), (1, a + 1, b + 1), (a, b, b + 1), (a, b + 1, a + 1)]
    return Shape((), (Geom("mesh", (0, 0, 0), (), IDENTITY, look, Mesh(tuple(vertices), tuple(faces))),))


def vessel(
    profile: Sequence[Vec],
    half_thick: Sequence[float],
    floor: Vec,
    look: str,
    sides: int = 12,
    rim: str | None = None,
    inside: str | None = None,
) -> Shape:
    """A bowl, plate, pan or cup: storeys of ring walls along a (radius, z) profile, on a round floor.

    Args:
        profile: points on the middle of the wall, from the floor to the rim; len(half_thick) + 1 of them.
        half_thick: half the wall's thickness for each storey.
        floor: (radius, bottom z, top z) of the bottom.
        rim: look of a painted band around the edge, none if not given.
        inside: look of the inner surface, `look` if not given.
    """
    radius, bottom, top = floor
    storeys = zip(profile, profile[1:], half_thick)
    solid = prism(radius, bottom, top, look).solid + tuple(
        dataclasses.replace(g, look=look) for a, b, h in storeys for g in wall(a, b, h, sides)
    )
    outer, inner = _offset(profile, half_thick, +1), _offset(profile, half_thick, -1)
    outline = [(0.0, bottom), (min(radius, outer[0][0]), bottom), *outer, *reversed(inner), (0.0, top)]
    drawn = lathe(outline, look).drawn
    if inside:
        skin = [(r - 0.0004, z + 0.0002) for r, z in reversed(inner)]
        drawn += lathe([(0.0, top - 0.001), *inner, *skin, (0.0, top + 0.0004)], inside).drawn
    if rim:
        drawn += lathe(_band(outer, inner), rim).drawn
    return Shape(solid, drawn)


def _offset(profile: Sequence[Vec], half_thick: Sequence[float], sign: int) -> list[Vec]:
    """The profile moved outwards (+1) or inwards (-1) by half the wall's thickness."""
    steps = [np.subtract(b, a) for a, b in itertools.pairwise(profile)]
    normals = [np.array([s[1], -s[0]]) / np.linalg.norm(s) for s in steps]
    shifts = [n * h for n, h in zip(normals, half_thick, strict=True)]
    ends = [shifts[0], *((a + b) / 2 for a, b in itertools.pairwise(shifts)), shifts[-1]]
    return [tuple(np.add(p, sign * e)) for p, e in zip(profile, ends, strict=True)]


def _band(outer: Sequence[Vec], inner: Sequence[Vec], share: float = 0.2, grow: float = 0.0006) -> list[Vec]:
    """Outline of a painted rim: the last `share` of the wall, `grow` thicker on every side."""
    (o0, o1), (i0, i1) = (np.array(outer[-2:]), np.array(inner[-2:]))
    low_o, low_i = o1 + share * (o0 - o1), i1 + share * (i0 - i1)
    across = (o1 - i1) / np.linalg.norm(o1 - i1) * grow
    along = (o1 - o0) / np.linalg.norm(o1 - o0) * grow
    return [tuple(p) for p in (low_o + across, o1 + across + along, i1 - across + along, low_i - across)]
