"""A query as a CUDA graph: small batches are bound by launching some 4000 kernels, and a replay launches once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from baselines.qwen3dit.model import Inputs

#: Runs before a capture, in which libraries choose kernels and get their memory (torch.cuda.graph's documentation).
WARM_UP = 3


@dataclass(frozen=True)
class Captured:
    """One graph with the tensors that it reads and the one that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
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
            self._captured[key] = self._capture(inputs)
        captured = self._captured[key]
        for buffer, tensor in zip(captured.inputs.tensors, inputs.tensors):
            buffer.copy_(tensor)
        captured.graph.replay()
        return captured.chunk

    def _capture(self, inputs: Inputs) -> Captured:
        """`inputs` become the graph's own buffers."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._answer(inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            chunk = self._answer(inputs)
        return Captured(graph, inputs, chunk)
