"""The folders that a policy is loaded from: a released checkpoint and the base model's configs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baselines.common.layouts import LAYOUTS
from baselines.dit4dit.config import look_up
from evalkit.errors import InputError

#: `checkpoint` of models with random weights: ``synthetic:gr1``, ``synthetic:libero``.
SYNTHETIC = "synthetic:"

#: The weights inside a released checkpoint folder.
WEIGHTS = Path("final_model", "pytorch_model.pt")

#: What the base folder must hold; its weights are never read.
BASE_FILES = ("transformer/config.json", "vae/config.json", "text_encoder/config.json",
              "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json")


def find_weights(checkpoint: str) -> Path:
    """The .pt file of option `checkpoint`, a folder or the file itself. Raises InputError."""
    if not checkpoint:
        names = ", ".join(f"'{SYNTHETIC}{layout.name}'" for layout in LAYOUTS)
        raise InputError("policy 'dit4dit' needs --checkpoint: a folder with config.yaml, dataset_statistics.json and "
                         f"{WEIGHTS}, such as mondo-robotics/dit4dit-model's; or {names} for random weights")
    path = Path(os.path.expanduser(checkpoint)).resolve()
    if path.is_dir():
        path = path / WEIGHTS
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist. A DiT4DiT checkpoint is a folder with config.yaml, "
                         f"dataset_statistics.json and {WEIGHTS}; give that folder, or a .pt two levels below it")
    return path


def find_base(base_model: str, config: Mapping[str, Any]) -> Path:
    """The base folder: option `base_model`, else the one that config.yaml names if it is here. Raises InputError."""
    cosmos = look_up(config, "framework.cosmos25")
    named = str(cosmos.get("base_model") or cosmos.get("model_id_or_path") or "")
    folder = Path(os.path.expanduser(base_model or named)).resolve()
    missing = [file for file in BASE_FILES if not (folder / file).is_file()]
    if missing:
        got = f"{folder} lacks {', '.join(missing)}" if base_model else f"config.yaml names {named!r}, not found here"
        raise InputError(f"policy 'dit4dit' needs option base_model: {got}.\nGive a folder of "
                         "nvidia/Cosmos-Predict2.5-2B in diffusers' layout with transformer, vae and text_encoder "
                         "configs, tokenizer and scheduler; its weights are not needed")
    return folder
