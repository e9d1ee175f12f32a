"""vla-eval's websocket servers (allenai/vla-evaluation-harness e1ee9ad): an action, or a chunk, an observation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from baselines.remote.client import Contract, WebsocketClient, is_libero, libero_state
from baselines.remote.transports import RemoteError, Silence, Websocket
from evalkit import wire
from evalkit.errors import InputError
from evalkit.suite import Observation

#: Sent in `hello`; the server only logs another version than its own.
VERSION, PROTOCOL = "evalkit", 1

#: Seconds to listen for an error after `episode_start`, which has no reply when all is well. A later one is recognised
#: by its number.
GRACE = 0.05

#: What LIBERO's actions are, as the server may declare them (src/vla_eval/specs.py); "raw" declares nothing.
ACTION_FORMATS = {"position": ("delta_xyz", "raw"), "rotation": ("axis_angle", "raw"),
                  "gripper": ("binary_close_positive", "raw")}


class VlaEval(WebsocketClient):
    """Model servers of vla-eval on LIBERO. Stock servers keep the chunk and give out one action a request, so every
    step is looked at and queried; `executed_steps` is for those that return chunks."""

    family = "vla_eval"
    title = "vla-eval"
    start = "vla-eval serve -c configs/model_servers/<model>/libero.yaml, with port 8000"
    form = wire.STR_KEYS
    one_episode = True

    def make_contract(self):
        if not is_libero(self.suite):
            raise self.no_form("libero_*")
        self._seq, self._episode, self._wishes = 0, None, {}
        return Contract(("agentview", "wrist"), tuple(self.suite.state), None, 1, stateful=True)

    def connect(self):
        self._socket = Websocket(self.options.address)
        self._seq, self._episode = -1, None
        sent = self.tell("hello", {"harness_version": VERSION, "protocol_version": PROTOCOL})
        payload = self.answer("hello", sent, self.options.address.connect_timeout)
        self._wishes = wire.optional(payload, "observation_params", dict) or {}
        if self._wants("absolute_action"):
            raise InputError(f"{self} gives absolute actions; suite {self.suite.name!r} takes "
                             f"{self.suite.action.meaning}")
        check_formats(wire.optional(payload, "action_spec", dict) or {}, self)
        views = ("agentview", "wrist") if self._wants("send_wrist_image") else ("agentview",)
        state = tuple(self.suite.state) if self._wants("send_state") else ()
        self.contract = Contract(views, state, None, 1, stateful=True)
        return payload

    def _wants(self, name: str) -> bool:
        """Whether the server asked for something. Raises WireError unless it said yes, no or nothing."""
        return bool(wire.optional(self._wishes, name, bool, int))

    def infer(self, observations):
        return [self._act(observation) for observation in observations]

    def check_trial(self, chunk):
        if len(chunk) > 1 and self.options.executed_steps is None:
            raise InputError(f"{self} returns {len(chunk)} actions a query and does not say how many to execute; pass "
                             f"--policy-option executed_steps=<1 to {len(chunk)}>")

    def _act(self, observation: Observation) -> np.ndarray:
        if observation.step == 0:
            self._begin(observation)
        elif self._episode != observation.episode.id:
            raise RemoteError(f"{self} has lost the state of {observation.episode.id} before step {observation.step}")
        sent = self.tell("observation", self._observe(observation))
        actions = wire.take(self.answer("action", sent, self.seconds), "actions", np.ndarray)
        if actions.dtype.kind != "f" or actions.ndim not in (1, 2):
            raise RemoteError(f"{self} sent actions as {actions.dtype} {actions.shape}, expected floats (D,) or (T, D)")
        actions = np.array(np.atleast_2d(actions))
        if actions.shape[1] == 7:
            actions[:, 6] = np.where(actions[:, 6] < 0, -1.0, 1.0)  # vla-eval's LIBERO benchmark does the same
        return actions

    def _begin(self, observation: Observation) -> None:
        if self._episode is not None:
            self.tell("episode_end", {})
        episode = observation.episode
        task = {"name": observation.instruction, "suite": episode.suite, "task_id": episode.task,
                "episode_idx": episode.index}
        self._begun, self._episode = self.tell("episode_start", {"task": task}), episode.id
        try:
            self.answer("nothing", self._begun, GRACE)
        except Silence:
            return

    def _observe(self, observation: Observation) -> dict[str, Any]:
        message: dict[str, Any] = {"images": {name: observation.views[name] for name in self.contract.views},
                                   "task_description": observation.instruction}
        if self.contract.state:
            state = dict(observation.state)
            if not self._wants("quat_no_antipodal"):
                state["eef_axis_angle"] = shortest(state["eef_axis_angle"])
            message["states"] = libero_state(state)
        return message

    def tell(self, kind: str, payload: Mapping[str, Any]) -> int:
        """Send a message; its number."""
        self._seq += 1
        message = {"type": kind, "payload": payload, "seq": self._seq, "timestamp": time.time()}
        self._socket.send(wire.pack(message, self.form), self.seconds)
        return self._seq

    def answer(self, kind: str, sent: int, seconds: float) -> dict[str, Any]:
        """The payload of the next message. Raises RemoteError unless it is of `kind` and answers message `sent`."""
        message = wire.unpack(self.receive(seconds))
        got, number = wire.take(message, "type", str), wire.take(message, "seq", int)
        payload = wire.take(message, "payload", dict)
        wire.take(message, "timestamp", float, int)
        if got == "error":
            raise RemoteError(f"{self} answered with an error: {' '.join(str(payload.get('error')).split())[:500]}")
        if got != kind or number != sent:
            raise RemoteError(f"{self} sent {got!r} for message {number}, expected {kind!r} for {sent}: it belongs to "
                              "another observation")
        return payload


def check_formats(declared: Mapping[str, Any], client: VlaEval) -> None:
    """Raise InputError when a server declares actions of another meaning than LIBERO's."""
    for name, allowed in ACTION_FORMATS.items():
        given = declared.get(name)
        form = wire.optional(given, "format", str)
        if form is not None and form not in allowed:
            raise InputError(f"{client} declares {name} as {form!r}; suite {client.suite.name!r} takes {allowed[0]!r}. "
                             "Its actions would mean something else here")


def shortest(axis_angle: np.ndarray) -> np.ndarray:
    """The same rotation by at most pi: what vla-eval's LIBERO sends unless the server asks for `quat_no_antipodal`."""
    angle = float(np.linalg.norm(axis_angle))
    return axis_angle if angle <= np.pi else axis_angle * (angle - 2 * np.pi) / angle
