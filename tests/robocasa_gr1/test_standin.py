"""RoboCasa-GR1's stand-in assets: reproducible, complete, and good enough for upstream's code to place and hold things.

    EVALKIT_ROBOCASA_SRC=<checkout> <suite interpreter> -m pytest tests/robocasa_gr1/test_standin.py

Upstream's code runs in processes of its own: it builds one task class a process.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suites.robocasa_gr1 import checkout, standin
from suites.robocasa_gr1.standin import inventory

pytestmark = pytest.mark.simulator

ROOT = Path(__file__).parents[2]
SOURCE = os.environ.get(checkout.VARIABLE)
SUBSET = ("pan", "pot", "pear", "croissant", "tiered_shelf")

needs_upstream = pytest.mark.skipif(
    not SOURCE, reason=f"needs upstream's code: set {checkout.VARIABLE} to a checkout ({checkout.CLONE_COMMAND})")


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """A copy of upstream's code with all stand-ins."""
    folder = tmp_path_factory.mktemp("stand-in") / "checkout"
    checkout.copy(Path(SOURCE), folder)
    standin.generate(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def upstream(folder: Path, code: str) -> Any:
    """What `code` prints last, as JSON, in a process of its own that imports upstream from `folder`."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "MUJOCO_GL": "disable", "PYTHONDONTWRITEBYTECODE": "1",
                   "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_import_is_light():
    heavy = ("numpy", "PIL", "mujoco", "robosuite")
    code = (f"import sys, suites.robocasa_gr1.standin.inventory\n"
            f"print([name for name in {heavy} if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_tables_are_those_of_the_inventory():
    from suites.robocasa_gr1.standin import fixtures, objects, rooms

    assert set(objects.OBJECTS) == set(inventory.SCALES)
    assert set(rooms.PICTURES) == set(inventory.TEXTURES)
    named = {f"microwaves/{name}" for name in fixtures.MICROWAVES} | {f"toasters/{name}" for name in fixtures.TOASTERS}
    assert named == {name for name in inventory.FIXTURES if name.startswith(("microwaves", "toasters"))}


@pytest.mark.parametrize("category", sorted(inventory.SCALES))
def test_drawn_things_fill_the_box_that_they_are_placed_by(category):
    """What is seen is as large as what is felt, to a third of the way in and a centimetre out, handles aside."""
    from suites.robocasa_gr1.standin import objects

    thing = objects.OBJECTS[category](np.random.default_rng(0))
    assert {solid.kind for solid in thing.solids} <= {"box", "cylinder", "ellipsoid"}, "upstream scales 2 or 3 sizes"
    vertices = np.concatenate([part.mesh.vertices for part in thing.parts])
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    assert (low < -0.66 * np.array(thing.half)).all() and (high > 0.66 * np.array(thing.half)).all()
    outside = np.maximum(high, -low) - np.array(thing.half)
    limits = {"pan": (0.13, 0.01, 0.01), "pot": (0.03, 0.03, 0.01), "cup": (0.02, 0.01, 0.01)}
    assert (outside <= limits.get(category, (0.01, 0.01, 0.01))).all(), f"sticks out by {outside} m"


@needs_upstream
def test_generation_is_deterministic(tmp_path):
    trees = []
    for name in ("first", "second"):
        checkout.copy(Path(SOURCE), tmp_path / name)
        standin.generate(tmp_path / name, SUBSET)
        trees.append(files(tmp_path / name))
    first, second = trees
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []


@needs_upstream
def test_generation_leaves_upstreams_files_alone(generated):
    assert checkout.differences(generated) == {}


@needs_upstream
def test_generation_refuses_a_filled_checkout(generated, tmp_path):
    with pytest.raises(FileExistsError, match="there already"):
        standin.generate(generated)
    with pytest.raises(FileNotFoundError, match="not a checkout"):
        standin.generate(tmp_path)


@needs_upstream
def test_nothing_is_missing(generated):
    assets = generated / standin.ASSETS
    assert inventory.missing(assets) == []
    assert all(len(shelf.models(assets)) == 4 for shelf in inventory.shelves())
    assert sum(path.stat().st_size for path in assets.rglob("*") if path.is_file()) < 40e6, "meant to be small"


@needs_upstream
def test_scales_and_registries_are_upstreams():
    """Upstream's table, read without running it."""
    source = (Path(SOURCE) / "robocasa/models/objects/kitchen_objects.py").read_text()
    table = next(node.value for node in ast.parse(source).body
                 if isinstance(node, ast.Assign) and node.targets[0].id == "OBJ_CATEGORIES")
    categories = {entry.arg: {part.arg: part.value for part in entry.value.keywords} for entry in table.keywords}
    for category, scales in inventory.SCALES.items():
        theirs = {}
        for registry in set(inventory.REGISTRIES) & categories[category].keys():
            options = {part.arg: part.value for part in categories[category][registry].keywords}
            theirs[registry] = ast.literal_eval(options["scale"]) if "scale" in options else 1.0
        assert theirs == scales, category


MODELS = """
import json
import robocasa
from robocasa.models.objects.kitchen_object_utils import OBJ_CATEGORIES, OBJ_GROUPS
from suites.robocasa_gr1.standin import inventory
counts = {f"{s.registry}/{s.category}": len(OBJ_CATEGORIES[s.category][s.registry].mjcf_paths)
          for s in inventory.shelves()}
drawn = [name for name in OBJ_GROUPS["vegetable"]
         if any(registry in OBJ_CATEGORIES[name] for registry in inventory.REGISTRIES)]
print(json.dumps([counts, drawn]))
"""


@needs_upstream
def test_upstream_finds_every_model(generated):
    counts, vegetables = upstream(generated, MODELS)
    assert counts == dict.fromkeys(counts, 4) and len(counts) == 44
    assert set(vegetables) <= set(inventory.SCALES)


STYLES = """
import json, os
import numpy as np
import robocasa
from robocasa.models import assets_root
from robocasa.models.scenes.scene_builder import create_tabletop_fixtures
root = os.path.realpath(assets_root)
named = set()
for layout in (0, 2, 4, 5):
    for style in range(12):
        for fixture in create_tabletop_fixtures(layout, style, np.random.default_rng(0)).values():
            named |= {os.path.realpath(e.get("file")) for e in fixture.asset.iter() if e.get("file")}
print(json.dumps([[os.path.relpath(path, root) for path in sorted(named)],
                  [path for path in sorted(named) if not os.path.isfile(path)]]))
"""


@needs_upstream
def test_every_style_names_what_the_inventory_holds(generated):
    """All 12 styles with the four layouts of the tasks; toasters and the plant are placed by the tasks."""
    named, absent = upstream(generated, STYLES)
    assert absent == []
    assert {path for path in named if path.startswith("textures/")} == {f"textures/{n}" for n in inventory.TEXTURES}
    models = {path.removeprefix("fixtures/").split("/visuals/")[0] for path in named if "/visuals/" in path}
    assert models == {n for n in inventory.FIXTURES if not n.startswith(("toasters", "accessories/plants"))}


RESET = """
import json
import gymnasium
import numpy as np
import robocasa
from robocasa.utils import gym_utils
env = gymnasium.make("gr1_unified/PnPCanToDrawerClose_GR1ArmsAndWaistFourierHands_Env", enable_render=False, seed=0,
                     disable_env_checker=True).unwrapped
env.env.rng = np.random.default_rng(1)
env.reset(seed=1)
body = env.env.sim.model.body_name2id(env.env.objects["obj"].root_body)
position = lambda: np.array(env.env.sim.data.body_xpos[body])
settled = position()
for _ in range(50):
    env.env.sim.step()
placed, _, thing = env.env.object_placements["obj"]
print(json.dumps([list(placed), list(settled), list(position()), float(thing.bottom_offset[2])]))
"""


@needs_upstream
def test_an_object_stays_where_it_is_placed(generated):
    """Seed 1 has no hand over the can: it sinks by the centimetre that upstream lifts it, and stands on the table."""
    placed, settled, later, bottom = (np.array(value) for value in upstream(generated, RESET))
    np.testing.assert_allclose(settled[:2], placed[:2], atol=0.005)
    assert settled[2] + bottom == pytest.approx(0.92, abs=0.003)
    np.testing.assert_allclose(later, settled, atol=0.002)
