"""Latents to features: one forward of the video transformer, up to the block whose output the head reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from baselines.dit4dit.config import Settings

#: Latent channels of the observed frame and of the noise; the transformer's input adds the condition and the padding
#: mask (Cosmos-Predict2.5's transformer config: in_channels 17, concat_padding_mask).
LATENT_CHANNELS = 16


#: What one norm does to its tokens, see `modulation`.
Modulation = tuple[Tensor, Tensor, Tensor]


class VideoFeatures(nn.Module):
    """Drives the sub-modules of diffusers' CosmosTransformer3DModel.

    Its own forward would run ten blocks more than needed and takes torchvision to resize a padding mask of zeros.
    The timestep is a constant, so what depends on it alone is computed once instead of per query, and for each latent
    frame instead of each token: shift, scale and gate of every norm.

    Norms compute and hand on float32, matrix products take and give the transformer's precision, and so does the sum
    along the blocks: the rounding of CUDA's autocast, under which upstream runs.

    sigma: noise level of all frames but the observed one, as upstream rounds it.
    """

    def __init__(self, transformer: nn.Module, settings: Settings, sigma: float):
        super().__init__()
        self.patch_embed, self.time_embed, self.rope = transformer.patch_embed, transformer.time_embed, transformer.rope
        self.blocks = transformer.transformer_blocks[:settings.extract_layer + 1]
        self.project_text = getattr(transformer, "crossattn_proj", None)
        self.settings, self.sigma = settings, sigma
        self._constants: dict[tuple[int, ...], tuple[tuple[Tensor, Tensor], list[list[Modulation]]]] = {}

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the transformer."""
        return self.patch_embed.proj.weight.dtype

    def timesteps(self, device: torch.device) -> Tensor:
        """(frames,) float32: the condition's time on the observed frame, sigma on the others; not times 1000."""
        times = torch.full((self.settings.latent_frames,), self.sigma, dtype=torch.float32, device=device)
        times[0] = self.settings.condition_time
        return times

    def forward(self, condition: Tensor, noise: Tensor, text: Tensor, trace: dict[str, Any] | None = None) -> Tensor:
        """Output of the hooked block, (B, frames * H/16 * W/16, C), frame-major.

        condition: (B, 16, h, w) latents of the observed frame. noise: (B, 16, frames, h, w), whose first frame is
        replaced. text: (B, L, D), projected. trace: a dict that receives ``cond_indicator``, ``timestep`` (B, frames)
        and ``block_outputs``, a list.
        """
        x = self.inputs(condition, noise)
        rope, modulations = self.constants(x)
        outputs: list[Tensor] | None = None if trace is None else []
        x = self.run_blocks(self.patch_embed(x).flatten(1, 3), text, rope, modulations, outputs)
        if trace is not None:
            frames = noise.shape[2]
            indicator = torch.arange(frames).eq(0).float().expand(len(noise), frames)
            trace.update(cond_indicator=indicator, block_outputs=outputs,
                         timestep=self.timesteps(x.device).expand(len(noise), frames))
        return x

    def run_blocks(self, x: Tensor, text: Tensor, rope: tuple[Tensor, Tensor], modulations: list[list[Modulation]],
                   outputs: list[Tensor] | None = None) -> Tensor:
        """The output (B, S, C) of the last block; `outputs` receives each one's."""
        for block, modulation in zip(self.blocks, modulations):
            x = run_block(block, x, text, rope, modulation)
            if outputs is not None:
                outputs.append(x)
        return x

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Let torch.compile fuse what lies between the matrix products; the first call then takes a minute or more."""
        self.run_blocks = torch.compile(self.run_blocks, backend=backend, dynamic=False, fullgraph=True)

    def inputs(self, condition: Tensor, noise: Tensor) -> Tensor:
        """(B, 18, frames, h, w): latents, 1 on the observed frame, and the padding mask, zero."""
        latents = torch.cat([condition[:, :, None], noise[:, :, 1:]], dim=2).to(self.dtype)
        masks = latents.new_zeros(latents.shape[0], 2, *latents.shape[2:])
        masks[:, 0, 0] = 1
        return torch.cat([latents, masks], dim=1)

    def constants(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], list[list[Modulation]]]:
        """Rotary embedding and each block's modulations for inputs shaped like `x`; computed once a shape."""
        shape = tuple(x.shape[2:])
        if shape not in self._constants:
            base, embedded = self.time_embed(x, self.timesteps(x.device))
            self._constants[shape] = self.rope(x), [
                [modulation(norm, embedded, base) for norm in (block.norm1, block.norm2, block.norm3)]
                for block in self.blocks]
        return self._constants[shape]


def modulation(norm: nn.Module, embedded: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shift and 1 + scale, float32, and gate of each frame, each (frames, 1, C): diffusers' CosmosAdaLayerNormZero
    without its norm."""
    values = norm.linear_2(norm.linear_1(norm.activation(embedded))) + base
    shift, scale, gate = values.unsqueeze(1).chunk(3, dim=-1)
    return shift.float(), (1 + scale).float(), gate.contiguous()


def run_block(block: nn.Module, x: Tensor, text: Tensor, rope: tuple[Tensor, Tensor], modulations: list[Modulation]
              ) -> Tensor:
    """One transformer block on x (B, S, C) with text (B, L, D): attention to itself, to the text, feed-forward."""
    parts = ((block.norm1, lambda tokens: block.attn1(tokens, image_rotary_emb=rope)),
             (block.norm2, lambda tokens: block.attn2(tokens, encoder_hidden_states=text)),
             (block.norm3, block.ff))
    for (norm, part), (shift, scale, gate) in zip(parts, modulations):
        frames = norm.norm(x.float()).unflatten(1, (len(shift), -1))
        answer = part(torch.addcmul(shift, frames, scale).flatten(1, 2).to(x.dtype))
        x = x + (gate * answer.unflatten(1, (len(gate), -1))).flatten(1, 2)
    return x
