"""What a checkpoint folder says of itself: config.yaml, read strictly. No torch: the driver reads it too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines.common.config import check_ranges, reading
from baselines.common.layouts import SIDE
from evalkit.errors import InputError

#: Keys that change the result. The saved file holds only keys that training read, and upstream's defaults for absent
#: ones differ from the release (extract_layer 19, conditional_frame_timestep 0.001, 17 frames), so all are required.
REQUIRED = (
    "framework.name",
    "framework.cosmos25.extract_layer", "framework.cosmos25.training", "framework.cosmos25.vl_hidden_dim",
    "framework.cosmos25.conditional_frame_timestep",
    "framework.action_model.action_model_type", "framework.action_model.hidden_size",
    "framework.action_model.add_pos_embed", "framework.action_model.max_seq_len",
    "framework.action_model.action_dim", "framework.action_model.state_dim",
    "framework.action_model.action_horizon", "framework.action_model.future_action_window_size",
    "framework.action_model.num_inference_timesteps", "framework.action_model.num_timestep_buckets",
    "framework.action_model.diffusion_model_cfg.cross_attention_dim",
    "framework.action_model.diffusion_model_cfg.num_layers",
    "datasets.vla_data.video_delta_indices", "datasets.vla_data.action_video_freq_ratio",
)

#: What the head's arithmetic and the layouts take for granted, where the config says it.
FIXED = {
    "framework.name": "DiT4DiT",
    "framework.cosmos25.training": "joint",
    "framework.action_model.add_pos_embed": True,
    "framework.action_model.diffusion_model_cfg.interleave_self_attention": True,
    "framework.action_model.diffusion_model_cfg.norm_type": "ada_norm",
    "framework.action_model.diffusion_model_cfg.positional_embeddings": None,
    "datasets.vla_data.image_size": [SIDE, SIDE],
}

#: Attention heads by `action_model_type`, where the config does not give them (upstream's table of sizes).
HEADS = {"DiT-B": 12}

#: Text tokens, padding included, where the config does not give them (upstream's default).
TEXT_LENGTH = 512

#: Pixels a side of one latent cell, frames in all latent frames but the first, and latent cells a side of one token
#: (Wan 2.1's VAE and Cosmos-Predict2.5's patch size).
SPATIAL, TEMPORAL, PATCH = 8, 4, 2


@dataclass(frozen=True)
class Settings:
    """The numbers of config.yaml that inference needs.

    extract_layer: 0-based video block whose output is the feature. condition_time: its timestep on the observed frame.
    action_dim, state_dim: columns of the model, padding included. horizon: actions in a chunk. frames: pixel frames of
    the clip the model imagines, the observed one included. steps, buckets: of the head's sampler. heads: its attention.
    cross_dim: width of the features. text_length: tokens of an instruction, padding included.
    """

    extract_layer: int
    condition_time: float
    action_dim: int
    state_dim: int
    horizon: int
    frames: int
    steps: int = 4
    buckets: int = 1000
    heads: int = 12
    cross_dim: int = 2048
    text_length: int = TEXT_LENGTH

    @property
    def latent_frames(self) -> int:
        """Frames after the VAE, causal: the first alone, then four to one."""
        return (self.frames - 1) // TEMPORAL + 1

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(frames, height, width) of the latents of a clip of height x width pixels."""
        return self.latent_frames, height // SPATIAL, width // SPATIAL


#: The two released configurations, for models of true size without a checkpoint (config.yaml of
#: mondo-robotics/dit4dit-model 46237ae).
RELEASED = {
    "gr1": Settings(extract_layer=17, condition_time=0.0001, action_dim=32, state_dim=64, horizon=16, frames=9),
    "libero": Settings(extract_layer=17, condition_time=0.0001, action_dim=8, state_dim=16, horizon=8, frames=5),
}


#: How a checkpoint's folder looks, for whoever gives another.
FOLDER = ("A DiT4DiT checkpoint is a folder with config.yaml, dataset_statistics.json and "
          "final_model/pytorch_model.pt; give that folder, or the .pt in it")


def look_up(config: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key. Raises KeyError."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise KeyError(key)
        value = value[part]
    return value


def read_settings(config: Mapping[str, Any], source: Path | str) -> Settings:
    """The Settings of a parsed config.yaml. Raises InputError for keys that are missing, or that this policy does not
    know how to honour."""
    missing = [key for key in REQUIRED if not _has(config, key)]
    if missing:
        raise InputError(f"{source} lacks {', '.join(missing)}.\nUpstream's defaults differ from the release's values, "
                         "so nothing is assumed: take the config.yaml that was saved with the checkpoint")
    wrong = [f"{key} is {look_up(config, key)!r}, allowed: {value!r}" for key, value in FIXED.items()
             if _has(config, key) and look_up(config, key) != value]
    if wrong:
        raise InputError(f"{source} describes another model than this policy runs:\n  - " + "\n  - ".join(wrong))
    with reading(source):
        settings = _settings(config, source)
    check_ranges(vars(settings), source)
    return settings


def _has(config: Mapping[str, Any], key: str) -> bool:
    try:
        look_up(config, key)
    except KeyError:
        return False
    return True


def _settings(config: Mapping[str, Any], source: Path | str) -> Settings:
    cosmos = look_up(config, "framework.cosmos25")
    action = look_up(config, "framework.action_model")
    data = look_up(config, "datasets.vla_data")
    diffusion = action["diffusion_model_cfg"]
    horizon, window = int(action["action_horizon"]), int(action["future_action_window_size"])
    if window != horizon - 1:
        raise InputError(f"{source}: action_horizon is {horizon} but future_action_window_size is {window}; allowed: "
                         f"{horizon - 1}, since upstream's noise has one length and its answer the other")
    kind = action["action_model_type"]
    heads = diffusion.get("num_attention_heads", HEADS.get(kind))
    if heads is None:
        raise InputError(f"{source}: action_model_type is {kind!r} and diffusion_model_cfg names no "
                         f"num_attention_heads; types of known size: {', '.join(HEADS)}")
    if cosmos["vl_hidden_dim"] != diffusion["cross_attention_dim"]:
        raise InputError(f"{source}: vl_hidden_dim is {cosmos['vl_hidden_dim']}, cross_attention_dim is "
                         f"{diffusion['cross_attention_dim']}; the head reads the video features, so they are equal")
    return Settings(
        extract_layer=int(cosmos["extract_layer"]), condition_time=float(cosmos["conditional_frame_timestep"]),
        action_dim=int(action["action_dim"]), state_dim=int(action["state_dim"]), horizon=horizon,
        frames=len(range(0, len(data["video_delta_indices"]), int(data["action_video_freq_ratio"]))),
        steps=int(action["num_inference_timesteps"]), buckets=int(action["num_timestep_buckets"]), heads=int(heads),
        cross_dim=int(diffusion["cross_attention_dim"]),
        text_length=int(cosmos.get("max_sequence_length", TEXT_LENGTH)),
    )
