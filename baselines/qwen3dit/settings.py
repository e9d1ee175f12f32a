"""What a checkpoint's folder says before anything is loaded: config.yaml, the file of weights, the base VLM."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines.common.config import check_ranges, read_config, reading
from evalkit.errors import InputError, unknown
from evalkit.parsing import parse_json, read_text

#: `framework.name` of a config -> the head it has. starVLA's own, and evalkit's name for the paper's baseline.
FRAMEWORKS = {"QwenGR00T": "starvla", "Qwen3DiT": "reconstruction"}

#: Head -> whether time 1 is noise (the paper says that Qwen3DiT has DiT4DiT's action DiT) or time 0 (starVLA).
NOISE_AT_ONE = {"reconstruction": True, "starvla": False}

#: Attention heads of the action DiT by `action_model_type` (`DiTConfig` in starVLA's GR00T_ActionHeader.py).
ATTENTION_HEADS = {"DiT-B": 12, "DiT-L": 32}

#: What both heads are; upstream knows other values, and none of its released configurations has them.
FIXED = {"interleave_self_attention": True, "norm_type": "ada_norm", "positional_embeddings": None}

#: Files of a base VLM that are read (its weights are not: a checkpoint holds all).
BASE_FILES = ("config.json", "preprocessor_config.json", "tokenizer_config.json")

#: `model_type` of their config.json.
MODEL_TYPE = "qwen3_vl"


#: How a checkpoint's folder looks, for whoever gives another.
FOLDER = ("A checkpoint lies one folder below config.yaml and dataset_statistics.json "
          "(run/checkpoints/steps_<N>_pytorch_model.pt). Copy the run's folder whole")


@dataclass(frozen=True)
class Settings:
    """A checkpoint's configuration, as far as it decides an action.

    framework: `framework.name`. weights: the file of tensors; None for synthetic weights. base_vlm: folder of the VLM's
    configuration and processor files; None for synthetic text. prompt: sentence with ``{instruction}``, None: the bare
    instruction. image_size: (height, width) that the server resizes views to, None: left as they come. state_dim: of
    the encoded state as config.yaml tells (0: no state). include_state: whether training saw a state, None: not told.
    horizon, attention_heads, steps, buckets: of the head, see HeadConfig.
    """

    framework: str
    weights: Path | None
    base_vlm: Path | None
    prompt: str | None
    image_size: tuple[int, int] | None
    state_dim: int
    include_state: bool | None
    horizon: int
    attention_heads: int
    steps: int
    buckets: int


def find_weights(checkpoint: str) -> Path:
    """The file of tensors that option `checkpoint` means: itself, or the only one in a run's folder.

    Raises InputError when there is none or more than one.
    """
    path = Path(os.path.expanduser(checkpoint))
    if path.is_file():
        return path
    found = sorted([*path.glob("checkpoints/steps_*_pytorch_model.pt"), *path.glob("final_model/pytorch_model.pt")])
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{path} holds {len(found)} checkpoints; give one of them:\n"
                         + "\n".join(f"  {file}" for file in found))
    raise InputError(f"option checkpoint of policy 'qwen3dit' is {checkpoint!r}: no such file, and no folder with "
                     "checkpoints/steps_<N>_pytorch_model.pt or final_model/pytorch_model.pt.\nGive a run's folder in "
                     "starVLA's layout or its .pt file; synthetic:gr1 or synthetic:libero for latency alone.")


def read_settings(weights: Path, base_vlm: str) -> Settings:
    """Settings of the run that `weights` belong to (config.yaml in the folder above theirs); base_vlm: "" takes the
    folder that config.yaml names. Raises InputError naming what is missing or not supported."""
    source = weights.resolve().parents[1] / "config.yaml"
    config = read_config(source, FOLDER)
    with reading(source):
        settings = _settings(config, weights, base_vlm, source)
    check_ranges(vars(settings), source)
    return settings


def _settings(config: Mapping[str, Any], weights: Path, base_vlm: str, source: Path) -> Settings:
    name = _get(config, "framework.name", source)
    if name not in FRAMEWORKS:
        raise unknown(f"framework.name in {source}", name, FRAMEWORKS)
    head = _get(config, "framework.action_model", source)
    data = _get(config, "datasets.vla_data", source)
    _check_head(head, source)
    image_size = config["framework"].get("obs_image_size") or data.get("obs_image_size")  # upstream moved the key
    return Settings(
        framework=name, weights=weights,
        base_vlm=find_base(base_vlm, str(config["framework"].get("qwenvl", {}).get("base_vlm", "")), source),
        prompt=data.get("CoT_prompt"), image_size=tuple(image_size) if image_size else None,
        state_dim=int(head.get("state_dim") or 0), include_state=data.get("include_state"),
        horizon=_horizon(head, source), attention_heads=_attention_heads(head, source),
        steps=int(_get(config, "framework.action_model.num_inference_timesteps", source)),
        buckets=int(_get(config, "framework.action_model.num_timestep_buckets", source)))


def find_base(given: str, configured: str, source: Path) -> Path:
    """The base VLM's folder: `given`, else the one `configured` in `source`. Raises InputError if a file is missing."""
    folder = Path(os.path.expanduser(given or configured))
    missing = [file for file in BASE_FILES if not (folder / file).is_file()]
    if not missing:
        return _check_model_type(folder)
    why = f"option base_vlm is {given!r}" if given else f"{source} names {configured!r} as base_vlm"
    raise InputError(f"{why}, which lacks {', '.join(missing)}.\nGive base_vlm=FOLDER with the configuration, "
                     "tokenizer and processor files of the VLM that was trained (Qwen/Qwen3-VL-2B-Instruct or "
                     "-4B-Instruct); its weights are not needed.")


def _check_model_type(folder: Path) -> Path:
    with reading(folder / "config.json"):
        found = parse_json(read_text(folder / "config.json")).get("model_type")
    if found != MODEL_TYPE:
        raise InputError(f"the VLM in {folder} is a {found!r}; supported: {MODEL_TYPE!r} (starVLA's Qwen2.5-VL "
                         "checkpoints are not: run them in its own server, policy 'remote')")
    return folder


def _get(config: Mapping[str, Any], path: str, source: Path) -> Any:
    value: Any = config
    for key in path.split("."):
        if not isinstance(value, Mapping) or value.get(key) is None:
            raise InputError(f"{source} lacks {path}, which decides an action; without it results would be silently "
                             "wrong. Take the config.yaml that training saved beside this checkpoint.")
        value = value[key]
    return value


def _check_head(head: Mapping[str, Any], source: Path) -> None:
    model = head.get("diffusion_model_cfg") or {}
    wrong = [f"diffusion_model_cfg.{key} is {model[key]!r}, supported: {value!r}"
             for key, value in FIXED.items() if key in model and model[key] != value]
    if head.get("add_pos_embed", True) is not True:
        wrong.append(f"add_pos_embed is {head['add_pos_embed']!r}, supported: true")
    if wrong:
        raise InputError(f"{source}, framework.action_model: " + "; ".join(wrong))


def _horizon(head: Mapping[str, Any], source: Path) -> int:
    """T, which the noise takes from one key and the output from another."""
    window = head.get("future_action_window_size")
    lengths = {head.get("action_horizon"), None if window is None else window + 1} - {None}
    if len(lengths) != 1:
        raise InputError(f"{source}: framework.action_model gives {sorted(lengths) or 'no'} chunk lengths by "
                         "action_horizon and future_action_window_size + 1; needed: one")
    return int(lengths.pop())


def _attention_heads(head: Mapping[str, Any], source: Path) -> int:
    written = (head.get("diffusion_model_cfg") or {}).get("num_attention_heads")
    kind = head.get("action_model_type")
    if written is None and kind not in ATTENTION_HEADS:
        raise unknown(f"framework.action_model.action_model_type in {source}", kind, ATTENTION_HEADS)
    return int(written or ATTENTION_HEADS[kind])
