"""The whole network: pictures, instruction, state and noise to a chunk of normalised actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.common.checkpoint import check_materialized, check_prefixes, load_strict, read_state_dict, take
from baselines.common.head import ActionHead, HeadConfig
from baselines.qwen3dit.prompt import ChatText, ImageProcessor, Text
from baselines.qwen3dit.settings import FRAMEWORKS, NOISE_AT_ONE, Settings
from baselines.qwen3dit.vlm import Batch, Prompt, Vlm, read_config
from evalkit.errors import InputError

#: Parts of a checkpoint's names (starVLA's QwenGR00T).
VLM_PREFIX, HEAD_PREFIX = "qwen_vl_interface.model.", "action_model."

#: The language head is the tied embedding once more, and no action needs it.
SKIPPED = ("lm_head.",)

#: In batches of more than one, prompts are padded to a multiple of this, so that the length that an observation is
#: computed at depends on its own text alone.
LENGTH_STEP = 32


#: Opens a named part of a query, see `Policy.stage`.
Stage = Callable[[str], AbstractContextManager[Any]]


def no_stage(name: str) -> AbstractContextManager[Any]:
    """Opens nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Example:
    """What the network sees of one observation.

    images: views (H, W, 3) uint8 as starVLA's server passes them on. instruction. state: encoded, (state_dim,) float32,
    or None for a sequence without a state. noise: (T, action_dim) float32, the start of the chunk.
    """

    images: Sequence[np.ndarray]
    instruction: str
    state: np.ndarray | None
    noise: np.ndarray


@dataclass(frozen=True)
class Inputs:
    """Examples as tensors on the network's device.

    pixels: all pictures (N, 3, H, W) uint8. grid: rows and columns of their patches. batch: the prompts. state
    (B, 1, state_dim) or None, noise (B, T, action_dim), both rounded to the VLM's dtype as upstream does.
    """

    pixels: Tensor
    grid: tuple[int, int]
    batch: Batch
    state: Tensor | None
    noise: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors, in a fixed order."""
        batch = self.batch
        parts = [self.pixels, batch.ids, batch.mask, batch.positions, batch.image_index, self.noise]
        return parts if self.state is None else [*parts, self.state]


@dataclass
class Network:
    """Vlm and head on one device, with what turns an Example into their inputs.

    dtype: of the VLM; the head is float32. graphs: replays of `answer` on a GPU; None: it is run each time.
    """

    vlm: Vlm
    head: ActionHead
    images: ImageProcessor
    text: Text
    device: torch.device
    dtype: torch.dtype
    prompts: dict[tuple, Prompt] = field(default_factory=dict)
    graphs: Callable[[Inputs], Tensor] | None = None

    @property
    def parameters(self) -> int:
        """Numbers in all weights that act."""
        return sum(weight.numel() for part in (self.vlm, self.head) for weight in part.parameters())

    @torch.inference_mode()
    def act(self, examples: Sequence[Example], batch: int, stage: Stage = no_stage) -> np.ndarray:
        """Chunks (N, T, action_dim) float32. batch: rows of each forward pass, filled up with copies, so that kernels
        see one shape; 1: one example at a time without padding."""
        chunks: list[np.ndarray | None] = [None] * len(examples)
        for indices, length in self._groups(examples, batch):
            rows = [examples[index] for index in indices]
            filled = rows + rows[-1:] * (batch - len(rows))
            for index, chunk in zip(indices, self.sample(filled, length, stage=stage).cpu().numpy()):
                chunks[index] = chunk
        return np.stack(chunks)

    def _groups(self, examples: Sequence[Example], batch: int) -> Iterator[tuple[list[int], int]]:
        """Indices of examples that share a pass, and the length that their prompts are padded to."""
        by_length: dict[int, list[int]] = {}
        for index, example in enumerate(examples):
            length = len(self.prompt(example).ids)
            padded = length if batch == 1 else -(-length // LENGTH_STEP) * LENGTH_STEP
            by_length.setdefault(padded, []).append(index)
        for length, indices in by_length.items():
            for start in range(0, len(indices), batch):
                yield indices[start:start + batch], length

    def prompt(self, example: Example) -> Prompt:
        """The Prompt of an example, made once for each instruction and size of pictures."""
        grids = tuple(self.images.grid(image) for image in example.images)
        key = (example.instruction, grids)
        if key not in self.prompts:
            tokens = [rows * columns // self.images.merge ** 2 for rows, columns in grids]
            self.prompts[key] = self.vlm.prompt(self.text.ids(example.instruction, tokens), grids)
        return self.prompts[key]

    @torch.inference_mode()
    def sample(self, examples: Sequence[Example], length: int = 0, trace: dict[str, Any] | None = None,
               stage: Stage = no_stage, patches: Tensor | None = None) -> Tensor:
        """Chunks (B, T, action_dim) float32 of one pass; all pictures have one size.

        length: what prompts are padded to at least. trace: a dict that receives the quantities on the way. patches: to
        take instead of the examples' pictures.
        """
        with stage("host"):
            inputs = self.inputs(examples, length)
        if self.graphs is not None and trace is None and patches is None:
            with stage("graph"):
                return self.graphs(inputs)
        return self.answer(inputs, trace, stage, patches)

    def inputs(self, examples: Sequence[Example], length: int = 0) -> Inputs:
        """The examples as tensors; see `sample`."""
        batch = self.vlm.batch([self.prompt(example) for example in examples], self.text.pad_id, length)
        views = [image for example in examples for image in example.images]
        noise = self._stack([example.noise for example in examples])
        state = None if examples[0].state is None else self._stack([example.state[None] for example in examples])
        return Inputs(self.images.resize(views).to(self.device), self.images.grid(views[0]), batch.to(self.device),
                      state, noise)

    def _stack(self, arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device, self.dtype)

    def answer(self, inputs: Inputs, trace: dict[str, Any] | None = None, stage: Stage = no_stage,
               patches: Tensor | None = None) -> Tensor:
        """Chunks (B, T, action_dim) float32; without waiting for the device. trace, patches: see `sample`."""
        with stage("vlm"):
            pixels = self.images.patches(inputs.pixels) if patches is None else patches.to(self.device)
            features = self.vlm(pixels, inputs.grid, len(inputs.pixels), inputs.batch, trace)
        with stage("head"):
            chunk = self.head.sample(features, inputs.state, inputs.noise, inputs.batch.mask, trace)
        if trace is not None:
            trace.update(input_ids=inputs.batch.ids, attention_mask=inputs.batch.mask, pixel_values=pixels,
                         image_grid_thw=torch.tensor([(1, *inputs.grid)] * len(inputs.pixels)),
                         normalized_actions=chunk)
        return chunk


def load_network(settings: Settings, device: torch.device, dtype: torch.dtype, attention: str, head: str,
                 use_state: bool, final_norm: bool = False) -> Network:
    """The Network of a checkpoint. head: "auto", or one of NOISE_AT_ONE. use_state: whether the state is an input.
    final_norm: see Vlm. Raises InputError for weights that do not fit."""
    tensors = read_state_dict(settings.weights)
    check_prefixes(tensors, (VLM_PREFIX, HEAD_PREFIX), settings.weights)
    vlm = Vlm.on_meta(read_config(settings.base_vlm), attention, final_norm)
    load_strict(vlm, cast(take(tensors, VLM_PREFIX), device, dtype), SKIPPED, "Qwen3-VL")
    head_tensors = cast(take(tensors, HEAD_PREFIX), device, torch.float32)
    action_head = build_head(settings, head_tensors, head)
    load_strict(action_head, head_tensors, name="the action head")
    check_state(action_head.config, settings, use_state)
    if action_head.config.cross_dim != vlm.width:
        raise InputError(f"the action head attends to features of width {action_head.config.cross_dim}; the VLM in "
                         f"{settings.base_vlm} gives {vlm.width}")
    return finish(vlm, action_head, ImageProcessor.read(settings.base_vlm),
                  ChatText(settings.base_vlm, settings.prompt), device, dtype)


def finish(vlm: Vlm, head: ActionHead, images: ImageProcessor, text: Text, device: torch.device,
           dtype: torch.dtype) -> Network:
    """A Network of loaded parts, ready to act."""
    for part, name in ((vlm, "Qwen3-VL"), (head, "the action head")):
        part.to(device).eval().requires_grad_(False)
        check_materialized(part, name)
    return Network(vlm, head, images, text, device, dtype)


def cast(tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors on `device` as `dtype`, without those that are skipped."""
    return {name: tensor.to(device=device, dtype=dtype) for name, tensor in tensors.items()
            if not name.startswith(SKIPPED)}


def build_head(settings: Settings, tensors: dict[str, Tensor], choice: str) -> ActionHead:
    """An empty head sized by `tensors`; its direction of time by `choice`, "auto" being the one that goes with them:
    future tokens are starVLA's. Raises InputError where tensors and configuration disagree."""
    kind = choice
    if choice == "auto":
        kind = "starvla" if "future_tokens.weight" in tensors else "reconstruction"
        if FRAMEWORKS[settings.framework] != kind:
            raise InputError(f"config.yaml calls this {settings.framework}, whose head is "
                             f"{FRAMEWORKS[settings.framework]}, but the tensors are those of {kind} (future tokens or "
                             "none): which end of time is noise cannot be told.\nSay head=starvla (noise at 0) or "
                             "head=reconstruction (noise at 1).")
    config = HeadConfig.from_tensors(tensors, heads=settings.attention_heads, horizon=settings.horizon,
                                     noise_at_one=NOISE_AT_ONE[kind], steps=settings.steps, buckets=settings.buckets)
    with torch.device("meta"):
        return ActionHead(config)


def check_state(config: HeadConfig, settings: Settings, use_state: bool) -> None:
    """Raise InputError unless the head can take what it will be given."""
    if use_state and config.state_dim != settings.state_dim:
        raise InputError(f"the checkpoint's state encoder takes {config.state_dim or 'no'} numbers, config.yaml says "
                         f"{settings.state_dim}; give include_state=false if it was trained without state")
