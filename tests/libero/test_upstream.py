"""What evalkit says of LIBERO is what upstream says."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from evalkit.registry import load_suite
from suites.libero import fixtures, upstream
from suites.libero.suite import MAX_STEPS

pytestmark = pytest.mark.simulator


@pytest.mark.parametrize("name", MAX_STEPS)
def test_tasks_are_upstreams(name):
    """tasks.csv lists upstream's tasks in upstream's order, and each has its BDDL file and 50 init states."""
    tasks = load_suite(name).tasks
    assert tuple(task.name for task in tasks) == upstream.task_names(name)
    for task in tasks:
        assert upstream.bddl_path(name, task.name).is_file()
        assert len(upstream.init_states(name, task.name)) == load_suite(name).episodes_per_task == 50


def test_libero_90_is_keyed_by_index():
    """libero_90 has 90 tasks and 74 distinct instructions: language cannot be a key."""
    tasks = load_suite("libero_90").tasks
    assert (len(tasks), len({task.instruction for task in tasks})) == (90, 74)
    assert len({task.name for task in tasks}) == 90


def test_import_asks_nothing(tmp_path, assets):
    """A first import without config file neither prompts nor fails, and leaves torch alone."""
    code = ("import sys, pathlib; from suites.libero import upstream; from evalkit.gl import select_gl; "
            f"select_gl('disable'); upstream.import_upstream(pathlib.Path({str(assets)!r}), False); "
            "import libero.libero.envs; assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env={**__import__("os").environ, "EVALKIT_CACHE": str(tmp_path), "HOME": str(tmp_path)},
                          check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / ".libero").exists()


def test_init_files_cannot_run_code():
    """An init file that pickles anything but an array is refused."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(print))
    with zipfile.ZipFile(stream) as archive, pytest.raises(pickle.UnpicklingError, match="may not contain"):
        upstream._ArrayUnpickler(io.BytesIO(archive.read("archive/data.pkl"))).load()


def test_axis_angle_is_robosuites(make_env):
    """Rotation vectors equal robosuite's bit for bit, beyond pi too, and the quaternion is left as it was."""
    import robosuite.utils.transform_utils as transforms

    from suites.libero.env import axis_angle

    generator = np.random.default_rng(0)
    random = generator.normal(size=(200, 4))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    for quaternion in [*random, np.array([0, 0, 0, 1.0]), np.array([0, 0, 1e-4, 1.0000001])]:
        before = quaternion.copy()
        ours = axis_angle(quaternion)
        assert np.array_equal(quaternion, before)
        assert np.array_equal(ours, transforms.quat2axisangle(before))


def test_fixture_table_covers_every_task():
    """fixtures.npz has 50 rows for each of the 130 tasks, and object tasks have no fixtures."""
    table = fixtures.load_table()
    for name in MAX_STEPS:
        for task in load_suite(name).tasks:
            assert table[f"{name}/{task.index:02d}"].shape[::2] == (50, 7)
    assert all(table[f"libero_object/{task:02d}"].shape == (50, 0, 7) for task in range(10))
    assert len(table) == 130
