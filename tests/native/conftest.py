"""Tests of the native policies run inside their interpreter: ``evalkit env run native -m pytest tests/native``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from evalkit.paths import PROJECT

SHARED = PROJECT.parent / "shared" / "fixtures"

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("diffusers") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The recorded numbers were made by one thread."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """Folder of upstream's recorded runs on tiny models."""
    if not SHARED.is_dir():
        pytest.skip("needs the recorded runs of upstream in ../shared/fixtures, beside the checkout")
    return SHARED
