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


PACK = Path(os.environ.get("EVALKIT_LIBERO_ASSETS", SHARED / "data" / "libero_assets"))


@pytest.fixture(scope="session")
def pack() -> Path:
    """An asset folder with upstream's collision geometry."""
    if not PACK.is_dir():
        pytest.skip("needs LIBERO's assets: set EVALKIT_LIBERO_ASSETS, or put the shared pack beside the checkout")
    return PACK.resolve()


@pytest.fixture(scope="session")
def assets(tmp_path_factory) -> Path:
    """The pack where there is one, else stand-ins: for what must hold on any assets."""
    if PACK.is_dir():
        return PACK.resolve()
    from suites.libero import standin

    folder = tmp_path_factory.mktemp("stand-in")
    standin.generate(folder)
    return folder


@pytest.fixture(scope="session")
def replay_fixture() -> Path:
    """Folder of recorded episodes with known results."""
    found = SHARED / "fixtures" / "libero_replay"
    if not found.is_dir():
        pytest.skip("needs the recorded episodes in ../shared/fixtures/libero_replay")
    return found


@pytest.fixture(scope="session")
def make_env(assets):
    """make_env(suite, task, views, seed_policy): a LiberoEnv on `assets`; this process renders."""
    from evalkit.registry import load_suite
    from evalkit.suite import EnvOptions
    from suites.libero.env import LiberoEnv

    views = tuple(load_suite("libero_goal").views)
    LiberoEnv.start_process(EnvOptions(views=views, assets=assets))

    def make(suite: str, task: int, views: tuple[str, ...] = (), seed_policy: str = "reference") -> LiberoEnv:
        return LiberoEnv(load_suite(suite), task, EnvOptions(views, seed_policy, assets=assets))

    return make
