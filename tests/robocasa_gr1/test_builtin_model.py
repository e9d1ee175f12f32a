"""The built-in scenes' models: what a reset selects is what was compiled alone, and the things do what they are for."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from suites.robocasa_gr1.builtin import containers, fixtures, model, objects, room
from suites.robocasa_gr1.builtin.model import TaskModel
from suites.robocasa_gr1.simulation import STATE_JOINTS, WRIST_SITES
from suites.robocasa_gr1.suite import ROWS

pytestmark = pytest.mark.simulator

BY_NAME = {row.short: row for row in ROWS}

#: Where a thing is dropped: over the middle of the table.
MIDDLE = np.array(room.TABLE_TOP)


@pytest.fixture(scope="module")
def without_robot():
    """Task models without the robot, which takes nine tenths of the compile time."""
    known = {}

    def make(short: str) -> TaskModel:
        if short not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(model, "add_robot", lambda root: None)
                known[short] = TaskModel(BY_NAME[short])
        return known[short]

    return make


@pytest.fixture(scope="module")
def whole() -> TaskModel:
    return TaskModel(BY_NAME["FromTrayToTieredshelf"])


def everything(compiled: mujoco.MjModel) -> bytes:
    """All of a model's numbers."""
    buffer = np.empty(mujoco.mj_sizeModel(compiled), np.uint8)
    mujoco.mj_saveModel(compiled, None, buffer)
    return buffer.tobytes()


def clear(task: TaskModel) -> mujoco.MjData:
    for slot in task.slots:
        task.select(slot, None)
    task.set_style(0)
    task.finish()
    return mujoco.MjData(task.model)


def over_the_table(height: float) -> np.ndarray:
    return MIDDLE + np.array([0.02, 0.0, height])


def put(task: TaskModel, data: mujoco.MjData, slot: str, position: np.ndarray) -> None:
    data.joint(f"{slot}_joint").qpos = [*position, 1, 0, 0, 0]


def contacts(compiled: mujoco.MjModel, data: mujoco.MjData) -> set[tuple[int, int, float]]:
    mujoco.mj_forward(compiled, data)
    return {(*sorted(map(int, contact.geom)), round(contact.dist, 9)) for contact in data.contact}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.short)
def test_every_task_compiles_and_every_variant_can_be_selected(without_robot, row):
    task = without_robot(row.short)
    for slot, choices in task.slots.items():
        for variant in choices:
            task.select(slot, variant)
            number = task.model.body(slot).id
            assert task.model.body_mass[number] > 0
            assert task.model.body_contype[number] == 1
    task.finish()
    assert np.isfinite(task.model.dof_invweight0).all()
    assert (task.fixture is None) == (not row.fixture)
    clear(task)


@pytest.mark.parametrize("short", ["FromTrayToTieredshelf", "FromTrayToTieredbasket", "CupToDrawerClose"])
def test_a_selected_variant_equals_the_variant_alone(without_robot, short):
    task = without_robot(short)
    for slot, kinds in model.slot_things(BY_NAME[short]).items():
        for variant, thing in model.variants(slot, kinds):
            task.select(slot, variant)
            task.finish()
            root, world = model.empty_document("0 1")
            body = model.ET.SubElement(world, "body", name="alone")
            model.ET.SubElement(body, "freejoint")
            for part in thing.parts:
                model.add_geom(body, part, model.STIFF if thing.stiff else model.SOFT, thing.density)
            alone = mujoco.MjModel.from_xml_string(model.ET.tostring(root, encoding="unicode"))
            ours, theirs = task.model.body(slot), alone.body("alone")
            for name in ("mass", "inertia", "ipos", "iquat", "subtreemass"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=f"{variant} {name}")
            np.testing.assert_allclose(ours.invweight0, theirs.invweight0, rtol=1e-9)
    clear(task)


def test_masses_by_hand():
    can = objects.can()
    rows = next(iter(model.thing_rows({0: can}).values()))
    assert rows.body["mass"] == pytest.approx(100 * math.pi * 0.033**2 * 0.116)
    lemon = next(iter(model.thing_rows({0: objects.lemon()}).values()))
    ball, box = 4 / 3 * math.pi, 8 * 0.55 * 0.55 * 0.97
    assert lemon.body["mass"] == pytest.approx(100 * (ball + box) * 0.04 * 0.029 * 0.029)


def test_selecting_leaves_no_trace(whole):
    clear(whole)
    before = everything(whole.model)
    for slot, choices in whole.slots.items():
        whole.select(slot, choices[-1])
    whole.set_style(7)
    whole.place_fixture("plant", 2.5, -1.4, 0.3, present=True)
    whole.finish()
    assert everything(whole.model) != before
    clear(whole)
    assert everything(whole.model) == before


@pytest.mark.parametrize("short", ["FromTrayToTieredshelf", "CupToDrawerClose"])
def test_bounding_volumes_follow_the_variant(without_robot, short):
    task = without_robot(short)
    data = clear(task)
    for slot, choices in task.slots.items():
        for variant in choices:
            task.select(slot, variant)
            task.finish()
            put(task, data, slot, over_the_table(-variant.bottom - 0.002))
            fast = contacts(task.model, data)
            task.model.opt.disableflags = mujoco.mjtDisableBit.mjDSBL_MIDPHASE
            slow = contacts(task.model, data)
            task.model.opt.disableflags = 0
            assert fast == slow
            assert fast, f"{variant} does not touch the table"
        task.select(slot, None)
        mujoco.mj_resetData(task.model, data)


def test_what_is_not_selected_neither_moves_nor_collides_nor_shows(without_robot):
    task = without_robot("FromTrayToTieredshelf")
    data = clear(task)
    start = data.qpos.copy()
    for _ in range(200):
        mujoco.mj_step(task.model, data)
    np.testing.assert_allclose(data.qpos, start, atol=1e-9)
    assert data.ncon == 0
    for slot in task.slots:
        assert data.body(slot).xpos[2] < -1
    task.select("obj", task.slots["obj"][0])
    visible = mujoco.MjvScene(task.model, 1000)
    option = mujoco.MjvOption()
    task.finish()
    mujoco.mj_forward(task.model, data)
    mujoco.mjv_updateScene(task.model, data, option, None, mujoco.MjvCamera(), mujoco.mjtCatBit.mjCAT_ALL, visible)
    shown = {geom.objid for geom in visible.geoms[:visible.ngeom] if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM}
    owners = {task.model.body(task.model.geom_bodyid[geom]).name for geom in shown}
    assert owners & set(task.slots) == {"obj"}
    with pytest.raises(ValueError, match="cannot be"):
        task.select("obj", task.slots["container"][0])
    clear(task)


@pytest.mark.parametrize("short, slot", [
    ("FromTrayToTieredshelf", "container"), ("FromTrayToTieredshelf", "distractor_target"),
    ("FromTrayToTieredbasket", "container"), ("FromTrayToPlate", "container"),
])
def test_every_target_holds_what_is_dropped_into_it(without_robot, short, slot):
    task = without_robot(short)
    data = clear(task)
    for target in task.slots[slot]:
        if slot != "container" and target.instance:
            continue
        for category in ("lemon", "cupcake", "can"):
            variant = next(choice for choice in task.slots["obj"] if choice.category == category)
            task.select(slot, target)
            task.select("obj", variant)
            task.finish()
            mujoco.mj_resetData(task.model, data)
            put(task, data, slot, over_the_table(-target.bottom + 0.001))
            mujoco.mj_forward(task.model, data)
            ground = MIDDLE[2] + 0.02
            if target.region:
                geom = task.model.geom(target.region)
                ground = data.geom(target.region).xpos[2] - geom.size[2]
                assert ground + 2 * geom.size[2] == pytest.approx(MIDDLE[2] + target.top - target.bottom + 0.001)
            put(task, data, "obj", (*over_the_table(0.0)[:2], ground - variant.bottom + 0.02))
            for _ in range(500):
                mujoco.mj_step(task.model, data)
            where = data.body("obj").xpos - data.body(slot).xpos
            assert np.hypot(*where[:2]) < 0.7 * math.hypot(*target.half), (target, category, where)
            assert np.abs(data.joint("obj_joint").qvel[:3]).max() < 0.1
            assert data.body(slot).xmat[8] > 0.99
    clear(task)


@pytest.mark.parametrize("short", ["CanToDrawerClose", "MilkToMicrowaveClose", "BottleToCabinetClose"])
def test_doors_move_freely_over_their_range_and_shut(without_robot, short):
    task = without_robot(short)
    data = clear(task)
    joint = task.fixture.joint
    moving = task.model.body(fixtures.DOOR).id
    for style in range(len(room.STYLES)):
        task.set_style(style)
        task.finish()
        mujoco.mj_resetData(task.model, data)
        for opening in np.linspace(1.0, 0.02, 25):
            data.joint(joint).qpos = opening * task.fixture.open_at
            mujoco.mj_forward(task.model, data)
            touching = [contact for contact in data.contact if moving in task.model.geom_bodyid[contact.geom]]
            assert not touching, (style, opening)
        data.joint(joint).qpos = task.fixture.open_at
        force = -math.copysign(5.0, task.fixture.open_at)
        for _ in range(1500):
            data.joint(joint).qfrc_applied = force
            mujoco.mj_step(task.model, data)
        assert -0.05 < data.joint(joint).qpos[0] / task.fixture.open_at <= 0.005, (style, data.joint(joint).qpos)
    task.set_style(0)


def test_interiors_are_free(without_robot):
    for short in ("CanToDrawerClose", "MilkToMicrowaveClose", "BottleToCabinetClose"):
        task = without_robot(short)
        data = clear(task)
        for style in range(len(room.STYLES)):
            task.set_style(style)
            task.finish()
            mujoco.mj_resetData(task.model, data)
            mujoco.mj_forward(task.model, data)
            low, high = task.interior
            frame = data.body(task.interior_body)
            middle = frame.xpos + frame.xmat.reshape(3, 3) @ ((low + high) / 2 + (0, -0.02, 0.06))
            for axis in range(3):
                for sign in (-1.0, 1.0):
                    direction = sign * frame.xmat.reshape(3, 3)[:, axis]
                    geom = np.zeros(1, np.int32)
                    group = np.array([1, 1, 0, 0, 0, 0], np.uint8)
                    reach = mujoco.mj_ray(task.model, data, middle, direction, group, 1, -1, geom)
                    inside = abs((high if sign > 0 else low)[axis] - (middle - frame.xpos)[axis])
                    if (short, axis, sign) == ("BottleToCabinetClose", 2, -1.0) or reach < 0:
                        continue  # the shelf is inside the cabinet's interior
                    assert reach > inside - 2e-3, (short, style, axis, sign)
        task.set_style(0)


def test_decorations_stand_on_the_table(without_robot):
    task = without_robot("CanToDrawerClose")
    data = clear(task)
    for style in (0, 2, 4):
        task.set_style(style)
        for name in ("toaster", "plant", "paper_towel"):
            task.place_fixture(name, 2.3, -1.5, 0.0, present=True)
            task.finish()
            mujoco.mj_forward(task.model, data)
            x, y = task.fixture_size(name)
            assert 0.05 < min(x, y) <= max(x, y) < 0.16
            down = mujoco.mj_ray(task.model, data, np.array([2.3, -1.5, 2.0]), np.array([0, 0, -1.0]),
                                 np.array([1, 0, 0, 0, 0, 0], np.uint8) if name != "toaster" else None, 1, -1,
                                 np.zeros(1, np.int32))
            assert 0.15 < 2.0 - down - MIDDLE[2] < 0.36
            task.place_fixture(name, 2.3, -1.5, 0.0, present=False)
    assert task.fixture_size("fixture") == (0.225, 0.15)


def test_styles_change_nothing_that_a_renderer_copies_once(without_robot):
    task = without_robot("CanToDrawerClose")
    names = [name for name in dir(task.model) if name.startswith(("mat_tex", "tex_", "mesh_"))]
    before = {name: np.copy(getattr(task.model, name)) for name in names}
    looks = set()
    for style in range(len(room.STYLES)):
        task.set_style(style)
        for name in names:
            np.testing.assert_array_equal(getattr(task.model, name), before[name])
        looks.add((task.model.geom_matid.tobytes(), task.model.geom_rgba.tobytes(), task.model.mat_rgba.tobytes()))
    assert len(looks) == len(room.STYLES) == 12
    task.set_style(0)


def test_robot_camera_and_options(whole):
    compiled = whole.model
    for joint in (joint for names in STATE_JOINTS.values() for joint in names):
        assert compiled.joint(joint).dofadr[0] < 39
    for site in WRIST_SITES.values():
        compiled.site(site)
    assert compiled.nu == 39
    camera = compiled.camera("egoview")
    np.testing.assert_allclose(camera.pos, (0.22982822, 0, 0.0905))
    np.testing.assert_allclose(camera.quat, (0.67667634, 0.2052051, -0.2052051, -0.67667634), atol=1e-7)
    assert camera.fovy == 77
    assert compiled.body(camera.bodyid[0]).name == "robot0_head_pitch"
    option = compiled.opt
    assert (option.timestep, option.impratio, option.cone, option.iterations) == (0.002, 20, 1, 100)
    assert (option.density, option.viscosity) == (1.2, 2e-5)
    assert (option.integrator, option.solver) == (mujoco.mjtIntegrator.mjINT_EULER, mujoco.mjtSolver.mjSOL_NEWTON)
    assert compiled.vis.quality.offsamples == 4
    whole.set_base((2.66, -2.15, 0.9))
    np.testing.assert_array_equal(compiled.body("robot0_base").pos, (2.66, -2.15, 0.9))
    # robosuite's armature 5 / (i + 1) over the robot's own 17 joints (RobotModel.__init__), hands without
    np.testing.assert_allclose(compiled.dof_armature[:4], [5, 5 / 2, 5 / 3, 5 / 7])


def test_targets_alone_have_their_extra_scale():
    shelf = model.slot_things(BY_NAME["FromTrayToTieredshelf"])
    assert shelf["container"]["tiered_shelf"].half == pytest.approx((0.119, 0.091, 0.112))
    plate = model.slot_things(BY_NAME["FromTrayToPlate"])
    assert plate["container"]["plate"].half[0] == pytest.approx(0.126)
    assert shelf["distractor_source"]["plate"].half[0] == pytest.approx(0.105)
    assert "basket" in shelf["distractor_target"] and "tiered_basket" not in shelf["distractor_target"]
    assert set(containers.TARGETS) | set(containers.SOURCES) == set(containers.CONTAINERS)
