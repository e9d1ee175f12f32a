"""Pictures are those of the whole frame, bit for bit, whatever is left out of the drawing."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from suites.common.visibility import mirrors_of, unseen
from suites.robocasa_gr1.builtin.simulation import BuiltinSimulation, visual_only
from suites.robocasa_gr1.pictures import EGO, Pictures
from suites.robocasa_gr1.suite import EGO_FRAME, ROWS
from suites.robocasa_gr1.views import COLUMNS_KEPT, ROWS_KEPT

pytestmark = pytest.mark.simulator

#: A mirror of each kind, balls all around, one of them translucent.
MIRRORS = """
<mujoco>
  <asset>
    <material name="mirror" reflectance="0.6" rgba="0.4 0.4 0.4 1"/><material name="glass" rgba="0.2 0.9 0.2 0.4"/>
  </asset>
  <worldbody>
    <light pos="0 0 4" castshadow="false"/>
    <body mocap="true" name="head"><camera name="egoview" fovy="77"/></body>
    <geom type="{kind}" pos="0 0 -0.1" size="1 1 0.1" group="1" material="mirror"/>
    <geom type="box" pos="0 3 1" euler="90 0 0" size="2 1 0.1" group="1" material="mirror"/>
    {balls}
  </worldbody>
</mujoco>
"""


def whole_frame(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """The ego camera's frame (800, 1280, 3) as mujoco's own renderer draws it."""
    model.vis.global_.offheight, model.vis.global_.offwidth = EGO_FRAME
    with mujoco.Renderer(model, *EGO_FRAME) as renderer:
        renderer.update_scene(data, "egoview", visual_only())
        return renderer.render()


@pytest.mark.parametrize("kind", ["box", "plane"])
def test_mirrors_and_what_is_out_of_view(kind):
    """Two mirrors, of which MuJoCo takes the first, wherever the camera looks."""
    rng = np.random.default_rng(3)
    balls = [f'<geom size="{rng.uniform(0.05, 0.4)}" pos="{x} {y} {z}" group="1" {matter}/>'
             for (x, y, z), matter in zip(rng.uniform((-3, -3, 0), (3, 3, 3), (40, 3)),
                                          ['material="glass"', *39 * [""]], strict=True)]
    model = mujoco.MjModel.from_xml_string(MIRRORS.format(kind=kind, balls="".join(balls)))
    data, left_out = mujoco.MjData(model), []
    assert list(mirrors_of(model, visual_only().geomgroup)[:1]) == [0]
    for _ in range(8):
        data.mocap_pos[0], data.mocap_quat[0] = rng.uniform((-1, -2, 0.5), (1, 1, 2)), rng.normal(size=4)
        mujoco.mj_forward(model, data)
        whole = whole_frame(model, data)
        pictures = Pictures(model, visual_only())
        assert np.array_equal(pictures.ego(data), whole[ROWS_KEPT, COLUMNS_KEPT])
        left_out.append(int(unseen(model, data, 0, EGO, visual_only().geomgroup).sum()))
        pictures.close()
    assert max(left_out) > 10 and set(model.geom_group) == {1}


def test_a_scene_with_the_robot():
    simulation = BuiltinSimulation(ROWS[18], draws=True)
    simulation.reset(1)
    ours = simulation.render("ego_view")
    camera, shown = simulation.model.camera("egoview").id, visual_only().geomgroup
    assert unseen(simulation.model, simulation.data, camera, EGO, shown).sum() > 20
    assert np.array_equal(ours, whole_frame(simulation.model, simulation.data)[ROWS_KEPT, COLUMNS_KEPT])
    assert ours.std() > 10
    simulation.close()
