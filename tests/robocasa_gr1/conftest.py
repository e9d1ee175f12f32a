"""RoboCasa-GR1's tests run inside the suite's interpreter: `make test` does it.

Those of upstream's scenes need upstream's code: EVALKIT_ROBOCASA_SRC names a checkout.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.gl import choose_gl, select_gl
from evalkit.paths import PROJECT

if importlib.util.find_spec("robosuite") is None or importlib.util.find_spec("libero") is not None:
    collect_ignore_glob = ["test_*.py"]
else:
    select_gl(choose_gl().name)  # before any test file imports mujoco, which picks its backend then

#: Of every check's process; tests of blind environments change this process's own.
ENVIRONMENT = dict(os.environ)


@pytest.fixture(scope="session")
def upstream() -> Path:
    """A copy of upstream's checkout filled with stand-in assets."""
    if not os.environ.get("EVALKIT_ROBOCASA_SRC"):
        pytest.skip("needs upstream's code: set EVALKIT_ROBOCASA_SRC to a checkout of robocasa-gr1-tabletop-tasks")
    from evalkit.registry import load_suite
    from suites.robocasa_gr1.assets import resolve

    return resolve(load_suite("robocasa_gr1"), "stand-in", "upstream", [], Path(sys.executable)).folder


@pytest.fixture(scope="session")
def run_check():
    """run_check(name, scenes, folder, task, *more): a check of checks.py in a process of its own; its output."""

    def run(name: str, scenes: str, folder: Path | str, task: int, *more: str) -> str:
        command = [sys.executable, "-m", "tests.robocasa_gr1.checks", name, scenes, str(folder), str(task), *more]
        done = subprocess.run(command, cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
                              check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
