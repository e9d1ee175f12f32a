"""The action head of DiT4DiT and of starVLA's QwenGR00T: a small diffusion transformer and its Euler sampler.

Parameter names are those of the checkpoints without their prefix ``action_model.``, so that loading is strict.
Inference only: the dropout of training is not there. Needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evalkit.errors import InputError

#: Largest period of both sinusoidal time codes, and width of the one that modulates the blocks (diffusers' `Timesteps`
#: in upstream's cross_attention_dit.py; upstream's `SinusoidalPositionalEncoding`).
MAX_PERIOD, TIME_CHANNELS = 10000.0, 256

#: LayerNorm of the blocks (upstream's `norm_eps`) and before the output projection (upstream's `norm_out`).
BLOCK_EPS, OUTPUT_EPS = 1e-5, 1e-6


@dataclass(frozen=True)
class HeadConfig:
    """Sizes and conventions of a head.

    action_dim, state_dim: columns of an action and of the encoded state, padding included (state_dim 0: no encoder).
    horizon: actions in a chunk, T. width: of the tokens; heads * head_dim: of the attention; layers: blocks.
    hidden_size: of the state encoder's and action decoder's MLP. output_dim: of the transformer's output.
    cross_dim: of the features. max_positions: rows of the position embedding. future_tokens: learned tokens between
    state and actions. noise_at_one: time 1 is noise and 0 is data (DiT4DiT), else time 0 is noise (starVLA, GR00T).
    steps: Euler steps. buckets: integer times of the unit interval.
    """

    action_dim: int
    state_dim: int
    horizon: int
    width: int
    heads: int
    head_dim: int
    layers: int
    hidden_size: int
    output_dim: int
    cross_dim: int
    max_positions: int
    future_tokens: int = 0
    noise_at_one: bool = True
    steps: int = 4
    buckets: int = 1000

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], *, heads: int, horizon: int, noise_at_one: bool,
                     steps: int = 4, buckets: int = 1000) -> HeadConfig:
        """The config of a head's state dict (names without ``action_model.``): every size from the shapes, and what
        shapes do not tell from the arguments. Raises InputError where they do not describe a head."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        blocks = {name.split(".")[2] for name in shapes if name.startswith("model.transformer_blocks.")}
        try:
            hidden_size, output_dim = shapes["action_decoder.layer1.weight"]
            max_positions, width = shapes["position_embedding.weight"]
            attention, cross_dim = shapes["model.transformer_blocks.0.attn1.to_k.weight"]
            action_dim = shapes["action_decoder.layer2.weight"][0]
        except (KeyError, ValueError) as error:
            raise InputError(f"the action head's tensors lack {error}, or it is no matrix; got {len(shapes)} tensors: "
                             f"{', '.join(sorted(shapes)[:4]) or '(none)'} ...\nIs this a DiT4DiT or QwenGR00T "
                             "checkpoint?") from error
        if attention % heads or not 1 <= horizon <= max_positions:
            raise InputError(f"the action head's attention is {attention} wide and has {max_positions} positions; the "
                             f"configuration asks for {heads} heads and a chunk of {horizon} actions")
        return cls(action_dim=action_dim, state_dim=shapes.get("state_encoder.layer1.weight", (0, 0))[1],
                   horizon=horizon, width=width, heads=heads, head_dim=attention // heads, layers=len(blocks),
                   hidden_size=hidden_size, output_dim=output_dim, cross_dim=cross_dim, max_positions=max_positions,
                   future_tokens=shapes.get("future_tokens.weight", (0, 0))[0], noise_at_one=noise_at_one,
                   steps=steps, buckets=buckets)

    @property
    def times(self) -> tuple[int, ...]:
        """Integer time of each Euler step: 1000, 750, 500, 250 from noise at one; 0, 250, 500, 750 from zero."""
        fractions = [step / self.steps for step in range(self.steps)]
        return tuple(int((1 - part if self.noise_at_one else part) * self.buckets) for part in fractions)


def sinusoid(times: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine, each (N, half) float32, of times (N,) at the frequencies exp(exponents (half,))."""
    angles = times.float()[:, None] * exponents.exp()
    return angles.sin(), angles.cos()


def action_time_code(times: Tensor, width: int) -> Tensor:
    """(N, width) [sine, cosine] of times (N,) that the action encoder takes: frequencies 10000 ** -(i / half).

    Rounded in the order of upstream's operations, here and in `block_time_code`: at time 1000 a last bit of a
    frequency moves an angle by 6e-5.
    """
    half = width // 2
    index = torch.arange(half, dtype=torch.float32, device=times.device)
    return torch.cat(sinusoid(times, -index * (math.log(MAX_PERIOD) / half)), dim=-1)


def block_time_code(times: Tensor) -> Tensor:
    """(N, 256) [cosine, sine] of times (N,) that modulates the blocks: frequencies 10000 ** -(i / (half - 1))."""
    half = TIME_CHANNELS // 2
    index = torch.arange(half, dtype=torch.float32, device=times.device)
    sine, cosine = sinusoid(times, -math.log(MAX_PERIOD) * index / (half - 1))
    return torch.cat([cosine, sine], dim=-1)


class Mlp(nn.Module):
    """Two layers with a ReLU between: the state encoder and the action decoder."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return self.layer2(functional.relu(self.layer1(x)))


class ActionEncoder(nn.Module):
    """Noisy actions and their time to tokens."""

    def __init__(self, action_dim: int, width: int):
        super().__init__()
        self.layer1 = nn.Linear(action_dim, width)
        self.layer2 = nn.Linear(2 * width, width)
        self.layer3 = nn.Linear(width, width)

    def forward(self, actions: Tensor, time_code: Tensor) -> Tensor:
        """actions (B, T, A), time_code (width,) -> (B, T, width)."""
        tokens = self.layer1(actions)
        hidden = self.layer2(torch.cat([tokens, time_code.expand_as(tokens)], dim=-1))
        return self.layer3(functional.silu(hidden))


class Attention(nn.Module):
    """Multi-head attention with biases; keys and values come separately, so that they can be made once a query."""

    def __init__(self, config: HeadConfig, memory_dim: int):
        super().__init__()
        inner = config.heads * config.head_dim
        self.heads = config.heads
        self.to_q = nn.Linear(config.width, inner)
        self.to_k, self.to_v = nn.Linear(memory_dim, inner), nn.Linear(memory_dim, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, config.width)])

    def split(self, x: Tensor) -> Tensor:
        """(B, L, heads * head_dim) -> (B, heads, L, head_dim)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, S, head_dim) of what is attended to (B, S, memory_dim)."""
        return self.split(self.to_k(memory)), self.split(self.to_v(memory))

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """x (B, L, width); mask (B, 1, 1, S), False where nothing may look."""
        attended = functional.scaled_dot_product_attention(self.split(self.to_q(x)), *keys_values, attn_mask=mask)
        return self.to_out[0](attended.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Width to 4 x width and back, tanh GELU between."""

    def __init__(self, width: int):
        super().__init__()
        self.net = nn.ModuleList([nn.ModuleDict({"proj": nn.Linear(width, 4 * width)}), nn.Identity(),
                                  nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return self.net[2](functional.gelu(self.net[0]["proj"](x), approximate="tanh"))


class Block(nn.Module):
    """Attention after a LayerNorm that the time modulates, then a feed-forward layer after a plain one."""

    def __init__(self, config: HeadConfig, crosses: bool):
        super().__init__()
        self.crosses, self.width = crosses, config.width
        self.norm1 = nn.ModuleDict({"linear": nn.Linear(config.width, 2 * config.width)})
        self.attn1 = Attention(config, config.cross_dim if crosses else config.width)
        self.ff = FeedForward(config.width)

    def forward(self, x: Tensor, modulation: Tensor, keys_values: tuple[Tensor, Tensor] | None,
                mask: Tensor | None) -> Tensor:
        """x (B, L, width); modulation (2 * width,); keys_values of the features, None where x attends to itself."""
        scale, shift = modulation.chunk(2)
        normed = functional.layer_norm(x, (self.width,), eps=BLOCK_EPS) * (1 + scale) + shift
        if keys_values is None:
            keys_values, mask = self.attn1.keys_values(normed), None
        x = x + self.attn1(normed, keys_values, mask)
        return x + self.ff(functional.layer_norm(x, (self.width,), eps=BLOCK_EPS))


@dataclass(frozen=True)
class Prepared:
    """What all Euler steps of a query share. A list has one entry a block.

    modulations: (steps, 2 * width). keys_values: of the features, None in blocks of self-attention.
    output_modulation: (steps, 2 * width). mask: (B, 1, 1, S) or None.
    """

    modulations: list[Tensor]
    keys_values: list[tuple[Tensor, Tensor] | None]
    output_modulation: Tensor
    mask: Tensor | None


class DiffusionTransformer(nn.Module):
    """Blocks that attend to the features (even) and to their own tokens (odd), modulated by the time."""

    def __init__(self, config: HeadConfig):
        super().__init__()
        width = config.width
        self.width = width
        self.timestep_encoder = nn.ModuleDict({"timestep_embedder": nn.ModuleDict({
            "linear_1": nn.Linear(TIME_CHANNELS, width), "linear_2": nn.Linear(width, width)})})
        self.transformer_blocks = nn.ModuleList([Block(config, crosses=index % 2 == 0)
                                                 for index in range(config.layers)])
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, config.output_dim)

    def embed_times(self, times: Tensor, time_dtype: torch.dtype) -> Tensor:
        """times (N,) -> (N, width). time_dtype: what the sinusoidal code is rounded to on its way."""
        layers = self.timestep_encoder["timestep_embedder"]
        code = block_time_code(times).to(time_dtype).float()
        return layers["linear_2"](functional.silu(layers["linear_1"](code)))

    def prepare(self, features: Tensor, time_embeddings: Tensor, mask: Tensor | None) -> Prepared:
        """features (B, S, cross_dim), time_embeddings (steps, width), mask (B, S) bool -> what the steps share."""
        activated = functional.silu(time_embeddings)
        return Prepared(
            modulations=[block.norm1["linear"](activated) for block in self.transformer_blocks],
            keys_values=[block.attn1.keys_values(features) if block.crosses else None
                         for block in self.transformer_blocks],
            output_modulation=self.proj_out_1(activated), mask=None if mask is None else mask[:, None, None, :].bool())

    def forward(self, x: Tensor, prepared: Prepared, step: int) -> Tensor:
        """Tokens (B, L, width) of Euler step `step` -> (B, L, output_dim)."""
        for block, modulation, keys_values in zip(self.transformer_blocks, prepared.modulations,
                                                  prepared.keys_values):
            x = block(x, modulation[step], keys_values, prepared.mask)
        shift, scale = prepared.output_modulation[step].chunk(2)
        return self.proj_out_2(functional.layer_norm(x, (self.width,), eps=OUTPUT_EPS) * (1 + scale) + shift)


class ActionHead(nn.Module):
    """Features, state and noise to a chunk of normalised actions.

    The sequence is [state, future tokens, actions]; only actions have positions. Parameters must be float32 when
    `sample` is called (``head.float()`` after loading bf16 weights is exact).
    """

    def __init__(self, config: HeadConfig):
        super().__init__()
        self.config = config
        self.model = DiffusionTransformer(config)
        if config.state_dim:
            self.state_encoder = Mlp(config.state_dim, config.hidden_size, config.width)
        self.action_encoder = ActionEncoder(config.action_dim, config.width)
        self.action_decoder = Mlp(config.output_dim, config.hidden_size, config.action_dim)
        self.position_embedding = nn.Embedding(config.max_positions, config.width)
        if config.future_tokens:
            self.future_tokens = nn.Embedding(config.future_tokens, config.width)

    @torch.no_grad()
    def sample(self, features: Tensor, state: Tensor | None, noise: Tensor, mask: Tensor | None = None,
               trace: dict[str, Any] | None = None, time_dtype: torch.dtype = torch.float32) -> Tensor:
        """The chunk (B, T, action_dim) float32 that Euler's method reaches from `noise`.

        features: (B, S, cross_dim). state: (B, 1, state_dim), or None for a sequence without its token. noise:
        (B, T, action_dim). mask: (B, S) bool, False where a feature is padding. All are cast to float32 first.
        time_dtype: bfloat16 where the time code was rounded too (the server's flag ``--use_bf16``).
        trace: a dict that receives ``x_steps`` (steps + 1, B, T, A), ``v_steps`` (steps, B, T, A), ``temb_steps``
        (steps, width), ``t_steps`` (steps,) and ``state_feature`` (B, 1, width).
        """
        config = self.config
        # Filled on the device rather than copied to it: a copy cannot be captured in a CUDA graph.
        times = torch.cat([torch.full((1,), time, device=noise.device) for time in config.times])
        time_embeddings = self.model.embed_times(times, time_dtype)
        time_codes = action_time_code(times, config.width)
        prepared = self.model.prepare(features.float(), time_embeddings, mask)
        state_feature = None if state is None else self.state_encoder(state.float())
        prefix = self._prefix(state_feature, len(noise))
        positions = self.position_embedding.weight[:config.horizon]

        x, velocities = [noise.float()], []
        for step in range(config.steps):
            tokens = self.action_encoder(x[-1], time_codes[step]) + positions
            hidden = self.model(torch.cat([*prefix, tokens], dim=1), prepared, step)
            velocities.append(self.action_decoder(hidden[:, -config.horizon:]))
            x.append(x[-1] + velocities[-1] * ((-1 if config.noise_at_one else 1) / config.steps))
        if trace is not None:
            trace.update(x_steps=torch.stack(x), v_steps=torch.stack(velocities), t_steps=times,
                         temb_steps=time_embeddings, state_feature=state_feature)
        return x[-1]

    def _prefix(self, state_feature: Tensor | None, batch: int) -> list[Tensor]:
        """What stands before the action tokens, each (B, n, width)."""
        prefix = [] if state_feature is None else [state_feature]
        if self.config.future_tokens:
            prefix.append(self.future_tokens.weight.expand(batch, -1, -1))
        return prefix
