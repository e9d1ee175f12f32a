"""Meshes that are thinned out give the picture of whole meshes, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.simulator

SIZE = 128

#: A mirror and a table that hides things, both boxes or the mirror a plane, and places for meshes.
SCENE = """
<mujoco>
  <visual><map znear="0.01"/></visual>
  <asset>
    <material name="mirror" reflectance="{reflectance}" rgba="0.4 0.4 0.4 1"/><material name="glass" rgba="0 1 0 0.4"/>
    <mesh name="blob" vertex="{vertices}" face="{faces}"/>
  </asset>
  <worldbody>
    <light pos="0.3 0.2 4" castshadow="{shadows}"/>
    <body mocap="true"><camera name="eye" fovy="50"/></body>
    <geom type="{kind}" pos="0.4 0 -0.1" size="{extent} 0.1" material="mirror"/>
    <geom type="box" pos="0 0 0.7" size="0.6 0.5 0.03" euler="10 5 0" rgba="0.7 0.5 0.3 1"/>
    {blobs}
  </worldbody>
</mujoco>
"""


def blob(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A dented ball of 1,200 faces in scattered order, 40 of them twice with their corners in another order: which of
    two such faces is seen depends on which is drawn last."""
    across, along = np.meshgrid(np.linspace(0.05, np.pi - 0.05, 25), np.linspace(0, 2 * np.pi, 26), indexing="ij")
    radius = 0.3 * (1 + 0.3 * np.sin(5 * along) * np.sin(4 * across))
    vertices = np.stack([radius * np.sin(across) * np.cos(along), radius * np.sin(across) * np.sin(along),
                         radius * np.cos(across)], axis=-1).reshape(-1, 3)
    corner = (np.arange(24)[:, None] * 26 + np.arange(25)).ravel()
    faces = np.concatenate([np.stack([corner, corner + 26, corner + 1], 1),
                            np.stack([corner + 1, corner + 26, corner + 27], 1)])
    generator.shuffle(faces)
    return vertices, np.concatenate([faces, np.roll(faces[:40], 1, axis=1)])


def scene(generator: np.random.Generator, kind: str = "box", shadows: bool = False, extent: str = "0.5 0.4",
          reflectance: float = 0.5):
    import mujoco

    vertices, faces = blob(generator)
    blobs = [f'<geom type="mesh" mesh="blob" pos="{x} {y} {z}" euler="{turn} {2 * turn} 0" {matter}/>'
             for (x, y, z), turn, matter in zip(
                 generator.uniform((-1, -1, 0), (1, 1, 1.5), (9, 3)), generator.uniform(0, 180, 9),
                 ['material="glass"', *8 * ['rgba="0.8 0.3 0.2 1"']])]
    return mujoco.MjModel.from_xml_string(SCENE.format(
        kind=kind, shadows=str(shadows).lower(), extent=extent, reflectance=reflectance, blobs="".join(blobs),
        vertices=" ".join(map(str, vertices.ravel())), faces=" ".join(map(str, faces.ravel()))))


class Painter:
    """Draws `model`, whole or thinned out."""

    def __init__(self, model) -> None:
        import mujoco

        from suites.libero.meshes import MeshParts

        self.model, self.data, self.option = model, mujoco.MjData(model), mujoco.MjvOption()
        self.gl = mujoco.GLContext(SIZE, SIZE)
        self.gl.make_current()
        self.context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self.context)
        self.scene = mujoco.MjvScene(model, maxgeom=100)
        self.parts = MeshParts(model, self.context, self.option.geomgroup)

    def picture(self, thinned: bool) -> np.ndarray:
        import mujoco

        from suites.common.visibility import Window

        camera = mujoco.MjvCamera()
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        for _ in range(2):  # an endless plane is put before the camera of the update before
            mujoco.mjv_updateScene(self.model, self.data, self.option, None, camera, mujoco.mjtCatBit.mjCAT_ALL,
                                   self.scene)
        if thinned:
            self.parts.thin(self.scene, Window(SIZE, SIZE, slice(0, SIZE), slice(0, SIZE)))
        image, frame = np.empty((SIZE, SIZE, 3), np.uint8), mujoco.MjrRect(0, 0, SIZE, SIZE)
        mujoco.mjr_render(frame, self.scene, self.context)
        mujoco.mjr_readPixels(image, None, frame, self.context)
        return image

    def look_from(self, eye: np.ndarray, target: np.ndarray) -> None:
        """Put the camera at `eye` (3,), towards `target` (3,)."""
        import mujoco

        back = (eye - target) / np.linalg.norm(eye - target)
        right = np.cross((0.1, 0.2, 1), back)
        right /= np.linalg.norm(right)
        self.data.mocap_pos[0] = eye
        mujoco.mju_mat2Quat(self.data.mocap_quat[0], np.column_stack([right, np.cross(back, right), back]).ravel())
        mujoco.mj_forward(self.model, self.data)

    def called(self) -> tuple[int, int]:
        """Parts in the lists for the regular pass and for the mirror's."""
        return tuple(sum(len(self.parts._contents.get(base + number, b"")) // 4 for number in range(9))
                     for base in (self.parts._regular, self.parts._mirrored))


@pytest.fixture
def painter(make_env):
    """painter(scene): a Painter of it; `make_env` has prepared OpenGL."""
    painters = []

    def paint(model) -> Painter:
        painters.append(Painter(model))
        return painters[-1]

    yield paint
    for one in painters:
        one.context.free()
        one.gl.free()


@pytest.mark.parametrize("kind", ["box", "plane", "endless plane", "no mirror"])
def test_pictures_are_those_of_whole_meshes(kind, painter):
    """From 60 places, near and far, above and below the mirror; parts are left out of both passes."""
    generator = np.random.default_rng(5)
    artist = painter(scene(generator, kind="box" if kind == "no mirror" else kind.split()[-1],
                           extent="0 0" if kind == "endless plane" else "0.5 0.4",
                           reflectance=0.0 if kind == "no mirror" else 0.5))
    every = 8 * len(artist.parts._large[2][1].starts)
    regular, mirrored = [], []
    for _ in range(60):
        artist.look_from(generator.uniform((-2, -2, -0.5), (2, 2, 2)), generator.uniform((-1, -1, 0), (1, 1, 1)))
        whole = artist.picture(thinned=False)
        assert np.array_equal(artist.picture(thinned=True), whole)
        for counts, count in zip((regular, mirrored), artist.called()):
            counts.append(count)
    assert 0 < min(regular) < 0.5 * every
    assert np.median(mirrored) < 0.75 * every and (max(mirrored) > 0) == (kind != "no mirror")


def test_the_order_of_faces_matters(painter):
    """With faces in another order the picture differs: the test above would notice."""
    artist = painter(scene(np.random.default_rng(5)))
    artist.look_from(np.array((1.5, 1, 1.2)), np.zeros(3))
    before, mesh = artist.picture(thinned=False), artist.model.mesh_face.copy()
    artist.model.mesh_face[:] = mesh[::-1]
    again = painter(artist.model)
    again.look_from(np.array((1.5, 1, 1.2)), np.zeros(3))
    assert not np.array_equal(again.picture(thinned=False), before)


def test_in_doubt_and_in_shadow_nothing_is_left_out(painter):
    """An eye in the mirror's plane, and lights that cast shadows: all geoms keep their meshes."""
    generator = np.random.default_rng(6)
    for shadows, eye in ((False, (1.5, 1, 0)), (True, (1.5, 1, 1))):
        artist = painter(scene(generator, shadows=shadows))
        artist.look_from(np.array(eye), np.zeros(3))
        whole = artist.picture(thinned=False)
        assert np.array_equal(artist.picture(thinned=True), whole)
        assert artist.called() == (0, 0)


def test_large_boxes_hide_what_is_behind_them(painter):
    """Seen from right above the table, its shadow holds parts that are not drawn."""
    from suites.common.visibility import View, Window
    from suites.libero.meshes import behind

    artist = painter(scene(np.random.default_rng(7)))
    artist.look_from(np.array((0.0, 0.0, 3.0)), np.zeros(3))
    artist.picture(thinned=False)
    table = next(geom for geom in artist.scene.geoms[:artist.scene.ngeom] if geom.objid == 1)
    axes = artist.data.cam_xmat[0].reshape(3, 3)
    view = View.through(Window(SIZE, SIZE, slice(0, SIZE), slice(0, SIZE)), artist.data.cam_xpos[0], axes, 0.5)
    points = np.array([(0, 0, 0.3), (0, 0, 1.0), (0.55, 0, 0.3), (0.0, 0.0, 0.725), (3, 0, 0.3)])
    assert behind(table, view, points, np.full(5, 0.01)).tolist() == [True, False, True, False, False]
    assert behind(table, view, points, np.full(5, 0.5)).tolist() == [False] * 5
