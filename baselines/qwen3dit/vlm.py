"""Qwen3-VL as a feature extractor: one forward pass, hidden states of the last layer.

They are taken *before* the final norm: that is what ``hidden_states[-1]`` of `Qwen3VLForConditionalGeneration` holds in
transformers 4.57, starVLA's pin (its decorator `check_model_inputs` records what the layers return), so what a head was
trained on. The layers are transformers' own. The pass around them is written out, so that positions and the places of
image tokens, which depend on the text alone, are worked out once an instruction on the host, and a query never waits
for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen3VLConfig, Qwen3VLModel

#: Attention kernels that need no further package. One adapter reports wrong Qwen3-VL actions with sdpa (vla-eval's
#: starVLA server): compare both before trusting a score.
ATTENTION = ("sdpa", "eager")


@dataclass(frozen=True)
class Prompt:
    """The text of one observation. ids (L,), positions (3, L): time, row and column of each token, both int64."""

    ids: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Batch:
    """Prompts padded to one length L on the left. ids (B, L), mask (B, L) bool: False where padded, positions
    (3, B, L), image_index: places of all image tokens among B * L."""

    ids: Tensor
    mask: Tensor
    positions: Tensor
    image_index: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        return Batch(*(part.to(device) for part in (self.ids, self.mask, self.positions, self.image_index)))


class Vlm(nn.Module):
    """Qwen3-VL without its language head; parameter names are the checkpoint's without ``qwen_vl_interface.model.``.

    final_norm: whether features are taken after the final norm, for weights that were trained so.
    """

    def __init__(self, config: Qwen3VLConfig, attention: str = "sdpa", final_norm: bool = False):
        super().__init__()
        config._attn_implementation = attention
        self.model = Qwen3VLModel(config)
        self.attention, self.final_norm = attention, final_norm
        self._vision_positions = cache(self._make_vision_positions)

    @classmethod
    def on_meta(cls, config: Qwen3VLConfig, attention: str = "sdpa", final_norm: bool = False) -> Vlm:
        """Without memory for its parameters, ready for loading; what a checkpoint does not hold is there for real."""
        with torch.device("meta"):
            vlm = cls(config, attention, final_norm)
        vlm.rebuild_rotary()
        return vlm

    def rebuild_rotary(self) -> None:
        """Make the rotary frequencies, which no checkpoint holds, on the host in float32."""
        visual, language = self.model.visual, self.model.language_model
        dim = 2 * visual.rotary_pos_emb.inv_freq.numel()
        with torch.device("cpu"):
            visual.rotary_pos_emb = type(visual.rotary_pos_emb)(dim)
            language.rotary_emb = type(language.rotary_emb)(language.config)

    @property
    def width(self) -> int:
        """Of a feature."""
        return self.model.config.text_config.hidden_size

    def prompt(self, ids: Sequence[int], grids: Sequence[tuple[int, int]]) -> Prompt:
        """A Prompt of token ids (L,) with pictures of `grids` (rows, columns of patches) in them."""
        tokens = torch.tensor(ids, dtype=torch.int64)
        grid_thw = torch.tensor([(1, *grid) for grid in grids], dtype=torch.int64)
        positions, _ = self.model.get_rope_index(tokens[None], image_grid_thw=grid_thw)
        return Prompt(tokens, positions[:, 0])

    def batch(self, prompts: Sequence[Prompt], pad_id: int, length: int = 0) -> Batch:
        """`prompts` padded on the left to the longest, or to `length`, on the host. Padding has position 1, as
        upstream's."""
        length = max(length, *(len(prompt.ids) for prompt in prompts))
        pads = [(length - len(prompt.ids), 0) for prompt in prompts]
        ids = torch.stack([functional.pad(prompt.ids, pad, value=pad_id) for prompt, pad in zip(prompts, pads)])
        mask = torch.stack([functional.pad(torch.ones(len(prompt.ids), dtype=torch.bool), pad)
                            for prompt, pad in zip(prompts, pads)])
        positions = torch.stack([functional.pad(prompt.positions, pad, value=1)
                                 for prompt, pad in zip(prompts, pads)], dim=1)
        image_index = (mask & (ids == self.model.config.image_token_id)).flatten().nonzero().flatten()
        return Batch(ids, mask, positions, image_index)

    def images(self, pixel_values: Tensor, grid: tuple[int, int], count: int) -> tuple[Tensor, list[Tensor]]:
        """`count` pictures of one `grid`, pixel_values (count * patches, channels) -> embeddings (tokens, width), and
        those that the first language layers get besides."""
        visual = self.model.visual
        embeddings, rotation = self._vision_positions(grid, count)
        lengths = torch.arange(count + 1, dtype=torch.int32) * (grid[0] * grid[1])  # on the host: split without waiting
        hidden, deep = visual.patch_embed(pixel_values.to(visual.dtype)) + embeddings, []
        for index, block in enumerate(visual.blocks):
            hidden = block(hidden, cu_seqlens=lengths, position_embeddings=rotation)
            if index in visual.deepstack_visual_indexes:
                deep.append(visual.deepstack_merger_list[len(deep)](hidden))
        return visual.merger(hidden), deep

    def _make_vision_positions(self, grid: tuple[int, int], count: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Position embeddings of the patches, and cosine and sine of their rotation."""
        visual = self.model.visual
        grid_thw = torch.tensor([(1, *grid)])
        embeddings = visual.fast_pos_embed_interpolate(grid_thw)
        angles = visual.rot_pos_emb(grid_thw).flatten(1).repeat(count, 2)
        return embeddings.repeat(count, 1), (angles.cos(), angles.sin())

    def forward(self, pixel_values: Tensor, grid: tuple[int, int], count: int, batch: Batch,
                trace: dict[str, Any] | None = None) -> Tensor:
        """Features (B, L, width) of a batch and its `count` pictures, all on one device; rows where the mask is False
        mean nothing.

        trace: a dict that receives ``image_embeds``, ``deepstack_embeds`` and ``vl_features``.
        """
        language, index = self.model.language_model, batch.image_index
        embeds, deep = self.images(pixel_values, grid, count)
        hidden = scatter(language.embed_tokens(batch.ids), index, embeds, add=False)
        rotation = language.rotary_emb(hidden, batch.positions)
        mask = self.attention_mask(batch.mask, hidden.dtype)
        for number, layer in enumerate(language.layers):
            hidden = layer(hidden, position_embeddings=rotation, attention_mask=mask)
            if number < len(deep):
                hidden = scatter(hidden, index, deep[number], add=True)
        if self.final_norm:
            hidden = language.norm(hidden)
        if trace is not None:
            trace.update(image_embeds=embeds, deepstack_embeds=torch.stack(deep), vl_features=hidden)
        return hidden

    def attention_mask(self, valid: Tensor, dtype: torch.dtype) -> Tensor:
        """(B, 1, L, L) of valid (B, L): a token sees itself and what is valid before it, so padding stays finite in
        every kernel. For sdpa True where it looks; for eager what is added, in `dtype`."""
        place = torch.arange(valid.shape[1], device=valid.device)
        seen = (place[:, None] >= place) & valid[:, None, :] | (place[:, None] == place)
        if self.attention != "eager":
            return seen[:, None]
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(
            ~seen, torch.finfo(dtype).min)[:, None]


def scatter(hidden: Tensor, index: Tensor, values: Tensor, add: bool) -> Tensor:
    """hidden (B, L, D) with rows `index` of its B * L replaced by `values`, or with them added."""
    flat = hidden.flatten(0, 1)
    values = values.to(hidden.dtype)
    changed = flat.index_add(0, index, values) if add else flat.index_copy(0, index, values)
    return changed.view_as(hidden)


def read_config(folder: Path) -> Qwen3VLConfig:
    """The configuration of the base VLM in `folder`."""
    return Qwen3VLConfig.from_pretrained(folder, local_files_only=True)
