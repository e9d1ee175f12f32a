"""What an object is made of, and builders for each kind of object.

Metres, z up, the origin in the middle of the bounding box. What collides (`solids`) and what is seen (`parts`) are
separate: contacts want few primitives, pictures want round surfaces. No solid is a sphere: upstream's scaling of
geoms takes two or three sizes only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from suites.robocasa_gr1.standin.meshes import (
    Mesh,
    box,
    bumpy,
    cylinder,
    fitted,
    join,
    revolve,
    rounded,
    smooth,
    tube,
)
from suites.robocasa_gr1.standin.textures import Painter, plain

Vec = tuple[float, ...]

#: Sides of a round wall's collision boxes.
SIDES = 16

WOOD, GREEN, STEEL, BLACK = (150, 108, 66), (86, 122, 52), (186, 188, 192), (40, 40, 42)


@dataclass(frozen=True)
class Part:
    """A surface and the picture on it."""

    mesh: Mesh
    paint: Painter


@dataclass(frozen=True)
class Solid:
    """A collision geom. kind and size (half sizes) as MuJoCo wants them; quat: (w, x, y, z)."""

    kind: str
    size: Vec
    pos: Vec = (0.0, 0.0, 0.0)
    quat: Vec = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Thing:
    """One object. half: half extents of the box that upstream places it by (handles may stick out of it).

    spawns: box regions of a tiered thing, the lowest first; upstream looks for objects in the highest.
    """

    parts: tuple[Part, ...]
    solids: tuple[Solid, ...]
    half: Vec
    spawns: tuple[Solid, ...] = ()


# --- fruit, vegetables, pastry --------------------------------------------------------------------


def produce(half: Vec, outline: Sequence[Vec], paint: Painter, lying: bool = True, extra: tuple[Part, ...] = (),
            lobes: int = 0, depth: float = 0.0, bumps: float = 0.0,
            rng: np.random.Generator | None = None) -> Thing:
    """A thing turned about its long axis (x, or z unless `lying`), from an `outline` (radius, height) of any scale.

    `extra` parts are drawn beside it, in metres. bumps: relative size of irregularities, drawn with `rng`.
    """
    mesh = revolve(smooth(outline), 28, lobes, depth)
    mesh = mesh.along_x() if lying else mesh
    if bumps:
        mesh = bumpy(mesh, rng, bumps)
    return Thing((Part(fitted(mesh, half), paint), *extra), steady(half), half)


def steady(half: Vec) -> tuple[Solid, ...]:
    """An ellipsoid with a box in it that hardly shows, so that it rests instead of rolling away."""
    x, y, z = half
    return Solid("ellipsoid", half), Solid("box", (0.55 * x, 0.55 * y, 0.97 * z))


def stalk(height: float, top: float, radius: float = 0.004, colour: Vec = (96, 112, 52)) -> Part:
    """A short stem that ends `top` above the origin."""
    return Part(cylinder(radius, height / 2, top=0.7 * radius).moved(0, 0, top - height / 2), plain(colour))


def crescent(half: Vec, paint: Painter) -> Thing:
    """A croissant: a bent roll with ridges that tapers to both ends."""
    bend = np.linspace(-1.15, 1.15, 43)
    points = [(math.sin(a), math.cos(a), 0.0) for a in bend]
    radii = [(0.10 + 0.40 * math.cos(1.25 * a)) * (1 + 0.09 * abs(math.sin(5.4 * a))) for a in bend]
    return Thing((Part(fitted(tube(points, radii, 18), half), paint),), steady(half), half)


def broccoli(half: Vec, head: Painter, stem: Painter, rng: np.random.Generator) -> Thing:
    """A stem with a head of round florets."""
    x, _, z = half
    turns = [(ring, 2 * math.pi * (k / count + 0.17 * ring)) for ring, count in ((0, 1), (1, 6), (2, 9))
             for k in range(count)]
    florets = [bumpy(rounded((0.40 * x,) * 3, 2.0, 9), rng, 0.25, 5).moved(
        0.33 * ring * x * math.cos(a), 0.33 * ring * x * math.sin(a), 0.42 * z - 0.16 * ring * z)
        for ring, a in turns]
    trunk = cylinder(0.34 * x, 0.55 * z, 0.1 * x, top=0.5 * x).moved(0, 0, -0.45 * z)
    solids = (Solid("cylinder", (0.36 * x, 0.55 * z), (0, 0, -0.45 * z)),
              Solid("ellipsoid", (x, x, 0.62 * z), (0, 0, 0.38 * z)))
    return Thing((Part(fitted(join(florets), (x, x, 0.62 * z)).moved(0, 0, 0.38 * z), head), Part(trunk, stem)),
                 solids, half)


def cupcake(radius: float, half: float, wrapper: Painter, icing: Painter) -> Thing:
    """A paper wrapper with a swirl of icing and a cherry."""
    case = cylinder(0.78 * radius, 0.45 * half, top=radius).moved(0, 0, -0.55 * half)
    swirl = [(1e-4, -0.12), (1.0, -0.12), (1.02, 0.02), (0.86, 0.14), (0.90, 0.28), (0.68, 0.40), (0.70, 0.52),
             (0.45, 0.62), (0.42, 0.72), (0.15, 0.84), (1e-4, 0.86)]
    top = revolve([(r * radius, z * half) for r, z in swirl], 28)
    cherry = rounded((0.2 * radius,) * 3, 2.0, 11).moved(0, 0, half - 0.2 * radius)
    parts = (Part(case, wrapper), Part(top, icing), Part(cherry, plain((196, 28, 40))))
    return Thing(parts, (Solid("cylinder", (radius, half)),), (radius, radius, half))


# --- packaging ------------------------------------------------------------------------------------


def tin(radius: float, half: float, paint: Painter) -> Thing:
    """A can with a printed side and a rim at both ends."""
    side = cylinder(radius, 0.94 * half)
    ends = [cylinder(0.9 * radius, 0.03 * half, top=0.86 * radius).moved(0, 0, sign * 0.97 * half) for sign in (-1, 1)]
    parts = (Part(side, paint), Part(join(ends), plain(STEEL)))
    return Thing(parts, (Solid("cylinder", (radius, half)),), (radius, radius, half))


def candle(radius: float, half: float, wax: Vec, paint: Painter) -> Thing:
    """A candle in a printed glass, with its wick."""
    glass = cylinder(radius, 0.85 * half, 0.003).moved(0, 0, -0.15 * half)
    disc = cylinder(0.85 * radius, 0.01 * half).moved(0, 0, 0.705 * half)
    wick = cylinder(0.05 * radius, 0.14 * half).moved(0, 0, 0.84 * half)
    parts = (Part(glass, paint), Part(disc, plain(wax)), Part(wick, plain(BLACK)))
    return Thing(parts, (Solid("cylinder", (radius, half)),), (radius, radius, half))


def bottle(radius: float, half: float, glass: Vec, cap: Vec, paint: Painter) -> Thing:
    """A bottle whose neck, 0.38 of its radius, begins at 0.35 of its half height; `paint` is on the label."""
    shoulder, neck = 0.35 * half, 0.38 * radius
    outline = [(1e-4, -half), (0.93 * radius, -half), (radius, -0.96 * half), (radius, shoulder),
               (0.9 * radius, shoulder + 0.08 * half), (neck, shoulder + 0.30 * half), (neck, half), (1e-4, half)]
    sticker = cylinder(1.02 * radius, 0.34 * half).moved(0, 0, -0.28 * half)
    lid = cylinder(1.15 * neck, 0.09 * half).moved(0, 0, 0.91 * half)
    parts = (Part(revolve(outline, 32), plain(glass)), Part(sticker, paint), Part(lid, plain(cap)))
    solids = (Solid("cylinder", (radius, (half + shoulder) / 2), (0, 0, (shoulder - half) / 2)),
              Solid("cylinder", (neck, (half - shoulder) / 2), (0, 0, (half + shoulder) / 2)))
    return Thing(parts, solids, (radius, radius, half))


def carton(half: Vec, paint: Painter, cap: Vec) -> Thing:
    """A drink carton with a gable on top."""
    x, y, z = half
    body = box((0, 0, -0.18 * z), (x, y, 0.82 * z))
    gable = Mesh(np.array([(-x, -y, 0.64 * z), (x, -y, 0.64 * z), (x, y, 0.64 * z), (-x, y, 0.64 * z),
                           (-x, 0, 0.93 * z), (x, 0, 0.93 * z)], float), np.full((6, 2), 0.5),
                 np.array([(0, 1, 5), (0, 5, 4), (2, 3, 4), (2, 4, 5), (1, 2, 5), (3, 0, 4), (0, 3, 2), (0, 2, 1)]))
    ridge = box((0, 0, 0.94 * z), (x, 0.06 * y, 0.06 * z))
    parts = (Part(body, paint), Part(join([gable, ridge]), plain(cap)))
    return Thing(parts, (Solid("box", half),), half)


def packet(half: Vec, paint: Painter) -> Thing:
    """A box with the picture on every side: packets, boards, mats."""
    return Thing((Part(box((0, 0, 0), half), paint),), (Solid("box", half),), half)


def bag(half: Vec, paint: Painter) -> Thing:
    """A bag of crisps: a pillow, flat at its upper and lower seams."""
    pillow = rounded(half, 3.2, 25)
    vertices = pillow.vertices.copy()
    along = np.abs(vertices[:, 2]) / half[2]
    vertices[:, 1] *= np.sqrt(np.clip(1.02 - along**2, 0.02, 1))
    vertices[:, 0] = np.where(along > 0.75, np.sign(vertices[:, 0]) * np.minimum(
        np.abs(vertices[:, 0]) * 1.25, 0.97 * half[0]), vertices[:, 0])
    mesh = fitted(Mesh(vertices, pillow.uv, pillow.faces), half)
    return Thing((Part(mesh, paint),), (Solid("box", half),), half)


def book(half: Vec, cover: Painter) -> Thing:
    """Pages between two covers."""
    x, y, z = half
    boards = [box((0, 0, sign * 0.9 * z), (x, y, 0.1 * z)) for sign in (-1, 1)]
    spine = box((0.02 * x - x, 0, 0), (0.02 * x, y, z))
    pages = box((0, 0, 0), (0.94 * x, 0.95 * y, 0.8 * z))
    parts = (Part(join([*boards, spine]), cover), Part(pages, plain((236, 230, 214))))
    return Thing(parts, (Solid("box", half),), half)


# --- containers -----------------------------------------------------------------------------------


def dish(radius: float, half: float, wall: float, base: float, paint: Painter, inside: Painter | None = None,
         handles: tuple[Part, ...] = (), grips: tuple[Solid, ...] = ()) -> Thing:
    """A round dish: a floor of radius `base` * `radius`, and a straight wall that opens to `radius` at the rim.

    wall: thickness of the wall; the floor is twice as thick. handles, grips: what is seen and felt of handles.
    """
    foot, floor = base * radius, 2 * wall - half
    tilt, length = math.atan2(radius - foot, 2 * half), math.hypot(radius - foot, 2 * half) / 2
    middle = (radius + foot - wall) / 2
    solids = [Solid("cylinder", (foot, wall), (0, 0, wall - half))]
    for k in range(SIDES):
        a = 2 * math.pi * k / SIDES
        solids.append(Solid("box", (wall / 2, 1.02 * radius * math.tan(math.pi / SIDES), length),
                            (middle * math.cos(a), middle * math.sin(a), 0.0), _tilted(a, tilt)))
    rim = radius - wall
    outside = [(1e-4, -half), (0.96 * foot, -half), (foot + 0.02 * radius, 0.1 * wall - half), (radius, half),
               ((radius + rim) / 2, half + 0.3 * wall), (rim, half)]
    hollow = [(rim, half), (max(foot - 0.5 * wall, 0.3 * foot), floor), (0.6 * foot, floor), (1e-4, floor)]
    parts = (Part(revolve(outside, 40), paint), Part(revolve(hollow, 40), inside or paint), *handles)
    return Thing(parts, (*solids, *grips), (radius, radius, half))


def _tilted(turn: float, tilt: float) -> Vec:
    """Quaternion of: first lean outwards (about y) by `tilt`, then turn about z by `turn`."""
    c, s, d, t = math.cos(turn / 2), math.sin(turn / 2), math.cos(tilt / 2), math.sin(tilt / 2)
    return c * d, -s * t, c * t, s * d


def stick(radius: float, height: float, length: float, colour: Vec) -> tuple[Part, Solid]:
    """A pan's handle: from the rim along x, `height` above the origin."""
    half = (length / 2, 0.011, 0.007)
    pos = (radius + length / 2 - 0.002, 0.0, height)
    return Part(rounded(half, 4.0, 11).moved(*pos), plain(colour)), Solid("box", half, pos)


def ears(radius: float, height: float, colour: Vec) -> tuple[tuple[Part, ...], tuple[Solid, ...]]:
    """The two small handles of a pot."""
    arc = np.linspace(-1.3, 1.3, 15)
    loops, grips = [], []
    for sign in (-1, 1):
        points = [(sign * (radius - 0.004 + 0.024 * math.cos(a)), 0.028 * math.sin(a), height) for a in arc]
        loops.append(tube(points, [0.005] * len(points), 10))
        grips.append(Solid("box", (0.012, 0.03, 0.006), (sign * (radius + 0.011), 0.0, height)))
    return (Part(join(loops), plain(colour)),), tuple(grips)


def tray(half: Vec, wall: float, paint: Painter, sides: Painter | None = None, rim: float = 0.0) -> Thing:
    """An open box. wall: half thickness of floor and sides. rim: radius of a bar round the upper edge, drawn only."""
    x, y, z = half
    boards = [((0, 0, wall - z), (x, y, wall))]
    boards += [((sign * (x - wall), 0, wall), (wall, y, z - wall)) for sign in (-1, 1)]
    boards += [((0, sign * (y - wall), wall), (x - 2 * wall, wall, z - wall)) for sign in (-1, 1)]
    meshes = [box(*board) for board in boards]
    parts = [Part(meshes[0], paint), Part(join(meshes[1:]), sides or paint)]
    if rim:
        edge = [(x - wall, y - wall), (wall - x, y - wall), (wall - x, wall - y), (x - wall, wall - y)]
        bars = [_bar((*start, z), (*end, z), rim) for start, end in zip(edge, [*edge[1:], edge[0]])]
        parts.append(Part(join(bars), sides or paint))
    return Thing(tuple(parts), tuple(Solid("box", size, pos) for pos, size in boards), half)


def tiers(half: Vec, wall: float, paint: Painter, posts: Painter, fence: float = 0.0) -> Thing:
    """Two boards between four posts, with a spawn region on each. wall: half thickness. fence: height of rims."""
    x, y, z = half
    levels = (0.012 - z, 0.25 * z)
    legs = [((i * (x - wall), j * (y - wall), 0), (wall, wall, z)) for i in (-1, 1) for j in (-1, 1)]
    boards, fences, spawns = [], [], []
    for level, above in zip(levels, (levels[1] - wall, z)):
        boards.append(((0, 0, level), (x - 2 * wall, y - 2 * wall, wall)))
        height = (above - level - wall) / 2
        spawns.append(Solid("box", (x - 3 * wall, y - 3 * wall, height), (0, 0, level + wall + height)))
        if fence:
            middle = level + fence / 2
            fences += [((i * (x - wall), 0, middle), (wall / 2, y - 2 * wall, fence / 2)) for i in (-1, 1)]
            fences += [((0, i * (y - wall), middle), (x - 2 * wall, wall / 2, fence / 2)) for i in (-1, 1)]
    parts = [Part(join([box(*board) for board in boards]), paint), Part(join([box(*leg) for leg in legs]), posts)]
    if fences:
        parts.append(Part(join([box(*board) for board in fences]), posts))
    return Thing(tuple(parts), tuple(Solid("box", size, pos) for pos, size in [*legs, *boards, *fences]), half,
                 tuple(spawns))


def _bar(start: Vec, end: Vec, radius: float) -> Mesh:
    return tube(np.linspace(start, end, 3), [radius] * 3, 8)
