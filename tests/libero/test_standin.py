"""The stand-in assets: reproducible, complete, and alike to upstream's in everything that a task depends on.

    <suite interpreter> -m pytest tests/libero/test_standin.py

Comparisons with upstream's own collision geometry use the fixture `pack` and are skipped where it finds none.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from evalkit.gl import choose_gl, select_gl
from suites.libero import standin, upstream
from suites.libero.standin.fixtures import FIXTURES
from suites.libero.standin.objects import THINGS
from suites.libero.standin.scenes import scenes

if TYPE_CHECKING:
    import mujoco

pytestmark = pytest.mark.simulator

ROOT = Path(__file__).parents[2]
PAPER_SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
TASKS = [(suite, index) for suite in PAPER_SUITES for index in range(10)]
WAIT = [0, 0, 0, 0, 0, 0, -1]  # ten of these precede the first look of a policy

SIZE_TOLERANCE = 0.15  # of upstream's extent, each axis
SIZE_FLOOR = 0.002  # m; an extent below 13 mm (a packet's height) may differ by this
REST_TOLERANCE = 0.001  # m; how far the underside may be from upstream's, or init states would start in the table
SETTLE_TOLERANCE = 0.03  # m; how far an object may end up from where it ends on upstream's geometry

#: objects whose own frame has y up
Y_UP = (
    "alphabet_soup", "ketchup", "milk", "new_salad_dressing", "orange_juice", "salad_dressing", "tomato_sauce",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Built:
    """What upstream's code makes of a task on one asset tree, and how far objects move in ten wait steps."""

    bodies: list[str]
    joints: list[tuple]
    sites: list[tuple]
    dimensions: tuple[int, int, int]
    moved: dict[str, np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def gl() -> str | None:
    """The backend that draws here, None if none does; selected before the first import of mujoco."""
    try:
        backend = choose_gl().name
    except RuntimeError:
        backend = None
    if "mujoco" not in sys.modules:
        select_gl(backend or "disable")
    return backend


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Path:
    """The generated tree."""
    target = tmp_path_factory.mktemp("standin") / "assets"
    standin.generate(target)
    return target


def files(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def object_paths() -> dict[str, str]:
    """Name -> relative path of every object's and fixture's file."""
    flat = {name: f"{thing.folder}/{name}.xml" for name, thing in FIXTURES.items()}
    return flat | {name: f"{thing.folder}/{name}/{name}.xml" for name, thing in THINGS.items()}


def solid_model(path: Path) -> mujoco.MjModel:
    """The model of one file without anything that is only drawn."""
    import mujoco

    root = ET.parse(path).getroot()
    for tag in ("compiler", "asset", "size"):
        for element in root.findall(tag):
            root.remove(element)
    ET.SubElement(root, "compiler", angle="radian", inertiagrouprange="0 0")
    for parent in list(root.iter()):
        for geom in parent.findall("geom"):
            geom.attrib.pop("material", None)
            drawn = geom.get("group") == "1" or geom.get("class") == "microwave"
            if parent.tag != "default" and drawn and geom.get("type") != "plane":
                parent.remove(geom)
    return mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))


def bounds(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (m) of all collision geoms but planes, with the joints at zero."""
    import mujoco

    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    low, high = [], []
    for geom in range(model.ngeom):
        half, kind = np.array(model.geom_size[geom]), model.geom_type[geom]
        if kind == mujoco.mjtGeom.mjGEOM_PLANE or not (model.geom_contype[geom] or model.geom_conaffinity[geom]):
            continue
        if kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
            half = np.array([half[0], half[0], half[0] + half[1]])
        extent = np.abs(data.geom_xmat[geom].reshape(3, 3)) @ half
        low.append(data.geom_xpos[geom] - extent)
        high.append(data.geom_xpos[geom] + extent)
    return np.min(low, axis=0), np.max(high, axis=0)


def build(folder: Path, suite: str, index: int) -> Built:
    """Construct a task on an asset tree with upstream's code, start init state 0, wait ten steps."""
    upstream.import_macros(draws=os.environ.get("MUJOCO_GL") != "disable")
    upstream.write_config()
    import libero.libero
    from libero.libero.envs.env_wrapper import ControlEnv

    before, libero.libero._assets_path_cache = libero.libero._assets_path_cache, str(folder)
    try:
        name = upstream.task_names(suite)[index]
        env = ControlEnv(
            bddl_file_name=str(upstream.bddl_path(suite, name)),
            has_offscreen_renderer=False,
            use_camera_obs=False,
        )
        np.random.seed(7)
        env.env.reset()
        env.set_init_state(upstream.init_states(suite, name)[0])
        where = {n: env.env.obj_body_id[n] for n in env.env.objects_dict}
        start = {n: np.array(env.sim.data.body_xpos[b]) for n, b in where.items()}
        for _ in range(10):
            env.step(WAIT)
        moved = {n: np.array(env.sim.data.body_xpos[b]) - start[n] for n, b in where.items()}
        built = describe(env.sim.model._model, moved)
        env.close()
        return built
    finally:
        libero.libero._assets_path_cache = before


def describe(model: mujoco.MjModel, moved: dict[str, np.ndarray]) -> Built:
    """The names and the layout of a compiled model."""
    import mujoco

    def name(kind: str, index: int) -> str:
        return mujoco.mj_id2name(model, getattr(mujoco.mjtObj, f"mjOBJ_{kind}"), index)

    def rounded(values) -> tuple:
        return tuple(np.round(values, 4) + 0.0)

    return Built(
        bodies=[name("BODY", i) for i in range(model.nbody)],
        joints=[
            (name("JOINT", i), int(model.jnt_type[i]), int(model.jnt_qposadr[i]),
             rounded(model.jnt_axis[i]), rounded(model.jnt_range[i]))
            for i in range(model.njnt)
        ],
        sites=[
            (name("SITE", i), int(model.site_type[i]), rounded(model.site_size[i]),
            rounded(model.site_pos[i])) for i in range(model.nsite)
        ],
        dimensions=(model.nq, model.nv, model.nu),
        moved=moved,
    )  # fmt: skip


def test_generation_is_deterministic(assets, tmp_path):
    standin.generate(tmp_path / "again")
    first, second = files(assets), files(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []
    assert sum(len(content) for content in first.values()) < 5e6, "the tree is meant to be small"


def test_generation_refuses_a_folder_with_something_in_it(assets):
    with pytest.raises(FileExistsError, match="not empty"):
        standin.generate(assets)


def test_import_is_light():
    heavy = ("numpy", "PIL", "mujoco", "robosuite")
    code = f"import sys, suites.libero.standin; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("suite", [*PAPER_SUITES, "libero_90"])
def test_every_category_that_tasks_name_has_a_stand_in(suite):
    places = {"table", "floor", "kitchen_table", "living_room_table", "study_table"}
    known = places | THINGS.keys() | FIXTURES.keys()
    short = []
    for index, name in enumerate(upstream.task_names(suite)):
        text = upstream.bddl_path(suite, name).read_text()
        sections = re.findall(r"\(:(?:fixtures|objects)(.*?)\n\s*\)", text, re.DOTALL)
        categories = set(re.findall(r" - (\w+)", " ".join(sections)))
        assert categories, f"{suite}/{index}: no objects found in its definition"
        if categories - known:
            short.append(index)
    assert tuple(short) == tuple(standin.uncovered_tasks().get(suite, ()))


def test_every_file_that_is_named_exists(assets):
    for path in assets.rglob("*.xml"):
        for element in ET.parse(path).iter():
            if element.get("file"):
                assert (path.parent / element.get("file")).is_file(), f"{path.name} names {element.get('file')}"


@pytest.mark.parametrize("name", sorted(object_paths()))
def test_sizes_are_close_to_upstreams(assets, pack, name):
    path = object_paths()[name]
    low, high = bounds(solid_model(pack / path))
    our_low, our_high = bounds(solid_model(assets / path))
    allowed = np.maximum(SIZE_TOLERANCE * (high - low), SIZE_FLOOR)
    excess = np.abs((our_high - our_low) - (high - low)) > allowed
    assert not excess.any(), f"{name}: extents {our_high - our_low} m, upstream's {high - low} m"
    shift = np.abs((our_low + our_high) - (low + high)) / 2
    assert (shift <= allowed / 2 + SIZE_FLOOR).all(), f"{name}: its middle is off by {shift} m"


@pytest.mark.parametrize("name", sorted(object_paths()))
def test_objects_weigh_the_same_and_rest_at_the_same_height(assets, pack, name):
    path = object_paths()[name]
    theirs, ours = solid_model(pack / path), solid_model(assets / path)
    upright = 1 if name in Y_UP else 2
    assert abs(bounds(theirs)[0][upright] - bounds(ours)[0][upright]) <= REST_TOLERANCE
    if name in THINGS:
        assert ours.body_subtreemass[0] == pytest.approx(theirs.body_subtreemass[0], rel=0.02)


@pytest.mark.parametrize("scene", sorted(scenes()))
def test_tables_stand_where_upstreams_do(assets, pack, scene):
    import mujoco

    theirs, ours = solid_model(pack / "scenes" / scene), solid_model(assets / "scenes" / scene)
    cameras = [[mujoco.mj_id2name(m, mujoco.mjtObj.mjOBJ_CAMERA, i) for i in range(m.ncam)] for m in (theirs, ours)]
    assert cameras[0] == cameras[1]
    if scene != "libero_floor_base_style.xml":
        (low, high), (our_low, our_high) = bounds(theirs), bounds(ours)
        np.testing.assert_allclose(our_low, low, atol=0.01)
        np.testing.assert_allclose(our_high[:2], high[:2], atol=0.01)
        assert our_high[2] == pytest.approx(high[2], abs=1e-4), "objects in the init states lie on this height"


@pytest.mark.parametrize(
    "fixture, joint, push, opened",
    [
        *((f"{wood}_cabinet", f"{level}_level", -30, -0.16)
          for wood in ("wooden", "white") for level in ("top", "middle", "bottom")),
        ("microwave", "microjoint", -2, -2.094),
        ("flat_stove", "button", 10, 2.1),
    ],
)  # fmt: skip
def test_fixtures_open_fully_and_close_again(assets, fixture, joint, push, opened):
    import mujoco

    model = mujoco.MjModel.from_xml_path(str(assets / object_paths()[fixture]))
    data = mujoco.MjData(model)
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, joint)

    def pushed(force: float) -> float:
        data.qfrc_applied[model.jnt_dofadr[index]] = force  # N, or N m on a hinge
        mujoco.mj_step(model, data, 3000)
        return float(data.qpos[model.jnt_qposadr[index]])

    assert abs(pushed(0.0)) < 0.005, "moves by itself"
    assert pushed(push) == pytest.approx(opened, abs=0.02)
    assert pushed(-push) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("suite, index", TASKS)
def test_task_runs_as_on_upstreams_assets(assets, request, suite, index):
    ours = build(assets, suite, index)
    states = upstream.init_states(suite, upstream.task_names(suite)[index])
    assert states.shape[1] == 1 + ours.dimensions[0] + ours.dimensions[1]
    for thing, shift in ours.moved.items():
        assert np.linalg.norm(shift[:2]) < SETTLE_TOLERANCE, f"{thing} is thrown: {shift} m in 10 wait steps"

    theirs = build(request.getfixturevalue("pack"), suite, index)  # without it, the rest is skipped
    assert ours.bodies == theirs.bodies
    assert ours.joints == theirs.joints
    assert ours.sites == theirs.sites
    assert ours.dimensions == theirs.dimensions
    for thing, shift in theirs.moved.items():
        apart = np.linalg.norm(ours.moved[thing] - shift)
        assert apart < SETTLE_TOLERANCE, f"{thing} moves {ours.moved[thing]} m, on upstream's assets {shift} m"


def test_a_picture_shows_the_scene(assets, gl):
    """One view of one task has light and several colours."""
    if gl is None:
        pytest.skip("no OpenGL backend can draw here: apt-get install -y libegl1 libgl1-mesa-dri")
    environment = {**os.environ, "MUJOCO_GL": gl, "PYOPENGL_PLATFORM": gl}
    command = [sys.executable, "-c", SMOKE, str(assets)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    mean, colours = (float(value) for value in done.stdout.split()[-2:])
    assert 20 < mean < 235
    assert colours > 100


SMOKE = """
import sys
import numpy as np
from pathlib import Path
from suites.libero import upstream
upstream.import_upstream(Path(sys.argv[1]), draws=True)
from libero.libero.envs.env_wrapper import OffScreenRenderEnv
name = upstream.task_names("libero_goal")[0]
bddl = str(upstream.bddl_path("libero_goal", name))
env = OffScreenRenderEnv(bddl_file_name=bddl, camera_heights=128, camera_widths=128)
env.env.reset()
picture = env.set_init_state(upstream.init_states("libero_goal", name)[0])["agentview_image"]
env.close()
print(picture.mean(), len(np.unique(picture.reshape(-1, 3) // 16, axis=0)))
"""
