"""starVLA's websocket server (starVLA/starVLA 0ed0aad, deployment/model_server/server_policy.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from baselines.common.layouts import SIDE, action_statistics, layout_for, read_statistics
from baselines.remote.client import Contract, WebsocketClient, close_sign, is_libero
from baselines.remote.dit4dit import ARGUMENTS, batch, inference_result
from baselines.remote.transports import RemoteError
from evalkit.errors import InputError
from evalkit.suite import Observation
from evalkit.wire import WireError, optional, take

#: What the columns of an action are called, in the suite's order (`action_keys` of the data configs in
#: examples/simBenchmarks/{LIBERO,Robocasa_tabletop}/train_files/data_registry).
LIBERO_KEYS = ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
GR1_KEYS = ["left_arm", "right_arm", "left_hand", "right_hand", "waist"]


class StarVLA(WebsocketClient):
    """starVLA checkpoints. Actions come un-normalised; a server from before its format of May 2025 sends normalised
    ones, and then option `checkpoint` (the run folder) un-normalises them.

    Images: LIBERO agentview then wrist, Pillow's bilinear filter (model2libero_interface.py), to the size of training
    or 224 x 224; GR1 the ego view, OpenCV's INTER_AREA to 224 x 224 (model2robocasa_interface.py). State: not sent on
    LIBERO; on GR1 sine and cosine, 58 numbers, unless option `send_state` is false (checkpoints such as
    Qwen3-VL-OFT-Robocasa were trained without).
    """

    family = "starvla"
    title = "starVLA"
    start = "python deployment/model_server/server_policy.py --ckpt_path <checkpoint> --port 10093 --idle_timeout -1"
    view_size = (SIDE, SIDE)
    unused = ("chunk_length",)

    def make_contract(self):
        self._layout = layout_for(self.suite, "remote")
        self._libero = is_libero(self.suite)
        if self._libero and self.options.send_state:
            raise InputError("option send_state of policy 'remote': starVLA's LIBERO client sends no state; allowed on "
                             "robocasa_gr1 only")
        self._sends_state = not self._libero and self.options.send_state is not False
        self._statistics = None
        if self.options.checkpoint:
            path = Path(self.options.checkpoint) / "dataset_statistics.json"
            self._statistics = action_statistics(read_statistics(path), self._layout, path)
        for name in self.options.views:
            if name not in self.suite.views:
                raise InputError(f"option views of policy 'remote' names {name!r}; suite {self.suite.name!r} has "
                                 f"{', '.join(self.suite.views)}")
        return Contract(self.options.views or self._layout.views, tuple(self.suite.state) if self._sends_state else (),
                        None, self._layout.executed_steps)

    def understand(self, greeting: dict[str, Any]) -> dict[str, Any]:
        """Chunk length and columns; refuses an image size, an order of columns or a choice of statistics that does
        not match."""
        length = take(greeting, "action_chunk_size", int)
        executed = length if self._libero else min(length, self._layout.executed_steps)  # LIBERO: the whole chunk
        self.contract = replace(self.contract, chunk_length=length, executed_steps=executed)
        keys = LIBERO_KEYS if self._libero else GR1_KEYS
        said = [str(key).rpartition(".")[2] for key in optional(greeting, "action_keys", list) or keys]
        if said != keys:
            raise InputError(f"{self} sends the action columns {', '.join(said)}; suite {self.suite.name!r} takes "
                             f"{', '.join(keys)}: the checkpoint is made for another embodiment")
        self.view_size = read_size(optional(greeting, "training_obs_image_size", list) or [SIDE, SIDE])
        if not self._libero and self.view_size != (SIDE, SIDE):
            raise InputError(f"{self} serves a checkpoint trained on images of {self.view_size}; on "
                             f"{self.suite.name!r} this client sends {(SIDE, SIDE)}, as starVLA's evaluation does")
        self._check_unnorm_key(greeting)
        return greeting

    def _check_unnorm_key(self, greeting: dict[str, Any]) -> None:
        available = [str(name) for name in optional(greeting, "available_unnorm_keys", list) or ()]
        key, listed = self.options.unnorm_key, ", ".join(available)
        if key is not None and available and key not in available:
            raise InputError(f"{self} has no statistics under {key!r}; allowed as option unnorm_key: {listed}")
        if key is None and greeting.get("default_unnorm_key") is None and len(available) > 1:
            raise InputError(f"{self} has statistics of several data sets and no default; pass "
                             f"--policy-option unnorm_key=<one of {listed}>")

    def infer(self, observations):
        message = {"examples": [self._example(observation) for observation in observations],
                   "unnorm_key": self.options.unnorm_key, **ARGUMENTS}
        data = inference_result(self.exchange(message), self)
        name = "actions" if "actions" in data else "normalized_actions"
        actions = batch(data, name, (len(observations), self.contract.chunk_length, self.suite.action.size), self)
        if name == "normalized_actions":
            if self._statistics is None:
                raise RemoteError(f"{self} sends normalised actions, as starVLA did before May 2025: pass "
                                  "--policy-option checkpoint=<run folder> for the statistics")
            actions = np.stack([self._layout.unnormalize(chunk, self._statistics, clip=False) for chunk in actions])
        return list(close_sign(actions) if self._libero else actions)

    def _example(self, observation: Observation) -> dict[str, Any]:
        chosen = [observation.views[name] for name in self.contract.views]
        if self._libero:
            images = [bilinear(image, *self.view_size) for image in chosen]
        else:
            images = self._layout.images(observation.views)
        example: dict[str, Any] = {"image": images, "lang": observation.instruction}
        if self._sends_state:
            example["state"] = self._layout.encode_state(observation.state, self._layout.state_size)[np.newaxis]
        return example


def read_size(size: Any) -> tuple[int, int]:
    """(height, width). Raises WireError for anything but two numbers of pixels."""
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and 0 < side < 8192 for side in size):
        raise WireError(f"training_obs_image_size is {size!r}, expected [height, width]")
    return size[0], size[1]


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (height, width, 3) by Pillow's bilinear filter; unchanged where it has that size."""
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
