"""Upstream's LIBERO, imported without its prompt, without torch and without its log file.

Import this module's functions only in the suite's interpreter. `import_upstream` must be the first import of
robosuite and libero in the process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import pickle
import re
import sys
import zipfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from evalkit.paths import cache_folder
from evalkit.records import write_atomically


def import_upstream(assets: Path, draws: bool) -> None:
    """Import robosuite 1.4 and LIBERO with `assets` as asset folder.

    `draws`: whether this process renders; without it no OpenGL library is loaded at all.
    """
    import_macros(draws)
    write_config()
    import libero.libero as upstream

    if upstream._assets_path_cache not in (None, str(assets)):
        raise RuntimeError(f"this process already uses the LIBERO assets in {upstream._assets_path_cache}")
    upstream._assets_path_cache = str(assets)  # hf-libero asks the hub unless this is set


def import_macros(draws: bool) -> None:
    """Load robosuite.macros before robosuite: it would open a log file in the temporary folder and warn thrice."""
    if "robosuite.macros" in sys.modules:
        return
    macros = load_by_path("robosuite.macros", package_folder("robosuite") / "macros.py")
    macros.FILE_LOGGING_LEVEL = None
    macros.CONSOLE_LOGGING_LEVEL = "ERROR"
    if not draws:
        macros.MUJOCO_GPU_RENDERING = False  # else robosuite overrides MUJOCO_GL=disable with egl
    sys.modules["robosuite.macros"] = macros


def write_config() -> None:
    """Own the config file for which LIBERO otherwise asks on stdin at its first import."""
    root = package_folder("libero") / "libero"
    key = hashlib.sha256(str(root).encode()).hexdigest()[:10]  # one folder for each installed LIBERO
    folder = cache_folder() / f"libero-config-{key}"
    paths = {"benchmark_root": root, "bddl_files": root / "bddl_files", "init_states": root / "init_files",
             "datasets": folder / "datasets", "assets": folder / "assets"}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "config.yaml", "".join(f"{key}: {value}\n" for key, value in paths.items()))
    os.environ["LIBERO_CONFIG_PATH"] = str(folder)


def package_folder(name: str) -> Path:
    """Folder of an installed package, without importing it."""
    return Path(importlib.util.find_spec(name).submodule_search_locations[0])


def load_by_path(name: str, path: Path) -> ModuleType:
    """Import one file without its package."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def task_names(suite: str) -> tuple[str, ...]:
    """Upstream's task names of `suite` in upstream's order (its benchmark package would import torch)."""
    path = package_folder("libero") / "libero" / "benchmark" / "libero_suite_task_map.py"
    return tuple(load_by_path("libero_suite_task_map", path).libero_task_map[suite])


def instruction(name: str) -> str:
    """The instruction of a task: its name without the ``KITCHEN_SCENE3_`` in front, as upstream's benchmark has it."""
    return re.sub(r"^[A-Z_]+SCENE\d+_", "", name).replace("_", " ")


def bddl_path(suite: str, name: str) -> Path:
    """The task's BDDL file."""
    return package_folder("libero") / "libero" / "bddl_files" / suite / f"{name}.bddl"


@cache
def init_states(suite: str, name: str) -> np.ndarray:
    """Stored init states of a task: (50, 1 + nq + nv) float64, flattened time, qpos, qvel."""
    path = package_folder("libero") / "libero" / "init_files" / suite / f"{name}.pruned_init"
    with zipfile.ZipFile(path) as archive:  # written by torch.save, but it holds one numpy array
        member = next(entry for entry in archive.namelist() if entry.endswith("/data.pkl"))
        return _ArrayUnpickler(io.BytesIO(archive.read(member))).load()


class _ArrayUnpickler(pickle.Unpickler):
    """Loads a pickled numpy array and refuses everything else."""

    ALLOWED = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"),
                         ("_codecs", "encode")})

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"an init file may not contain {module}.{name}")
        if module == "numpy.core.multiarray":  # renamed in numpy 2
            from numpy._core import multiarray

            return getattr(multiarray, name)
        return super().find_class(module, name)
