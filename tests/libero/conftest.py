"""LIBERO's tests run inside the suite's interpreter: `make test` does it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"

if importlib.util.find_spec("libero") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def pack() -> Path:
    """An asset folder with upstream's collision geometry."""
    found = Path(os.environ.get("EVALKIT_LIBERO_ASSETS", SHARED / "data" / "libero_assets"))
    if not found.is_dir():
        pytest.skip("needs LIBERO's assets: set EVALKIT_LIBERO_ASSETS, or put the shared pack beside the checkout")
    return found.resolve()


@pytest.fixture(scope="session")
def replay_fixture() -> Path:
    """Folder of recorded episodes with known results."""
    found = SHARED / "fixtures" / "libero_replay"
    if not found.is_dir():
        pytest.skip("needs the recorded episodes in ../shared/fixtures/libero_replay")
    return found


@pytest.fixture(scope="session")
def make_env(pack):
    """make_env(suite, task, views, seed_policy): a LiberoEnv on the asset pack; this process renders."""
    from evalkit.registry import load_suite
    from evalkit.suite import EnvOptions
    from suites.libero.env import LiberoEnv

    views = tuple(load_suite("libero_goal").views)
    LiberoEnv.start_process(EnvOptions(views=views, assets=pack))

    def make(suite: str, task: int, views: tuple[str, ...] = (), seed_policy: str = "reference") -> LiberoEnv:
        return LiberoEnv(load_suite(suite), task, EnvOptions(views, seed_policy, pack))

    return make
