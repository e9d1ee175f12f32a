"""A query as a CUDA graph: small batches are bound by launching some 4000 kernels, and a replay launches once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.common.device import capture
from baselines.qwen3dit.model import Inputs


@dataclass(frozen=True)
class Captured:
    """The tensors that one graph reads, the graph, and the tensor that it writes."""

    inputs: Inputs
    graph: torch.cuda.CUDAGraph
    chunk: Tensor


class Graphs:
    """`Network.answer` captured once for each shape of its inputs: one a padded length of the prompt."""

    def __init__(self, answer: Callable[[Inputs], Tensor]):
        self._answer = answer
        self._captured: dict[tuple, Captured] = {}

    def __call__(self, inputs: Inputs) -> Tensor:
        """The chunks (B, T, action_dim); they lie in a buffer that the next call overwrites."""
        key = (inputs.grid, *(tensor.shape for tensor in inputs.tensors))
        if key not in self._captured:
            self._captured[key] = Captured(inputs, *capture(lambda: self._answer(inputs)))
        captured = self._captured[key]
        for buffer, tensor in zip(captured.inputs.tensors, inputs.tensors):
            buffer.copy_(tensor)
        captured.graph.replay()
        return captured.chunk
