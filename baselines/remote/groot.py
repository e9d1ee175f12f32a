"""GR00T's servers (NVIDIA/Isaac-GR00T): N1.5 over ZMQ and HTTP (gr00t/eval/service.py, http_server.py at 0a015f6),
N1.6 over ZMQ (gr00t/policy/server_client.py at 38624df).

Sine and cosine, cropping, resizing and un-normalisation are the server's; actions come in absolute units by group.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from baselines.remote.client import Client, Contract, close_sign, is_gr1, is_libero, libero_state
from baselines.remote.transports import Http, RemoteError, Zmq
from evalkit import wire
from evalkit.errors import InputError
from evalkit.suite import Observation, Suite


@dataclass(frozen=True)
class Form:
    """One embodiment as a GR00T server knows it.

    videos: suite's view -> key after ``video.``. state, action: keys after ``state.`` and ``action.`` with sizes, in
    the suite's order. language: key of the instruction. horizon: actions in a chunk; executed: in NVIDIA's evaluation.
    """

    videos: dict[str, str]
    state: dict[str, int]
    action: dict[str, int]
    language: str
    horizon: int
    executed: int


_GR1_GROUPS = {"left_arm": 7, "right_arm": 7, "left_hand": 6, "right_hand": 6, "waist": 3}
_LIBERO_STATE = {"x": 1, "y": 1, "z": 1, "roll": 1, "pitch": 1, "yaw": 1, "gripper": 2}
_LIBERO_ACTION = {**_LIBERO_STATE, "gripper": 1}

#: GR1: getting_started/simulation evaluation of N1.5 (data config fourier_gr1_arms_waist; the client renames the view)
#: and the N1.6 simulator client (embodiment tag GR1). LIBERO: examples/Libero of N1.5 (one step executed) and
#: gr00t/eval/sim/LIBERO with tag LIBERO_PANDA of N1.6.
FORMS = {
    ("n15", "gr1"): Form({"ego_view": "ego_view"}, _GR1_GROUPS, _GR1_GROUPS, "annotation.human.coarse_action", 16, 16),
    ("n16", "gr1"): Form({"ego_view": "ego_view_bg_crop_pad_res256_freq20"}, _GR1_GROUPS, _GR1_GROUPS,
                         "annotation.human.coarse_action", 16, 8),
    ("n15", "libero"): Form({"agentview": "image", "wrist": "wrist_image"}, _LIBERO_STATE, _LIBERO_ACTION,
                            "annotation.human.action.task_description", 16, 1),
    ("n16", "libero"): Form({"agentview": "image", "wrist": "wrist_image"}, _LIBERO_STATE, _LIBERO_ACTION,
                            "annotation.human.action.task_description", 16, 8),
}


class Groot(Client):
    """What the three servers share: observations and actions by key, batched."""

    version: ClassVar[str]

    def make_contract(self):
        self._libero = is_libero(self.suite)
        if not self._libero and not is_gr1(self.suite):
            raise self.no_form("libero_*", "robocasa_gr1")
        self.form = FORMS[self.version, "libero" if self._libero else "gr1"]
        return Contract(tuple(self.form.videos), tuple(self.suite.state), self.form.horizon, self.form.executed)

    def observe(self, observations: Sequence[Observation]) -> dict[str, Any]:
        """The server's observation of a batch: video uint8 (B, 1, H, W, 3), state float32 (B, 1, d), B instructions."""
        found: dict[str, Any] = {}
        for view, key in self.form.videos.items():
            found[f"video.{key}"] = np.stack([observation.views[view] for observation in observations])[:, np.newaxis]
        states = np.stack([self._state(observation) for observation in observations])[:, np.newaxis]
        ends = np.cumsum(list(self.form.state.values()))[:-1]
        for key, values in zip(self.form.state, np.split(states.astype(np.float32), ends, axis=-1)):
            found[f"state.{key}"] = values
        found[self.form.language] = [observation.instruction for observation in observations]
        return found

    def _state(self, observation: Observation) -> np.ndarray:
        if self._libero:
            return libero_state(observation.state)
        return np.concatenate([observation.state[group] for group in self.form.state])

    def actions(self, reply: Any, count: int) -> list[np.ndarray]:
        """A chunk (T, D) for each of `count` observations from a reply's groups. Raises RemoteError, WireError."""
        groups = []
        for key, size in self.form.action.items():
            group = wire.take(reply, f"action.{key}", np.ndarray)
            if size == 1 and group.ndim == 2:
                group = group[..., np.newaxis]  # a column without an axis of its own
            if group.dtype.kind != "f" or group.ndim != 3 or group.shape[::2] != (count, size):
                raise RemoteError(f"{self} sent action.{key} as {group.dtype} {group.shape}, expected floats "
                                  f"({count}, T, {size})")
            groups.append(group)
        lengths = {group.shape[1] for group in groups}
        if len(lengths) > 1:
            raise RemoteError(f"{self} sent groups of different lengths: {sorted(lengths)}")
        joined = np.concatenate(groups, axis=-1)
        return list(close_sign(joined) if self._libero else joined)

    def compare(self, config: Any) -> dict[str, Any]:
        """Check `get_modality_config`'s answer; the facts in it. Raises InputError naming keys that do not match."""
        if not isinstance(config, dict) or not all(isinstance(config.get(kind), dict) and
                                                   isinstance(config[kind].get("modality_keys"), list)
                                                   for kind in ("video", "state", "action")):
            return {}  # starVLA's ZMQ server describes itself in another form; the trial inference decides
        keys = {kind: [str(key).rpartition(".")[2] for key in config[kind]["modality_keys"]]
                for kind in ("video", "state", "action")}
        wanted = {"video": list(self.form.videos.values()), "state": list(self.form.state),
                  "action": list(self.form.action)}
        wrong = [f"{kind}: the server has {', '.join(keys[kind])}; suite {self.suite.name!r} has "
                 f"{', '.join(wanted[kind])}" for kind in keys if set(keys[kind]) != set(wanted[kind])]
        if wrong:
            raise InputError(f"{self} is for another embodiment:\n  - " + "\n  - ".join(wrong))
        horizon = len(wire.optional(config["action"], "delta_indices", list) or []) or self.form.horizon
        self.contract = replace(self.contract, chunk_length=horizon)
        return {**keys, "horizon": horizon}


class GrootZmq(Groot):
    """A GR00T server on a ZMQ REP socket: one request at a time for all its clients."""

    def __init__(self, suite: Suite, options):
        super().__init__(suite, options)
        self._socket: Zmq | None = None

    def connect(self):
        self._socket = Zmq(self.options.address)
        patience = self.options.address.connect_timeout
        self.call("ping", patience)
        return self.compare(self.call("get_modality_config", patience))

    def call(self, endpoint: str, seconds: float, data: Any = None) -> Any:
        """The answer of `endpoint`. Raises RemoteError when it is an error."""
        request = {"endpoint": endpoint, **({"data": data} if data is not None else {})}
        if self.options.address.key:
            request["api_token"] = self.options.address.key
        raw = self._socket.ask(wire.pack(request, wire.NPY), seconds)
        if raw == b"ERROR":
            raise RemoteError(f"{self} answered ERROR to {endpoint}, without a reason; its log has it")
        reply = wire.unpack(raw)
        if isinstance(reply, dict) and "error" in reply:
            said = " ".join(str(reply["error"]).split())
            raise RemoteError(f"{self} answered {endpoint} with an error: {said[:500]}")
        return reply

    def disconnect(self):
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class GrootN15(GrootZmq):
    """N1.5, and N1 since August 2025."""

    family, version = "groot_n15", "n15"
    title = "GR00T N1.5"
    start = ("python scripts/inference_service.py --server --model-path <checkpoint> --embodiment-tag gr1 "
             "--data-config fourier_gr1_arms_waist --port 5555")

    def infer(self, observations):
        reply = self.call("get_action", self.seconds, self.observe(observations))
        return self.actions(reply, len(observations))


class GrootN16(GrootZmq):
    """N1.6 with its simulator wrapper (flat keys)."""

    family, version = "groot_n16", "n16"
    title = "GR00T N1.6"
    start = ("python gr00t/eval/run_gr00t_server.py --model-path nvidia/GR00T-N1.6-3B --embodiment-tag GR1 "
             "--use-sim-policy-wrapper --port 5555")

    def infer(self, observations):
        if any(observation.step == 0 for observation in observations):
            self.call("reset", self.seconds, {"options": None})
        reply = self.call("get_action", self.seconds, {"observation": self.observe(observations), "options": None})
        if not isinstance(reply, list) or len(reply) != 2:
            raise RemoteError(f"{self} answered get_action with a {type(reply).__name__}, expected [actions, info]")
        return self.actions(reply[0], len(observations))


class GrootN15Http(Groot):
    """N1.5's HTTP variant: JSON with json-numpy arrays."""

    family, version = "groot_n15_http", "n15"
    title = "GR00T N1.5 (HTTP)"
    start = "python scripts/inference_service.py --server --http-server --model-path <checkpoint> --port 8000"

    def __init__(self, suite: Suite, options):
        super().__init__(suite, options)
        self._http: Http | None = None

    def connect(self):
        self._http = Http(self.options.address)
        health = decode_json(self._http.greet("/health"))
        if not isinstance(health, dict) or health.get("status") != "healthy":
            raise RemoteError(f"{self} says it is not healthy: {str(health)[:200]}")
        return {key: health.get(key) for key in ("status", "model")}

    def infer(self, observations):
        body = json.dumps({"observation": self.observe(observations)}, default=encode_array).encode()
        reply = decode_json(self._http.ask("POST", "/act", self.seconds, body))
        if not isinstance(reply, dict):
            raise RemoteError(f"{self} answered with a {type(reply).__name__}, expected a map of actions")
        return self.actions({key: as_floats(value) for key, value in reply.items()}, len(observations))

    def disconnect(self):
        if self._http is not None:
            self._http.close()
            self._http = None


def encode_array(value: Any) -> dict[str, Any]:
    """json's hook: an array in json-numpy's form (Crimson-Crow/json-numpy)."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} has no JSON form")
    data = np.ascontiguousarray(value)
    return {"__numpy__": b64encode(data.tobytes()).decode(), "dtype": data.dtype.str, "shape": list(data.shape)}


def decode_json(body: bytes) -> Any:
    """JSON with json-numpy arrays. Raises WireError. Some servers send it as a JSON string inside JSON."""
    value = wire.read_json(body, _decode_array)
    return wire.read_json(value, _decode_array) if isinstance(value, str) else value


def _decode_array(found: dict[str, Any]) -> Any:
    if "__numpy__" not in found:
        return found
    return wire.read_array(b64decode(found["__numpy__"]), found["dtype"], found["shape"])


def as_floats(value: Any) -> Any:
    """Nested lists of numbers as an array; anything else as it is."""
    if not isinstance(value, list):
        return value
    try:
        return np.array(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        return value
