"""DiT4DiT's websocket server (Mondo-Robotics/DiT4DiT 0362b34): normalised actions, no statistics, no facts at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baselines.common.config import check_ranges
from baselines.common.layouts import SIDE, action_statistics, layout_for, read_statistics
from baselines.remote.client import Contract, WebsocketClient
from baselines.remote.transports import RemoteError
from evalkit.errors import InputError
from evalkit.parsing import parse_yaml, read_text
from evalkit.suite import Observation
from evalkit.wire import take

#: Arguments that upstream's clients send beside the examples; the model swallows them.
ARGUMENTS = {"do_sample": False, "use_ddim": True, "num_ddim_steps": 10}


class Dit4Dit(WebsocketClient):
    """Released DiT4DiT checkpoints. Option `checkpoint` is the run folder (config.yaml, dataset_statistics.json) that
    the server was started with: sizes and un-normalisation come from there."""

    family = "dit4dit"
    title = "DiT4DiT"
    start = ("bash deployment/model_server/server_policy.sh, or server_policy.py --ckpt_path <run>/final_model/"
             "pytorch_model.pt --port 10093 --idle_timeout -1")
    view_size = (SIDE, SIDE)
    unused = ("unnorm_key", "views", "send_state", "chunk_length")

    def make_contract(self):
        self._layout = layout_for(self.suite, "remote")
        if not self.options.checkpoint:
            raise InputError("a DiT4DiT server sends normalised actions and no statistics: give the run folder it "
                             "serves, which holds config.yaml and dataset_statistics.json:\n"
                             "  --policy-option checkpoint=<run folder>")
        folder = Path(self.options.checkpoint)
        self._state_dim, self._action_dim, horizon = read_sizes(folder / "config.yaml")
        if self._state_dim < self._layout.state_size or self._action_dim < self._layout.action_size:
            raise InputError(f"{folder}: state_dim {self._state_dim} and action_dim {self._action_dim}; suite "
                             f"{self.suite.name!r} needs at least {self._layout.state_size} and "
                             f"{self._layout.action_size}: this checkpoint is made for another embodiment")
        path = folder / "dataset_statistics.json"
        self._statistics = action_statistics(read_statistics(path), self._layout, path)
        return Contract(self._layout.views, tuple(self._layout.state), horizon,
                        min(self._layout.executed_steps, horizon))

    def infer(self, observations):
        message = {"examples": [self._example(observation) for observation in observations], **ARGUMENTS}
        data = inference_result(self.exchange(message), self)
        shape = (len(observations), self.contract.chunk_length, self._action_dim)
        return [self._layout.to_suite(self._layout.unnormalize(chunk, self._statistics))
                for chunk in batch(data, "normalized_actions", shape, self)]

    def _example(self, observation: Observation) -> dict[str, Any]:
        state = self._layout.encode_state(observation.state, self._state_dim)
        return {"image": [self._layout.image(observation.views)], "lang": observation.instruction,
                "state": state[np.newaxis]}


def read_sizes(path: Path) -> tuple[int, int, int]:
    """(state_dim, action_dim, action_horizon) of a run's config.yaml. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path} is missing: option checkpoint is the run folder, with config.yaml and "
                         "dataset_statistics.json in it")
    try:
        model = parse_yaml(read_text(path))["framework"]["action_model"]
        sizes = {name: int(model[name]) for name in ("state_dim", "action_dim", "action_horizon")}
    except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} has no framework.action_model with state_dim, action_dim and action_horizon "
                         f"({type(error).__name__}: {error})") from error
    check_ranges({**sizes, "horizon": sizes["action_horizon"]}, path)
    return sizes["state_dim"], sizes["action_dim"], sizes["action_horizon"]


def inference_result(reply: Any, client: Any) -> dict[str, Any]:
    """The `data` of a DiT4DiT or starVLA reply. Raises RemoteError with the model's own message."""
    if not take(reply, "ok", bool):
        error = reply.get("error")
        message = error.get("message") if isinstance(error, dict) else error
        raise RemoteError(f"{client} answered with an error: {' '.join(str(message).split())[:500]}")
    return take(reply, "data", dict)


def batch(data: dict[str, Any], name: str, shape: Sequence[int | None], client: Any) -> np.ndarray:
    """The floats under `name`, of `shape` (None: any size) and finite. Raises RemoteError."""
    array = take(data, name, np.ndarray)
    if array.dtype.kind != "f":
        raise RemoteError(f"{client} sent {name} of type {array.dtype}, expected floats")
    if array.ndim != len(shape) or any(wanted not in (None, size) for wanted, size in zip(shape, array.shape)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise RemoteError(f"{client} sent {name} of shape {array.shape}, expected ({wanted})")
    if not np.isfinite(array).all():
        raise RemoteError(f"{client} sent NaN or infinity in {name}")
    return array
