"""DiT4DiT: released checkpoints of the paper's policy, Cosmos features into an action DiT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from baselines.common import NATIVE, REQUIREMENTS
from baselines.common.config import read_config
from baselines.common.layouts import action_statistics, layout_for, read_statistics
from baselines.dit4dit.config import FOLDER, RELEASED, read_settings
from baselines.dit4dit.folders import SYNTHETIC, find_base, find_weights
from evalkit.errors import InputError, unknown
from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Suite

if TYPE_CHECKING:
    import torch

    from baselines.dit4dit.examples import Inputs

#: Values of option `dtype`; what they mean stands in model.py, which needs torch.
DTYPES = ("fp32", "bf16", "bf16_all")

#: Default of option `batch` on a GPU. One observation costs as much as a full batch; larger ones use the GPU better.
GPU_BATCH = 4


class DiT4DiT(Policy):
    """The paper's policy, from a released checkpoint.

    checkpoint: its folder (config.yaml, dataset_statistics.json, final_model/pytorch_model.pt), or the .pt two levels
    below it; ``synthetic:gr1`` or ``synthetic:libero``: random weights of the released sizes, to measure speed.
    base_model: folder of nvidia/Cosmos-Predict2.5-2B in diffusers' layout: configs, tokenizer, scheduler.
    executed_steps: actions executed per query (default: the release's protocol, 12 on GR1, 8 on LIBERO).
    dtype: ``bf16`` (default on a GPU), ``bf16_all`` (as the server's --use_bf16) or ``fp32`` (default on a CPU).
    device: torch's name of it (default: cuda where there is one). batch: observations computed at once; fewer are
    padded to it, so that an action does not depend on how many travelled together (default: 4 on a GPU, 1 on a CPU).
    text_encoder: ``resident``, ``swapped`` (brought to the GPU for each new instruction), ``auto``: whichever fits.
    compile, graph: 1 to run the video transformer through torch.compile, everything but the text through a CUDA graph.
    """

    interpreter = NATIVE
    requirements = REQUIREMENTS

    def __init__(self, suite: Suite, checkpoint: str = "", base_model: str = "", executed_steps: int | None = None,
                 dtype: str = "", device: str = "", batch: int = 0, text_encoder: str = "auto", compile: int = 0,
                 graph: int = 0):
        self.layout = layout_for(suite, "dit4dit")
        self.synthetic = checkpoint.startswith(SYNTHETIC)
        if self.synthetic:
            self._take_synthetic(checkpoint)
        else:
            self._read_checkpoint(checkpoint, base_model)
        self._check_sizes()
        self._dtype, self._device, self._batch = dtype, device, _whole_number("batch", batch, 0)
        if dtype not in ("", *DTYPES):
            raise unknown("dtype of policy 'dit4dit'", dtype, DTYPES)
        if text_encoder not in ("auto", "resident", "swapped"):
            raise unknown("text_encoder of policy 'dit4dit'", text_encoder, ("auto", "resident", "swapped"))
        self._resident = {"auto": None, "resident": True, "swapped": False}[text_encoder]
        self._compile, self._graph = bool(compile), bool(graph)
        executed = self.layout.executed_steps if executed_steps is None else executed_steps
        if not 1 <= _whole_number("executed_steps", executed, 1) <= self.settings.horizon:
            raise InputError(f"policy 'dit4dit' would execute {executed} steps of chunks of {self.settings.horizon}; "
                             f"allowed: 1 to {self.settings.horizon}. Is the checkpoint made for {suite.name}?")
        self.spec = PolicySpec(
            "dit4dit", views=self.layout.views, state=tuple(self.layout.state), action_meaning=suite.action.meaning,
            chunk_length=self.settings.horizon, executed_steps=executed, suites=self.layout.suites)

    def _take_synthetic(self, checkpoint: str) -> None:
        name = checkpoint[len(SYNTHETIC):]
        if name != self.layout.name:
            raise InputError(f"checkpoint {checkpoint!r}: the suite's embodiment is {self.layout.name!r}; allowed: "
                             f"'{SYNTHETIC}{self.layout.name}'")
        low = [-1.0] * self.layout.action_size
        mask = [column != self.layout.gripper for column in range(self.layout.action_size)]
        self.settings = RELEASED[name]
        self.statistics = {self.layout.tag: {"action": {"min": low, "max": [-x for x in low], "mask": mask}}}
        self._action_statistics = action_statistics(self.statistics, self.layout, checkpoint)
        self.weights, self.base = None, None

    def _read_checkpoint(self, checkpoint: str, base_model: str) -> None:
        self.weights = find_weights(checkpoint)
        self.folder = self.weights.parents[1]
        config = read_config(self.folder / "config.yaml", FOLDER)
        self.settings = read_settings(config, self.folder / "config.yaml")
        self.statistics = read_statistics(self.folder / "dataset_statistics.json")
        self._action_statistics = action_statistics(self.statistics, self.layout,
                                                    self.folder / "dataset_statistics.json")
        self.base = find_base(base_model, config)

    def _check_sizes(self) -> None:
        """The checkpoint's columns hold the suite's."""
        for name, has, needs in (("action_dim", self.settings.action_dim, self.layout.action_size),
                                 ("state_dim", self.settings.state_dim, self.layout.state_size)):
            if has < needs:
                raise InputError(f"the checkpoint's {name} is {has}, the suite's embodiment {self.layout.name!r} needs "
                                 f"at least {needs}; give the checkpoint trained for this suite")

    def load(self) -> None:
        """Build the model and answer one batch of blank observations, so that kernels are chosen before the clock
        runs. Raises InputError."""
        import torch

        from baselines.common.checkpoint import read_state_dict
        from baselines.common.device import find_device
        from baselines.dit4dit import graph, model

        self.device = find_device(self._device, "dit4dit")
        gpu = self.device.type == "cuda"
        if not gpu and (self._compile or self._graph):
            raise InputError(f"options compile and graph need a GPU; the device is {self.device}. Leave them out here")
        self.dtype, self.batch = self._dtype or ("bf16" if gpu else "fp32"), self._batch or (GPU_BATCH if gpu else 1)
        precision = model.PRECISIONS[self.dtype]
        if gpu:
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.deterministic = True
        if self.synthetic:
            self.model = model.synthetic_model(self.settings, precision, self.device)
        else:
            self.model = model.load_model(read_state_dict(self.weights), self.base, self.settings, precision,
                                          self.device, self.weights, self._resident)
        if gpu and self._compile:
            self.model.video.compile_blocks()
        self._graphed = graph.GraphedAnswer(self.model) if gpu and self._graph else None
        if gpu:
            self.predict_examples([self.blank_example()])
            self.synchronize()

    def describe(self) -> dict[str, Any]:
        """See `Policy.describe`; `load` comes first."""
        if self.synthetic:
            return {"checkpoint": {"path": f"{SYNTHETIC}{self.layout.name}", "sha256": None}, **self._machine(),
                    "note": "synthetic: random weights and text features of the released sizes; actions mean nothing"}
        return {"checkpoint": {"path": str(self.weights), "sha256": self._sha256}, **self._machine(), "note": ""}

    @cached_property
    def _sha256(self) -> str:
        from baselines.common.checkpoint import file_sha256

        return file_sha256(self.weights)

    def _machine(self) -> dict[str, Any]:
        import torch

        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return {"parameters": self.model.parameters_stored, "device": name, "dtype": self.dtype, "batch": self.batch}

    def synchronize(self) -> None:
        """Wait for the GPU."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def act(self, observations):
        """Chunks (horizon, D) float32, un-normalised, in the suite's meaning."""
        with self.stage("host"):
            examples = [self.example(observation) for observation in observations]
        normalized = self.predict_examples(examples)["normalized_actions"]
        with self.stage("host"):
            return [self.to_suite(chunk) for chunk in normalized]

    def example(self, observation) -> dict[str, Any]:
        """An Observation in upstream's form, see `predict_examples`."""
        return {"image": [self.layout.image(observation.views)], "lang": observation.instruction,
                "state": self.layout.encode_state(observation.state, self.settings.state_dim)[None],
                "seed": observation.query_seed}

    def blank_example(self) -> dict[str, Any]:
        """A black image, no words, no state."""
        return {"image": [np.zeros(self.layout.image_shape, np.uint8)], "lang": "",
                "state": np.zeros((1, self.settings.state_dim), np.float32), "seed": 0}

    def to_suite(self, normalized: np.ndarray) -> np.ndarray:
        """A normalised chunk (T, A) as the suite takes it, (T, D) float32."""
        return self.layout.to_suite(self.layout.unnormalize(normalized, self._action_statistics))

    def predict_examples(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Upstream's wire form: ``{"normalized_actions": (B, T, A) float32}``, not clipped, padding columns included.

        An example: ``image``, a list of one image as `Layout.image_shape` (views side by side, already resized),
        ``lang``, ``state`` (1, state_dim) float, encoded, and optionally ``seed``, an int that decides the noise;
        without it the noise follows from the example's own content. Raises ValueError for anything else.
        """
        import torch

        groups = [examples[start:start + self.batch] for start in range(0, len(examples), self.batch)]
        chunks = [self._launch(self._inputs(group, index * self.batch)) for index, group in enumerate(groups)]
        nothing = torch.zeros((0, self.settings.horizon, self.settings.action_dim), device=self.device)
        answer = torch.cat([nothing, *chunks])
        with self.stage("host"):
            return {"normalized_actions": answer.cpu().numpy()}

    def _inputs(self, examples: Sequence[Mapping[str, Any]], first: int) -> list[Inputs]:
        """The checked examples, of which the first is called `first` in an error."""
        from baselines.dit4dit.examples import check_example

        with self.stage("host"):
            return [check_example(example, self.layout, self.settings, f"example {first + index}")
                    for index, example in enumerate(examples)]

    def _launch(self, inputs: Sequence[Inputs]) -> torch.Tensor:
        """(len(inputs), T, A) float32 on the device, on which a GPU may still be at work, of at most `batch` inputs,
        padded to `batch` by repeating the last."""
        import torch

        from baselines.dit4dit.model import Noise

        padded = [*inputs, *[inputs[-1]] * (self.batch - len(inputs))]
        with self.stage("host"):
            pixels = torch.from_numpy(np.stack([each.pixels for each in padded])).to(self.device)
            state = torch.from_numpy(np.stack([each.state for each in padded])).to(self.device)
            shapes = self.model.noise_shapes(*self.layout.image_shape[:2])
            noise = Noise.draw([each.seed for each in padded], shapes).to(self.device)
        with self.stage("text"):
            text = self.model.texts([each.instruction for each in padded])
        if self._graphed is None:
            return self.model.answer(pixels, text, state, noise, self.stage)[:len(inputs)]
        with self.stage("graph"):
            return self._graphed(pixels, text, state, noise)[:len(inputs)].clone()


def _whole_number(option: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"option {option} of policy 'dit4dit' is {value!r}; allowed: whole numbers from {least}")
    return value
