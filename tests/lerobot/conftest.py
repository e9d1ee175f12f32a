"""Policy lerobot's tests run inside its interpreter: ``evalkit env run lerobot -m pytest tests/lerobot``."""

import importlib.util

import pytest

if importlib.util.find_spec("lerobot") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from baselines.lerobot.runtime import import_torchvision
    import_torchvision()


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """``saved(kind, **changes)``: the folder of such a policy, made once."""
    from tiny import save_policy
    made = {}

    def save(kind, **changes):
        key = repr((kind, sorted(changes.items())))
        if key not in made:
            made[key] = save_policy(tmp_path_factory.mktemp(kind), kind, **changes)
        return made[key]

    return save
