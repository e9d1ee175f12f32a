"""Meshes of which only those parts are drawn that a camera can see. The picture has the same bits.

Software renderers need most of a picture's time for small triangles. So each mesh is cut into runs of its faces, each
an OpenGL display list that MuJoCo itself fills. For a picture, a mesh's own list is replaced by the list of its parts
that are in view, show some face's front and lie behind no box; in MuJoCo's pass that draws what a mirror shows, of
those that are seen in the mirror. Faces keep their order, which decides where two are equally far away.

MuJoCo calls the same list of a geom in both passes. That list calls another, by its number in the current list base
(glListBase): the pass with the mirror begins with one base, and a mesh without faces, which is drawn as the last of the
opaque geoms, sets the other.

A part is drawn in case of doubt. A face counts as turned away only if its picture would be a hundredth of a pixel high
from behind: renderers round corners to 1/256 of a pixel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import mujoco
import numpy as np

from suites.common.visibility import BOX, MESH, OPAQUE, PLANE, Mirror, View, Window

#: Faces of a part; smaller meshes are drawn whole. Measured with llvmpipe: fewer faces cost more than they spare in
#: scenes without a mirror, with 400 pictures of mirrors take longer.
PART = 200

#: Boxes hide parts if they are at least this large (half sizes of a face, in metres).
LARGE = 0.1


class Division(NamedTuple):
    """A mesh cut into p parts, in the mesh's own frame.

    starts: (p,) first faces of the parts; planes: (n, 4) float32 of the faces: a point's height above the face, times
    the face's own height over its longest edge; centres (p, 3), radii (p,): spheres around the parts.
    """

    starts: np.ndarray
    planes: np.ndarray
    centres: np.ndarray
    radii: np.ndarray


def divide(vertices: np.ndarray, faces: np.ndarray) -> Division:
    """Cut a mesh of vertices (v, 3) and faces (n, 3) into parts of `PART` faces."""
    corners = vertices[faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    slopes = normals / np.maximum(longest, 1e-12)[:, None]
    planes = np.column_stack([slopes, -(slopes * corners[:, 0]).sum(axis=1)]).astype(np.float32)

    starts = np.arange(0, len(faces), PART)
    centres = (np.minimum.reduceat(corners.min(axis=1), starts)
               + np.maximum.reduceat(corners.max(axis=1), starts)) / 2
    distances = np.linalg.norm(corners - np.repeat(centres, PART, axis=0)[:len(faces), None], axis=2).max(axis=1)
    return Division(starts, planes, centres, np.maximum.reduceat(distances, starts))


@lru_cache(maxsize=512)
def _divided(vertices: bytes, faces: bytes) -> Division:
    """`divide`, once a process for each mesh: tasks share their robot."""
    return divide(np.frombuffer(vertices, np.float32).reshape(-1, 3), np.frombuffer(faces, np.int32).reshape(-1, 3))


class MeshParts:
    """The large meshes of `model`, in parts, for pictures through `context`, whose OpenGL context is current whenever
    this is used; the lists end with it. groups: which geom groups are ever shown."""

    def __init__(self, model: mujoco.MjModel, context: mujoco.MjrContext, groups: np.ndarray) -> None:
        from OpenGL import GL

        self._gl, self._context, self._contents = GL, context, {}
        large = (model.geom_type == MESH) & groups[model.geom_group].astype(bool)
        large[large] = model.mesh_facenum[model.geom_dataid[large]] > PART
        geoms = np.flatnonzero(large).tolist()
        meshes = {mesh: self._upload(model, mesh) for mesh in set(model.geom_dataid[geoms].tolist())}
        #: By geom: its number in the three ranges of lists below, its mesh's Division and the lists of the parts.
        self._large = {geom: (number, *meshes[int(model.geom_dataid[geom])]) for number, geom in enumerate(geoms)}
        self._entries, self._regular, self._mirrored = (self._allocate(len(geoms)) for _ in range(3))
        for number in range(len(geoms)):
            self._compile(self._entries + number, np.array([number]))
        self._last = self._allocate(1)
        GL.glNewList(self._last, GL.GL_COMPILE)
        GL.glListBase(self._regular)
        GL.glEndList()

    def thin(self, scene: mujoco.MjvScene, window: Window) -> None:
        """Leave of the large meshes in `scene`, as mjv_updateScene has made it, only what can be seen.

        window: what somebody will see of the frame that is drawn next. Scenes with shadows stay as they are, and so do
        those whose faces have two sides.
        """
        every = scene.geoms
        geoms = every[:scene.ngeom]
        meshes = [geom for geom in geoms if geom.type == MESH and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM
                  and geom.objid in self._large and opaque(geom)]
        view = view_of(scene, window)
        mirrors = [(geom, Mirror.on(geom.type, geom.pos, geom.mat, geom.size)) for geom in geoms
                   if geom.type in (PLANE, BOX) and geom.reflectance > 0 and opaque(geom)]
        in_doubt = any(abs(mirror.height(view.eye)) < 1e-4 for _, mirror in mirrors)  # whether MuJoCo will reflect
        shadows = any(light.castshadow for light in scene.lights[:scene.nlight])
        two_sided = not scene.flags[mujoco.mjtRndFlag.mjRND_CULL_FACE]
        if not meshes or in_doubt or shadows or two_sided or scene.ngeom == scene.maxgeom:
            return

        placed = [self._place(geom) for geom in meshes]
        centres = np.concatenate([part.centres for part in placed])
        radii = np.concatenate([part.division.radii for part in placed])
        seen = ~view.misses(centres, radii)
        for geom in geoms:
            if geom.type == BOX and opaque(geom):
                left = np.flatnonzero(seen)
                seen[left] = ~behind(geom, view, centres[left], radii[left])
        self._select(placed, seen, view.eye, view.pixel, self._regular)
        geom, mirror = reflecting(mirrors, view.eye)
        if mirror is not None:
            images = mirror.image(centres)
            seen = ~view.onto(corners(geom, mirror)).misses(images, radii)
            seen &= mirror.height(centres) > -radii - 1e-6
            self._select(placed, seen, mirror.image(view.eye), view.pixel, self._mirrored)
        self._gl.glListBase(self._regular if mirror is None else self._mirrored)

        for geom, part in zip(meshes, placed):
            geom.dataid = self._entries + part.number - self._context.baseMesh
        last = every[scene.ngeom]
        mujoco.mjv_initGeom(last, MESH, np.zeros(3), np.zeros(3), np.eye(3).ravel(), np.ones(4, np.float32))
        last.dataid = self._last - self._context.baseMesh
        scene.ngeom += 1

    def _place(self, geom: mujoco.MjvGeom) -> Placed:
        number, division, names = self._large[geom.objid]
        rotation, position = np.array(geom.mat, np.float64), np.array(geom.pos, np.float64)
        return Placed(number, division, names, rotation, position, division.centres @ rotation.T + position)

    def _select(self, placed: list[Placed], seen: np.ndarray, eye: np.ndarray, pixel: float, base: int) -> None:
        """Fill the geoms' lists from `base` on with the parts that are `seen` (of all, one geom after the other) and
        show `eye` (3,) some face's front."""
        end = 0
        for part in placed:
            begin, end = end, end + len(part.names)
            kept = seen[begin:end]
            if kept.any():
                kept = kept & part.fronts(eye, pixel)
            self._compile(base + part.number, part.names[kept] - base)

    def _upload(self, model: mujoco.MjModel, mesh: int) -> tuple[Division, np.ndarray]:
        """The mesh's Division, and the lists (p,) of its parts, filled by MuJoCo's own function, which is told for a
        moment that the part were the mesh."""
        first, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
        vertices = slice(model.mesh_vertadr[mesh], model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh])
        division = _divided(model.mesh_vert[vertices].tobytes(), model.mesh_face[first:first + count].tobytes())
        names = self._allocate(2 * len(division.starts)) + 2 * np.arange(len(division.starts))  # each deletes the next
        base, hull = self._context.baseMesh, int(model.mesh_graphadr[mesh])
        try:
            model.mesh_graphadr[mesh] = -1  # or the convex hull is uploaded with each part
            for name, start in zip(names.tolist(), division.starts.tolist()):
                model.mesh_faceadr[mesh], model.mesh_facenum[mesh] = first + start, min(PART, count - start)
                self._context.baseMesh = name - 2 * mesh
                mujoco.mjr_uploadMesh(model, self._context, mesh)
        finally:
            self._context.baseMesh, model.mesh_graphadr[mesh] = base, hull
            model.mesh_faceadr[mesh], model.mesh_facenum[mesh] = first, count
        return division, names

    def _allocate(self, count: int) -> int:
        """The first of `count` names of lists."""
        return int(self._gl.glGenLists(max(count, 1)))

    def _compile(self, name: int, called: np.ndarray) -> None:
        """Make `name` a list that calls others, given by their distance from the list base."""
        content = called.astype(np.uint32)
        if self._contents.get(name) == content.tobytes():
            return
        self._contents[name] = content.tobytes()
        self._gl.glNewList(name, self._gl.GL_COMPILE)
        if len(content):
            self._gl.glCallLists(content)
        self._gl.glEndList()


class Placed(NamedTuple):
    """A mesh's parts where a geom of the scene has them; centres (p, 3) in the world."""

    number: int
    division: Division
    names: np.ndarray
    rotation: np.ndarray
    position: np.ndarray
    centres: np.ndarray

    def fronts(self, eye: np.ndarray, pixel: float) -> np.ndarray:
        """Which parts (p,) show `eye` (3,) some face's front, or its edge."""
        local = (eye - self.position) @ self.rotation
        planes, radii = self.division.planes, self.division.radii
        farthest = (np.linalg.norm(self.centres - eye, axis=1) + radii).max()
        heights = planes[:, :3] @ local.astype(np.float32) + planes[:, 3]
        return np.logical_or.reduceat(heights > -0.01 * pixel * farthest ** 2, self.division.starts)


def draws_in_software() -> bool:
    """Whether the processor draws in the current OpenGL context. A GPU draws whole meshes sooner than this file thinks
    about their parts."""
    from OpenGL import GL

    renderer = GL.glGetString(GL.GL_RENDERER).decode()
    return any(name in renderer for name in ("llvmpipe", "softpipe", "swrast"))


def view_of(scene: mujoco.MjvScene, window: Window) -> View:
    """What the scene's camera sees through `window`."""
    camera = mujoco.mjv_averageCamera(*scene.camera)
    forward, up = np.array(camera.forward, np.float64), np.array(camera.up, np.float64)
    axes = np.column_stack([np.cross(forward, up), up, -forward])
    return View.through(window, np.array(camera.pos, np.float64), axes, camera.frustum_top / camera.frustum_near)


def opaque(geom: mujoco.MjvGeom) -> bool:
    """Whether MuJoCo draws it as such; planes aside, which are transparent from behind."""
    return geom.rgba[3] >= OPAQUE


def reflecting(mirrors: list[tuple[mujoco.MjvGeom, Mirror]], eye: np.ndarray) -> tuple:
    """The geom whose reflections MuJoCo draws, and its Mirror: the first one that reflects, if seen from its front.
    (None, None) if it draws none."""
    for geom, mirror in mirrors:
        if mirror.height(eye) > 0:
            return geom, mirror
        if geom.type == BOX:
            break
    return None, None


def corners(geom: mujoco.MjvGeom, mirror: Mirror) -> np.ndarray:
    """(4, 3) of the mirror's face; none (0, 3) if it has no end."""
    if not geom.size[:2].all():
        return np.empty((0, 3))
    return rectangle(mirror.point, geom.size[0] * geom.mat[:, 0], geom.size[1] * geom.mat[:, 1])


def rectangle(middle: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The corners (4, 3), going round, of a rectangle with the half sides `one` and `other` (3,)."""
    return middle + np.array([-one - other, one - other, one + other, other - one])


def behind(box: mujoco.MjvGeom, view: View, centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Which spheres (n, 3), (n,) a box hides: those in the shadow of one of its faces, a pixel from its edge."""
    hides = np.zeros(len(centres), bool)
    rotation, position = np.array(box.mat, np.float64), np.array(box.pos, np.float64)
    rays = centres - view.eye
    for axis in range(3):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        if min(box.size[one], box.size[other]) < LARGE:
            continue
        for side in (-1, 1):
            normal = side * rotation[:, axis]
            middle = position + box.size[axis] * normal - view.eye
            if middle @ normal > -1e-3:
                continue  # a face that is turned away
            edges = rectangle(middle, box.size[one] * rotation[:, one], box.size[other] * rotation[:, other])
            inwards = np.cross(edges, np.roll(edges, -1, axis=0))
            inwards *= (np.sign(inwards @ middle) / np.linalg.norm(inwards, axis=1))[:, None]
            margin = radii + view.pixel * np.linalg.norm(rays, axis=1) + 1e-4
            hides |= (rays @ inwards.T > margin[:, None]).all(axis=1) & ((rays - middle) @ normal < -radii - 1e-3)
    return hides
