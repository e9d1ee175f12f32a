"""Random weights of Qwen3DiT's true size, for measuring latency where no checkpoint can be had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from baselines.common.layouts import Layout, Statistics
from baselines.qwen3dit.settings import ATTENTION_HEADS, Settings, find_base
from evalkit.errors import InputError, unknown

if TYPE_CHECKING:
    import torch

    from baselines.qwen3dit.model import Network

#: Values of option checkpoint that stand for random weights.
SYNTHETIC = ("synthetic:gr1", "synthetic:libero")

#: Qwen/Qwen3-VL-2B-Instruct's config.json: 2,127,532,032 parameters, its tied language head not counted again.
QWEN3_VL_2B: dict[str, Any] = {
    "text_config": {
        "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-6,
        "rope_theta": 5000000.0, "max_position_embeddings": 262144, "attention_bias": False,
        "rope_scaling": {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True}},
    "vision_config": {
        "depth": 24, "hidden_size": 1024, "num_heads": 16, "intermediate_size": 4096, "out_hidden_size": 2048,
        "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "in_channels": 3,
        "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17]},
    "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652,
    "vision_end_token_id": 151653, "tie_word_embeddings": True,
}

#: The prompt of starVLA's GR1 and LIBERO configurations (`CoT_prompt`).
PROMPT = ("Your task is {instruction}. To identify the key objects for your task. Locate their bounding boxes in "
          "[x1,y1,x2,y2] format.")

#: Columns of an action and of a state, and actions in a chunk (DiT4DiT's released configurations; the head is shared).
HEAD_SIZES = {"gr1": (32, 64, 16), "libero": (8, 16, 8)}

#: DiT-B as in the release: width, layers, hidden_size, output_dim, positions.
WIDTH, LAYERS, HIDDEN, OUTPUT, POSITIONS = 768, 16, 2560, 2560, 1024

#: Spread of the weights: small enough that bfloat16 stays finite through all layers.
SPREAD = 0.02


class StandInText:
    """Token ids without a tokenizer: about as many as Qwen's would be, one for 4 characters of English."""

    pad_id = 0

    def ids(self, instruction: str, image_tokens: Sequence[int]) -> list[int]:
        """See prompt.Text."""
        start, image = QWEN3_VL_2B["vision_start_token_id"], QWEN3_VL_2B["image_token_id"]
        end = QWEN3_VL_2B["vision_end_token_id"]
        pictures = [token for count in image_tokens for token in (start, *[image] * count, end)]
        text = PROMPT.replace("{instruction}", instruction).encode()
        words = [1 + int.from_bytes(text[place:place + 4], "little") % 150000 for place in range(0, len(text), 4)]
        return [1, 2, 3, *pictures, *words, 4, 5, 6, 7, 8]


def synthetic_settings(checkpoint: str, layout: Layout, base_vlm: str) -> tuple[Settings, Statistics]:
    """Settings and statistics (range -1 to 1) for random weights. Raises InputError on another name or suite."""
    if checkpoint not in SYNTHETIC:
        raise unknown("synthetic checkpoint", checkpoint, SYNTHETIC)
    if checkpoint != f"synthetic:{layout.name}":
        raise InputError(f"option checkpoint is {checkpoint!r}; allowed for this suite: 'synthetic:{layout.name}'")
    _, state_dim, horizon = HEAD_SIZES[layout.name]
    base = find_base(base_vlm, "", Path()) if base_vlm else None
    settings = Settings("Qwen3DiT", None, base, PROMPT, (224, 224), state_dim, True, horizon, ATTENTION_HEADS["DiT-B"],
                        steps=4, buckets=1000)
    ones = np.ones(layout.action_size)
    return settings, Statistics(-ones, ones, ones > 0)


def synthetic_network(settings: Settings, layout: Layout, device: torch.device, dtype: torch.dtype, attention: str,
                      head: str) -> Network:
    """Random weights, drawn on `device`. head: starvla adds 32 future tokens and turns the time round; base_vlm gives a
    real tokenizer, but never sizes."""
    import torch
    from transformers import Qwen3VLConfig

    from baselines.common.head import ActionHead, HeadConfig
    from baselines.qwen3dit.model import finish
    from baselines.qwen3dit.prompt import ChatText, ImageProcessor
    from baselines.qwen3dit.vlm import Vlm

    action_dim, state_dim, horizon = HEAD_SIZES[layout.name]
    starvla = head == "starvla"
    config = HeadConfig(
        action_dim, state_dim, horizon, WIDTH, settings.attention_heads, WIDTH // settings.attention_heads, LAYERS,
        HIDDEN, OUTPUT, QWEN3_VL_2B["text_config"]["hidden_size"], POSITIONS, 32 if starvla else 0, not starvla)
    vlm = Vlm.on_meta(Qwen3VLConfig(**QWEN3_VL_2B), attention)
    with torch.device("meta"):
        action_head = ActionHead(config)
    fill(vlm, device, dtype)
    fill(action_head, device, torch.float32)
    text = StandInText() if settings.base_vlm is None else ChatText(settings.base_vlm, settings.prompt)
    return finish(vlm, action_head, ImageProcessor(), text, device, dtype)


def fill(module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Give the parameters of `module` on meta random values on `device`, the same ones every time; norms get ones."""
    import torch

    generator = torch.Generator(device).manual_seed(0)
    tensors = {}
    for name, parameter in module.named_parameters():
        empty = torch.empty(parameter.shape, device=device, dtype=dtype)
        norm = parameter.ndim == 1 and name.endswith("weight")
        tensors[name] = empty.fill_(1.0) if norm else empty.normal_(0.0, SPREAD, generator=generator)
    module.load_state_dict(tensors, assign=True)



