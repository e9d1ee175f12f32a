"""The device that a native policy acts on, and a query captured as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evalkit.errors import InputError

#: Runs before a capture, in which libraries choose kernels and get their memory (torch.cuda.graph's documentation).
WARM_UP = 3


def find_device(name: str, policy: str) -> torch.device:
    """torch's device of this name; "" and ``auto``: the GPU where there is one. Raises InputError, in the name of
    `policy`, for one that is not here."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if name in ("", "auto"):
        return torch.device("cuda" if gpus else "cpu")
    allowed = ["cpu", *(["cuda"] if gpus else []), *gpus]
    if name not in allowed:
        raise InputError(f"option device of policy {policy!r} is {name!r}; this machine has {', '.join(allowed)}")
    return torch.device(name)


def capture(run: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """`run` as a graph, and the tensor that every replay overwrites. What `run` reads must stay where it is."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()
    return graph, output
