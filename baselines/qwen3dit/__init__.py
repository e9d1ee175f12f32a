"""Qwen3DiT: Qwen3-VL features into the paper's action DiT (a reconstruction), or starVLA's QwenGR00T weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from baselines.common import NATIVE, REQUIREMENTS
from baselines.common.layouts import GR1, Statistics, action_statistics, layout_for, read_statistics
from baselines.qwen3dit.settings import FRAMEWORKS, NOISE_AT_ONE, Settings, find_weights, read_settings
from baselines.qwen3dit.synthetic import SYNTHETIC, synthetic_settings
from evalkit.episode import Episode
from evalkit.errors import InputError, unknown
from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Observation, Suite

#: What every table must say.
NOTES = {
    "starvla": "starVLA's QwenGR00T weights, not the paper's Qwen3DiT (which is unpublished): not comparable with the "
               "paper's Qwen3DiT rows",
    "reconstruction": "reconstruction of the paper's Qwen3DiT, of which neither code nor weights are published",
    "synthetic": "random weights of Qwen3DiT's size (reconstruction): for latency only, its actions mean nothing",
}

#: Rows of a forward pass on a GPU; a smaller batch is filled up, which costs less than launching the kernels.
GPU_BATCH = 8


class Qwen3DiT(Policy):
    """Qwen3-VL features into an action DiT.

    checkpoint: folder of a run in starVLA's layout or its .pt file; ``synthetic:gr1``, ``synthetic:libero``: random
    weights of the true size. base_vlm: folder of the VLM's configuration and processor files ("" : config.yaml's).
    executed_steps: 0: 12 on GR1 as the paper and starVLA, the whole chunk on LIBERO. head: auto, starvla (noise at
    time 0), reconstruction (noise at time 1). include_state: auto, true, false. tag: of the statistics ("" : the
    suite's). dtype: bf16 ("" : on a GPU), fp32 ("" : on a CPU). device: torch's name of it ("" : cuda where there is
    one). attention: sdpa, eager. batch: observations computed at once; fewer are filled up to it, so that an action
    does not depend on how many travelled together (0: 8 on a GPU, 1 on a CPU). graph: 1 to run a query as a CUDA graph.
    final_norm: 1 for weights trained on features after the VLM's last norm.
    """

    interpreter = NATIVE
    requirements = REQUIREMENTS

    def __init__(self, suite: Suite, checkpoint: str = "", base_vlm: str = "", executed_steps: int = 0,
                 head: str = "auto", include_state: str | bool = "auto", tag: str = "", dtype: str = "",
                 device: str = "", attention: str = "sdpa", batch: int = 0, graph: int = 0, final_norm: int = 0):
        for name, got, allowed in (("head", head, ("auto", *NOISE_AT_ONE)), ("dtype", dtype, ("", "bf16", "fp32")),
                                   ("attention", attention, ("sdpa", "eager")), ("graph", graph, (0, 1)),
                                   ("include_state", str(include_state).lower(), ("auto", "true", "false")),
                                   ("final_norm", final_norm, (0, 1))):
            if got not in allowed:
                raise unknown(f"value for option {name} of policy 'qwen3dit':", got, allowed)
        for name, number in (("batch", batch), ("executed_steps", executed_steps)):
            if not isinstance(number, int) or number < 0:
                raise InputError(f"option {name} of policy 'qwen3dit' is {number!r}; allowed: 1 or more, 0 for the "
                                 "default")
        self.layout = layout_for(suite, "qwen3dit")
        self._choices = {"head": head, "dtype": dtype, "device": device, "attention": attention, "batch": batch,
                         "graph": bool(graph), "final_norm": bool(final_norm)}
        self.settings, self._statistics = self._read(str(checkpoint), str(base_vlm), tag)
        self._state_dim = self.settings.state_dim if self._uses_state(str(include_state).lower()) else 0
        horizon = self.settings.horizon
        default = min(self.layout.executed_steps, horizon) if self.layout is GR1 else horizon
        self.spec = PolicySpec("qwen3dit", views=self.layout.views,
                               state=tuple(self.layout.state) if self._state_dim else (),
                               action_meaning=suite.action.meaning, chunk_length=horizon,
                               executed_steps=executed_steps or default, suites=self.layout.suites)
        self._suite = suite
        self.network: Any = None
        self._sha256 = ""

    def _read(self, checkpoint: str, base_vlm: str, tag: str) -> tuple[Settings, Statistics]:
        """Configuration and statistics of the checkpoint. Raises InputError."""
        if checkpoint.startswith("synthetic:"):
            return synthetic_settings(checkpoint, self.layout, base_vlm)
        if not checkpoint:
            raise InputError("policy 'qwen3dit' needs a checkpoint: checkpoint=FOLDER of a run in starVLA's layout, or "
                             f"one of {', '.join(SYNTHETIC)} for latency alone")
        settings = read_settings(find_weights(checkpoint), base_vlm)
        source = settings.weights.resolve().parents[1] / "dataset_statistics.json"
        layout = replace(self.layout, tag=tag or self.layout.tag)
        return settings, action_statistics(read_statistics(source), layout, source)

    def _uses_state(self, choice: str) -> bool:
        """Whether the state is an input: the option, else the configuration; starVLA's LIBERO client sends none."""
        settings, layout = self.settings, self.layout
        if choice == "auto":
            sent = layout is GR1 or FRAMEWORKS[settings.framework] == "reconstruction"
            used = sent and settings.state_dim > 0 and settings.include_state is not False
        else:
            used = choice == "true"
        if used and settings.state_dim < layout.state_size:
            raise InputError(f"the checkpoint's state has {settings.state_dim} numbers, sines and cosines of "
                             f"{layout.name}'s state are {layout.state_size}; give include_state=false if it was "
                             "trained without state")
        return used

    def load(self) -> None:
        import torch

        from baselines.common.device import find_device
        from baselines.qwen3dit.model import load_network
        from baselines.qwen3dit.synthetic import synthetic_network

        choices = self._choices
        device = find_device(choices["device"], "qwen3dit")
        gpu = device.type == "cuda"
        if gpu:
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        dtype = torch.bfloat16 if choices["dtype"] == "bf16" or (gpu and not choices["dtype"]) else torch.float32
        if self.settings.weights is None:
            self.network = synthetic_network(self.settings, self.layout, device, dtype, choices["attention"],
                                              choices["head"])
        else:
            self.network = load_network(self.settings, device, dtype, choices["attention"], choices["head"],
                                         self._state_dim > 0, choices["final_norm"])
        width = self.network.head.config.action_dim
        if width < self.layout.action_size:
            raise InputError(f"the checkpoint's actions have {width} numbers, suite {self._suite.name!r} takes "
                             f"{self.layout.action_size}: it was trained for another robot")
        self._batch = choices["batch"] or (GPU_BATCH if gpu else 1)
        if gpu:
            self._warm_up()

    def _warm_up(self) -> None:
        """Answer a blank observation, so that kernels are chosen, and a graph is captured, before the clock runs."""
        if self._choices["graph"]:
            from baselines.qwen3dit.graph import Graphs

            self.network.graphs = Graphs(self.network.answer)
        task, suite = self._suite.tasks[0], self._suite
        self.act([Observation({name: np.zeros(shape, np.uint8) for name, shape in suite.views.items()},
                              {name: np.zeros(size) for name, size in suite.state.items()}, task.instruction,
                              Episode(suite.name, task.index, 0, 0, suite.max_steps), 0)])
        self.synchronize()

    def describe(self) -> dict[str, Any]:
        weights = self.settings.weights
        said: dict[str, Any] = {"note": NOTES["synthetic" if weights is None else FRAMEWORKS[self.settings.framework]],
                                "framework": self.settings.framework, "state": self._state_dim > 0}
        if self.network is None:
            return said
        from baselines.common.checkpoint import file_sha256

        network, config = self.network, self.network.head.config
        if weights is not None and not self._sha256:
            self._sha256 = file_sha256(weights)
        path = str(weights or f"synthetic:{self.layout.name}")
        return {**said, "checkpoint": {"path": path, "sha256": self._sha256}, "parameters": network.parameters,
                "device": str(network.device),
                "dtype": f"{network.dtype} VLM, torch.float32 head".replace("torch.", ""),
                "attention": self._choices["attention"], "batch": self._batch,
                "graph": network.graphs is not None, "final_norm": network.vlm.final_norm,
                "head": {"noise_at": 1 if config.noise_at_one else 0, "future_tokens": config.future_tokens,
                         "width": config.width, "layers": config.layers, "steps": config.steps}}

    def synchronize(self) -> None:
        if self.network is not None and self.network.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.network.device)

    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        with self.stage("host"):
            examples = [self.example(observation) for observation in observations]
        chunks = self.network.act(examples, self._batch, self.stage)
        return [self.actions(chunk) for chunk in chunks]

    def example(self, observation: Observation) -> Any:
        """The `model.Example` of an observation: views resized, state encoded, noise drawn."""
        from baselines.qwen3dit.model import Example
        from baselines.qwen3dit.prompt import client_view, server_view

        images = [server_view(client_view(observation.views[name], self._suite.name), self.settings.image_size)
                  for name in self.layout.views]
        state = self.layout.encode_state(observation.state, self._state_dim) if self._state_dim else None
        config = self.network.head.config
        noise = observation.generator("action noise").standard_normal((config.horizon, config.action_dim), np.float32)
        return Example(images, observation.instruction, state, noise)

    def actions(self, chunk: np.ndarray) -> np.ndarray:
        """A chunk (T, action_dim) of the network in the suite's meaning, (T, D) float32; not clipped, as in starVLA."""
        return self.layout.to_suite(self.layout.unnormalize(chunk, self._statistics, clip=False))
