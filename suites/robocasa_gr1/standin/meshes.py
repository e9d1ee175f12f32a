"""Triangle meshes of the stand-ins: builders that return arrays, and their writing as OBJ files.

Lengths are metres (or the unit of what is drawn), z up. A picture lies on a mesh by uv: u to the right, v upwards,
both 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """vertices (N, 3), uv (N, 2), faces (M, 3) of vertex numbers, counter-clockwise seen from outside."""

    vertices: np.ndarray
    uv: np.ndarray
    faces: np.ndarray

    def moved(self, *offset: float) -> Mesh:
        """Shifted by (x, y, z)."""
        return replace(self, vertices=self.vertices + np.array(offset))

    def scaled(self, *factors: float) -> Mesh:
        """Stretched about the origin by (x, y, z), or by one factor."""
        return replace(self, vertices=self.vertices * np.array(factors))

    def turned(self, axis: int, angle: float) -> Mesh:
        """Turned by `angle` radians about axis 0, 1 or 2."""
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[b, a] = np.sin(angle)
        turn[a, b] = -turn[b, a]
        return replace(self, vertices=self.vertices @ turn.T)

    def along_x(self) -> Mesh:
        """Laid down: what pointed up points along x."""
        return replace(self, vertices=self.vertices[:, [2, 1, 0]] * np.array([1, -1, 1]))


def join(meshes: Sequence[Mesh]) -> Mesh:
    """All given meshes as one."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate([mesh.uv for mesh in meshes]),
                np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts)]))


def grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """uv (rows * columns, 2) and faces of a sheet, v by row and u by column; its front is u x v."""
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)[None, :]).ravel()
    faces = np.concatenate([np.stack([a, a + 1, a + columns + 1], 1), np.stack([a, a + columns + 1, a + columns], 1)])
    return np.stack([u.ravel(), v.ravel()], 1), faces


def revolve(profile: Sequence[tuple[float, float]], segments: int = 32, lobes: int = 0, depth: float = 0.0) -> Mesh:
    """The surface of a (radius, z) outline turned about z, walked out along the bottom, up, and back in.

    u goes round, v along the outline. `lobes` bulges of relative `depth` run round it.
    """
    outline = np.array(profile, float)
    uv, faces = grid(len(outline), segments + 1)
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))])
    uv[:, 1] = np.repeat(lengths / lengths[-1], segments + 1)
    angle = 2 * np.pi * uv[:, 0]
    radius = np.repeat(outline[:, 0], segments + 1) * (1 + depth * np.cos(lobes * angle))
    height = np.repeat(outline[:, 1], segments + 1)
    return Mesh(np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1), uv, faces)


def smooth(points: Sequence[tuple[float, float]], count: int = 28) -> list[tuple[float, float]]:
    """An outline of `count` points through `points`, evenly spaced along their length."""
    given = np.array(points, float)
    at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(given, axis=0), axis=1))])
    fine = np.linspace(0, at[-1], 8 * count)
    rough = np.stack([np.interp(fine, at, given[:, k]) for k in (0, 1)], 1)
    kernel = np.hanning(11) / np.hanning(11).sum()
    padded = np.concatenate([np.repeat(rough[:1], 5, 0), rough, np.repeat(rough[-1:], 5, 0)])
    soft = np.stack([np.convolve(padded[:, k], kernel, "valid") for k in (0, 1)], 1)
    soft[0], soft[-1] = given[0], given[-1]
    return [tuple(point) for point in soft[np.linspace(0, len(soft) - 1, count).round().astype(int)]]


def cylinder(radius: float, half: float, bevel: float = 0.0, top: float | None = None) -> Mesh:
    """An upright closed cylinder about the origin; `top`: radius of its upper end, where it differs."""
    top = radius if top is None else top
    edge = max(bevel, 1e-5)
    return revolve([(1e-5, -half), (radius - edge, -half), (radius, -half + edge), (top, half - edge),
                    (top - edge, half), (1e-5, half)])


def box(centre: Sequence[float], half: Sequence[float]) -> Mesh:
    """A box; every side shows the whole picture."""
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    corners = np.concatenate([2 * uv - 1, np.ones((4, 1))], 1)
    sides = []
    for normal, right in (((1, 0, 0), (0, 1, 0)), ((-1, 0, 0), (0, -1, 0)), ((0, 1, 0), (-1, 0, 0)),
                          ((0, -1, 0), (1, 0, 0)), ((0, 0, 1), (1, 0, 0)), ((0, 0, -1), (-1, 0, 0))):
        axes = np.array([right, np.cross(normal, right), normal], float)
        sides.append(Mesh(corners @ axes, uv, np.array([[0, 1, 2], [0, 2, 3]])))
    return join(sides).scaled(*half).moved(*centre)


def rounded(half: Sequence[float], power: float = 5.0, rows: int = 21) -> Mesh:
    """Between an ellipsoid (power 2) and a box (power large), about the origin; u goes round, v upwards."""
    uv, faces = grid(rows, 2 * rows - 1)
    turn, rise = 2 * np.pi * uv[:, 0], np.pi * (uv[:, 1] - 0.5)
    raw = np.stack([np.cos(rise) * np.cos(turn), np.cos(rise) * np.sin(turn), np.sin(rise)], 1)
    raw /= (np.abs(raw) ** power).sum(1, keepdims=True) ** (1 / power)
    return Mesh(raw * np.array(half), uv, faces)


def tube(points: Sequence[Sequence[float]], radii: Sequence[float], segments: int = 10, flat: float = 1.0) -> Mesh:
    """A pipe along (x, y, z) `points` with a radius at each, closed at its ends; `flat` squeezes it across.

    u goes round, v along. The points must not turn straight up or down against y.
    """
    line = np.array(points, float)
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = np.cross(along, [0.123, 0.985, 0.123])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    across = np.cross(along, side)
    line, radii = np.concatenate([line[:1], line, line[-1:]]), np.concatenate([[1e-5], radii, [1e-5]])
    side, across = (np.concatenate([frame[:1], frame, frame[-1:]]) for frame in (side, across))
    uv, faces = grid(len(line), segments + 1)
    angle = np.tile(2 * np.pi * np.linspace(0, 1, segments + 1), len(line))[:, None]
    repeated = [np.repeat(values, segments + 1, axis=0) for values in (line, side, across, radii[:, None])]
    vertices = repeated[0] + repeated[3] * (np.cos(angle) * repeated[1] + flat * np.sin(angle) * repeated[2])
    return Mesh(vertices, uv, faces)


def bumpy(mesh: Mesh, rng: np.random.Generator, size: float, waves: float = 3.0) -> Mesh:
    """The mesh with its vertices shifted outwards by smooth random waves of relative `size`."""
    extent = np.abs(mesh.vertices).max(axis=0)
    unit = mesh.vertices / extent
    shift = np.zeros(len(unit))
    for _ in range(6):
        direction = rng.normal(size=3) * waves
        shift += np.sin(unit @ direction + rng.uniform(0, 2 * np.pi)) / 6
    return replace(mesh, vertices=mesh.vertices * (1 + size * shift[:, None]))


def fitted(mesh: Mesh, half: Sequence[float]) -> Mesh:
    """Stretched and shifted so that its bounding box is +-`half`."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return replace(mesh, vertices=(mesh.vertices - (low + high) / 2) * (2 * np.array(half) / (high - low)))


def write_obj(path: Path, mesh: Mesh) -> None:
    """Write an OBJ file, positions to 0.01 mm; its folder must exist."""
    vertices = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in mesh.vertices.tolist()]
    pictures = [f"vt {u:.4f} {v:.4f}" for u, v in mesh.uv.tolist()]
    faces = [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in (mesh.faces + 1).tolist()]
    path.write_text("\n".join([*vertices, *pictures, *faces, ""]), encoding="utf-8", newline="\n")
