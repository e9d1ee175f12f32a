"""LeRobot: ACT, SmolVLA, diffusion and VQ-BeT policies of the lerobot package, with their own processors, on LIBERO."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from baselines.lerobot.checkpoint import STATE_GROUPS, read_checkpoint
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.policy import Policy
from evalkit.specs import PolicySpec
from evalkit.suite import Observation, Suite

if TYPE_CHECKING:
    from baselines.lerobot.runtime import Runner

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")

#: Episodes whose memory is kept at most, the most recently used; far more than run at once. One holds a few
#: observations of 1.6 MB each (two float32 images).
EPISODES_KEPT = 256


@dataclass
class Memory:
    """What an episode's policy keeps between its queries: a fork of the policy that has acted `steps` times."""

    policy: Any
    steps: int = 0


class LeRobot(Policy):
    """A policy of the lerobot package, driven as lerobot-eval drives it: preprocessor, `select_action`, postprocessor.

    A policy that predicts a chunk from one observation is asked once a chunk. A policy that keeps observations or mixes
    predictions sees every control step (`executed_steps` of its spec is 1, `stateful`), with a memory of its own for
    each episode; how often it predicts anew is its own doing.

    checkpoint: folder with config.json, model.safetensors and both processors. device: ``auto`` (CUDA if there is
    one), ``cpu``, ``cuda``, ``cuda:1``. executed_steps: actions executed of each prediction (default: the config's
    n_action_steps). views: image feature -> ``agentview`` or ``wrist``, where their names do not say it; None: SmolVLA
    runs without that camera.
    """

    interpreter = "lerobot"
    requirements = Path(__file__).with_name("requirements.txt")

    def __init__(self, suite: Suite, checkpoint: str = "", device: str = "auto", executed_steps: int | None = None,
                 views: Mapping[str, str | None] | None = None):
        if suite.name not in SUITES:
            raise InputError(f"policy 'lerobot' is made for {', '.join(SUITES)}, not for {suite.name}")
        if not checkpoint:
            raise InputError("policy 'lerobot' needs a checkpoint's folder: -o checkpoint=path/to/pretrained_model")
        if views is not None and not isinstance(views, Mapping):
            raise InputError(f"option views of policy 'lerobot' is {views!r}; allowed: a mapping of image features to "
                             "views, as -o 'views={observation.images.front: agentview}'")
        self.checkpoint = read_checkpoint(checkpoint, suite, executed_steps, views)
        self._device, self._steps = device, executed_steps
        steps = 1 if self.checkpoint.stepwise else self.checkpoint.steps
        self.spec = PolicySpec(
            "lerobot", views=tuple(dict.fromkeys(self.checkpoint.cameras.values())),
            state=STATE_GROUPS if self.checkpoint.state else (), action_meaning=suite.action.meaning,
            chunk_length=steps, executed_steps=steps, suites=SUITES, stateful=self.checkpoint.stepwise)
        self._memories: OrderedDict[str, Memory] = OrderedDict()

    def load(self) -> None:
        from baselines.lerobot.runtime import Runner
        self._runner: Runner = Runner(self.checkpoint, self._device, self._steps)

    def describe(self) -> dict[str, Any]:
        return self._runner.describe()

    def synchronize(self) -> None:
        self._runner.synchronize()

    def reset(self, episode: Episode) -> None:
        self._memories.pop(episode.id, None)

    def act(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        """One at a time: lerobot's policies draw noise from torch's one generator, which is seeded for each
        observation; a batch could not keep them apart."""
        return [self._act(observation) for observation in observations]

    def _act(self, observation: Observation) -> np.ndarray:
        if not self.checkpoint.stepwise:
            return self._chunk(self._runner.fresh(), observation)
        memory = self._recall(observation)
        chunk = self._chunk(memory.policy, observation)
        memory.steps += 1
        self._memories[observation.episode.id] = memory
        if len(self._memories) > EPISODES_KEPT:
            self._memories.popitem(last=False)
        return chunk

    def _chunk(self, policy: Any, observation: Observation) -> np.ndarray:
        seed = int(observation.generator("lerobot").integers(2**63))
        with self.stage("preprocess"):
            batch = self._runner.preprocess(observation)
        with self.stage("policy"):
            actions = self._runner.select(policy, batch, self.spec.executed_steps, seed)
        with self.stage("postprocess"):
            return self._runner.postprocess(actions)

    def _recall(self, observation: Observation) -> Memory:
        """The memory of the observation's episode, taken out: where the policy fails, nothing half moved stays. Raises
        RuntimeError unless it has seen exactly the steps before this one."""
        memory = self._memories.pop(observation.episode.id, None)
        if observation.step == 0:
            memory = Memory(self._runner.fork())
        if memory is None or memory.steps != observation.step:
            seen = "nothing" if memory is None else f"{memory.steps} steps"
            raise RuntimeError(f"this {self.checkpoint.kind} policy must see every control step: of "
                               f"{observation.episode.id} it has seen {seen}, and now comes step {observation.step}; "
                               "the episode has to begin again")
        return memory
