"""The lerobot package at work: its policy, its processors, one observation at a time. Imports torch and lerobot."""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from baselines.common.checkpoint import file_sha256
from baselines.common.device import find_device
from baselines.lerobot.checkpoint import STATE, STATE_GROUPS, WEIGHTS, Checkpoint, read_dtypes
from evalkit.errors import InputError
from evalkit.suite import Observation

#: Operators that torchvision describes to torch at import without asking whether they are there
#: (torchvision/_meta_registrations.py of 0.28).
TORCHVISION_OPERATORS = ("nms", "qnms")

#: What safetensors calls the types of parameters.
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

_declared: list[torch.library.Library] = []


def import_torchvision() -> None:
    """Import torchvision, also where its compiled operators cannot be loaded.

    torchvision's wheel on PyPI is made for CUDA. Beside a CPU build of torch its library does not load, and the import
    ends with "operator torchvision::nms does not exist". Policies use its ResNets and transforms, which are plain
    torch, so it is enough to declare those two operators; calling one still raises torchvision's own error.
    Does nothing where torchvision imports as it is.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in TORCHVISION_OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)  # what a Library declared ends with it
        importlib.import_module("torchvision")


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn whatever lerobot raises about a file into an InputError that names `what`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # lerobot, draccus, safetensors and transformers have an exception of their own each
        version = importlib.metadata.version("lerobot")
        raise InputError(f"lerobot {version} cannot load {what}: {type(error).__name__}: {error}") from error


class Runner:
    """A loaded policy with its processors. `steps`: n_action_steps instead of the config's, or None."""

    def __init__(self, checkpoint: Checkpoint, device: str, steps: int | None):
        self.checkpoint, self.device = checkpoint, find_device(device, "lerobot")
        import_torchvision()
        self.config = self._read_config(steps)
        self.policy = self._load_policy()
        self.preprocessor, self.postprocessor = self._load_processors()
        self._sha256 = file_sha256(checkpoint.folder / WEIGHTS)

    def _read_config(self, steps: int | None) -> Any:
        import lerobot.policies  # noqa: F401 - registers the configs of its types
        from lerobot.configs.policies import PreTrainedConfig
        overrides = [f"--device={self.device}"] + ([] if steps is None else [f"--n_action_steps={steps}"])
        with loading(f"the config in {self.checkpoint.folder}"):
            return PreTrainedConfig.from_pretrained(self.checkpoint.folder, cli_overrides=overrides)

    def _load_policy(self) -> torch.nn.Module:
        """In evaluation mode on the device; a key too many or too few in the file raises InputError.

        Every weight comes from the checkpoint, so lerobot is told not to fetch those of a backbone first. For SmolVLA
        that also decided their dtype: what it fetches is bfloat16, what it builds itself is not; parameters get the
        dtype in which they were saved, which is what they were trained in.
        """
        from lerobot.policies.factory import get_policy_class
        if hasattr(self.config, "pretrained_backbone_weights"):
            self.config.pretrained_backbone_weights = None
        fetches = getattr(self.config, "load_vlm_weights", False)
        if fetches:
            self.config.load_vlm_weights = False
        with loading(f"the {self.checkpoint.kind} policy in {self.checkpoint.folder}"):
            policy = get_policy_class(self.checkpoint.kind).from_pretrained(
                self.checkpoint.folder, config=self.config, strict=True)
        if fetches:
            saved = read_dtypes(self.checkpoint.folder / WEIGHTS)
            for name, parameter in policy.named_parameters():
                parameter.data = parameter.data.to(DTYPES.get(saved.get(name), parameter.dtype))
        return policy.to(self.device).eval().requires_grad_(False)

    def _load_processors(self) -> tuple[Any, Any]:
        """(preprocessor, postprocessor) of the folder, on this device."""
        from lerobot.policies.factory import make_pre_post_processors
        with loading(f"the processors in {self.checkpoint.folder}"):
            return make_pre_post_processors(self.config, str(self.checkpoint.folder), preprocessor_overrides={
                "device_processor": {"device": str(self.device)}})

    def fresh(self) -> torch.nn.Module:
        """The policy with nothing remembered."""
        self.policy.reset()
        return self.policy

    def fork(self) -> torch.nn.Module:
        """A policy with a memory of its own, which shares weights and config with this one."""
        shared = (self.config, *self.policy.children(), *self.policy.parameters(), *self.policy.buffers())
        forked = copy.deepcopy(self.policy, {id(item): item for item in shared})
        forked.reset()
        return forked

    def preprocess(self, observation: Observation) -> dict[str, Any]:
        """What the policy's `select_action` takes, from what lerobot's LIBERO environment gives: images (1, 3, H, W)
        float32 in [0, 1], state (1, 8) float32, the instruction (lerobot/envs/utils.py, preprocess_observation;
        lerobot/processor/env_processor.py turns images by 180 degrees, as the suite's views are already)."""
        sources = self.checkpoint.sources
        batch: dict[str, Any] = {"task": [observation.instruction]}
        for feature, view in self.checkpoint.cameras.items():
            image = torch.tensor(observation.views[view])
            batch[sources[feature]] = image.permute(2, 0, 1)[None].contiguous().float() / 255
        if self.checkpoint.state:
            state = np.concatenate([observation.state[group] for group in STATE_GROUPS]).astype(np.float32)
            batch[sources[STATE]] = torch.from_numpy(state)[None]
        return self.preprocessor(batch)

    def select(self, policy: torch.nn.Module, batch: dict[str, Any], count: int, seed: int) -> list[torch.Tensor]:
        """The next `count` normalised actions (1, D) of `policy`; whatever is random in them follows from `seed`."""
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng([self.device] if self.device.type == "cuda" else []))
            torch.manual_seed(seed)
            stack.enter_context(torch.inference_mode())
            if self.config.use_amp:
                stack.enter_context(torch.autocast(self.device.type))
            return [policy.select_action(dict(batch)) for _ in range(count)]

    def postprocess(self, actions: list[torch.Tensor]) -> np.ndarray:
        """(T, D) float32, un-normalised one by one as lerobot does it."""
        return torch.cat([self.postprocessor(action) for action in actions]).float().cpu().numpy()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def describe(self) -> dict[str, Any]:
        """See `Policy.describe`."""
        parameters = list(self.policy.parameters())
        return {
            "checkpoint": {"path": str(self.checkpoint.folder / WEIGHTS), "sha256": self._sha256},
            "type": self.checkpoint.kind, "lerobot": importlib.metadata.version("lerobot"),
            "parameters": sum(parameter.numel() for parameter in parameters),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device),
            "dtype": "+".join(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters})),
            "views": dict(self.checkpoint.cameras), "steps_per_prediction": self.checkpoint.steps,
        }
