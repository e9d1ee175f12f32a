"""Client: one connection to one server, and the adapter between its messages and one suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from baselines.common.layouts import LAYOUTS
from baselines.remote.transports import Address, Gone, RemoteError, Silence, Websocket
from evalkit import wire
from evalkit.errors import InputError
from evalkit.suite import Observation, Suite


@dataclass(frozen=True)
class Options:
    """What the user chose; None and empty: the family's own default.

    timeout: seconds for a reply; first_timeout: for the first one of a connection (compilation, warm-up).
    patience: seconds that a run waits for a server that went away.
    """

    address: Address
    executed_steps: int | None = None
    chunk_length: int | None = None
    checkpoint: str = ""
    unnorm_key: str | None = None
    views: tuple[str, ...] = ()
    send_state: bool | None = None
    timeout: float = 120.0
    first_timeout: float = 600.0
    patience: float = 600.0

    @property
    def patient(self) -> Options:
        """The same for a run that has begun, which waits longer for its server."""
        return replace(self, address=replace(self.address, connect_timeout=max(self.address.connect_timeout,
                                                                               self.patience)))


@dataclass(frozen=True)
class Contract:
    """What a client reads of an observation, and what it returns.

    chunk_length: actions in every reply, or with `at_most` the most there may be; None: the server decides, and all
    replies are as long as the first. executed_steps: of them, in the family's own evaluation. stateful: the server
    keeps something between the queries of an episode.
    """

    views: tuple[str, ...]
    state: tuple[str, ...]
    chunk_length: int | None
    executed_steps: int
    stateful: bool = False
    at_most: bool = False


class Client(ABC):
    """One family of servers on one suite. The constructor connects to nothing and raises InputError.

    family: the value of option `protocol`. title: what errors call it. start: how to start such a server.
    seeded: whether requests carry a seed, so that the same observation gets the same answer.
    one_episode: whether a connection can hold one episode only.
    view_size: (height, width) that views are resized to, None: sent as they are.
    unused: options that the family has no use for; giving one is an error.
    """

    family: ClassVar[str]
    title: ClassVar[str]
    start: ClassVar[str]
    seeded: ClassVar[bool] = False
    one_episode: ClassVar[bool] = False
    view_size: tuple[int, int] | None = None
    unused: ClassVar[tuple[str, ...]] = ("checkpoint", "unnorm_key", "views", "send_state")

    def __init__(self, suite: Suite, options: Options):
        self.suite, self.options = suite, options
        for name in self.unused:
            if getattr(options, name) not in ("", None, ()):
                raise InputError(f"option {name} of policy 'remote' means nothing to a {self.title} server; leave it "
                                 "out")
        self.said: dict[str, Any] | None = None
        self.contract = self.make_contract()
        self._settle()
        self._connected = self._asked = False

    @abstractmethod
    def make_contract(self) -> Contract:
        """The contract before the server is asked. Raises InputError for a suite that the family has no form for."""

    @abstractmethod
    def connect(self) -> dict[str, Any]:
        """Open the connection; what the server says of itself, as JSON types. May replace `contract`."""

    @abstractmethod
    def infer(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        """The actions for each observation, in the suite's meaning, as they were decoded."""

    def check_trial(self, chunk: np.ndarray) -> None:
        """Raise InputError if the answer to a trial observation leaves something open. Called before a run."""
        return None

    @abstractmethod
    def disconnect(self) -> None:
        """Drop the connection, if any."""

    def ask(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        """A checked chunk (T, D) float32 for each observation. Whatever goes wrong drops the connection and raises.

        A stateful server is never asked in the middle of an episode over a new connection: it has forgotten it.
        """
        try:
            late = [item for item in observations if item.step > 0]
            if late and self.contract.stateful and not self._connected:
                raise RemoteError(f"{self} has lost the state of {late[0].episode.id} before step {late[0].step}")
            self.open()
            chunks = self.infer(observations)
            self._asked = True
            if len(chunks) != len(observations):
                raise RemoteError(f"{self} sent {len(chunks)} chunks for {len(observations)} observations")
            chunks = [self.checked(chunk) for chunk in chunks]
            if self.contract.chunk_length is None and chunks:
                self.contract = replace(self.contract, chunk_length=len(chunks[0]))
            return chunks
        except BaseException as error:
            self.close()
            if isinstance(error, wire.WireError):
                raise RemoteError(f"{self}: {error}") from error
            raise

    def open(self) -> None:
        """Connect unless connected. Raises RemoteError, also when the server is another one than the first time."""
        if self._connected:
            return
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        known = self.contract
        try:
            said = self.connect()
        except Silence as error:
            raise Gone(str(error)) from error
        if self.contract is not known:
            self._settle()
        told, before = ({key: wire.pack(value) for key, value in item.items()} for item in (said, self.said or said))
        if told != before:  # compared as bytes: arrays and NaN are equal to themselves
            changed = sorted(str(key) for key in {*told, *before} if told.get(key) != before.get(key))
            raise RemoteError(f"{self} is not the one this run began with: it now says other things about "
                              f"{', '.join(changed)}")
        self.said, self._connected, self._asked = said, True, False

    def _settle(self) -> None:
        """Let the user's options override the family's defaults."""
        contract, options = self.contract, self.options
        self.contract = replace(contract, chunk_length=options.chunk_length or contract.chunk_length,
                                executed_steps=options.executed_steps or contract.executed_steps)

    def close(self) -> None:
        """Drop the connection; the next question opens another, with a fresh state on the server's side."""
        self._connected = False
        self.disconnect()

    @property
    def seconds(self) -> float:
        """How long to wait for the next reply."""
        return self.options.timeout if self._asked else self.options.first_timeout

    def checked(self, chunk: Any) -> np.ndarray:
        """`chunk` as a float32 array of its own. Raises RemoteError for another dtype or shape, or numbers that are
        not finite."""
        if not isinstance(chunk, np.ndarray) or chunk.dtype.kind != "f":
            kind = chunk.dtype if isinstance(chunk, np.ndarray) else type(chunk).__name__
            raise RemoteError(f"{self} sent actions of type {kind}, expected floats")
        length, at_most = self.contract.chunk_length, self.contract.at_most
        fits = chunk.ndim == 2 and chunk.shape[1] == self.suite.action.size and (
            length is None or len(chunk) == length or (at_most and len(chunk) < length))
        if not fits:
            rows = "T" if length is None else f"up to {length}" if at_most else length
            raise RemoteError(f"{self} sent actions of shape {chunk.shape}, expected ({rows}, "
                              f"{self.suite.action.size})")
        if len(chunk) < self.contract.executed_steps:
            raise RemoteError(f"{self} sent {len(chunk)} actions, {self.contract.executed_steps} are to be executed; "
                              "set option executed_steps")
        if not np.isfinite(chunk).all():
            raise RemoteError(f"{self} sent NaN or infinity in {np.count_nonzero(~np.isfinite(chunk))} of "
                              f"{chunk.size} action numbers")
        return np.array(chunk, dtype=np.float32)

    def __str__(self) -> str:
        return f"the {self.title} server at {self.options.address}"

    def no_form(self, *suites: str) -> InputError:
        """For `make_contract`: the family is not known to serve this suite."""
        return InputError(f"suite {self.suite.name!r} has no form in the {self.title} protocol; allowed: "
                          f"{', '.join(suites)}")


class WebsocketClient(Client):
    """A client whose server takes and gives one binary frame each in turn, and greets with one when connected."""

    form: ClassVar[str] = wire.BYTES_KEYS

    def __init__(self, suite: Suite, options: Options):
        super().__init__(suite, options)
        self._socket: Websocket | None = None

    def connect(self) -> dict[str, Any]:
        self._socket = Websocket(self.options.address)
        greeting = wire.unpack(self.receive(self.options.address.connect_timeout))
        family = greeted_by(greeting)
        if family != self.family:
            raise RemoteError(f"{self} greets as a {family} server; leave option protocol at auto, or set it so")
        return self.understand(greeting)

    def understand(self, greeting: dict[str, Any]) -> dict[str, Any]:
        """The facts in the server's first frame; may replace `contract`. Raises WireError, InputError."""
        return greeting

    def exchange(self, message: Any) -> Any:
        """One request, one reply, decoded."""
        self._socket.send(wire.pack(message, self.form), self.seconds)
        return wire.unpack(self.receive(self.seconds))

    def receive(self, seconds: float) -> bytes:
        """The next frame."""
        return self._socket.receive(seconds)

    def disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


#: Field `env` of a greeting -> family (DiT4DiT's and starVLA's servers, evalkit's own).
ENVS = {"simpler_env": "dit4dit", "starvla_policy_server": "starvla", wire.EVALKIT: "evalkit"}


def greeted_by(greeting: Any) -> str:
    """The family of the server whose first frame this is. openpi's says anything or nothing. Raises RemoteError."""
    if not isinstance(greeting, dict):
        raise RemoteError(f"the server's first frame is a {type(greeting).__name__}; expected a map")
    if greeting.get("type") == "hello" and "payload" in greeting:
        return "vla_eval"
    return ENVS.get(greeting.get("env"), "openpi") if isinstance(greeting.get("env", ""), str) else "openpi"


def is_libero(suite: Suite) -> bool:
    """Whether the suite has LIBERO's views, state and actions."""
    return any(layout.name == "libero" and suite.name in layout.suites for layout in LAYOUTS)


def is_gr1(suite: Suite) -> bool:
    """Whether the suite has RoboCasa-GR1's."""
    return any(layout.name == "gr1" and suite.name in layout.suites for layout in LAYOUTS)


def libero_state(state: Mapping[str, np.ndarray]) -> np.ndarray:
    """(8,) float64: position, axis-angle, both fingers, as openpi's and the others' LIBERO examples join them."""
    return np.concatenate([state["eef_pos"], state["eef_axis_angle"], state["gripper_qpos"]]).astype(np.float64)


def close_sign(actions: np.ndarray) -> np.ndarray:
    """LIBERO actions (..., 7) whose gripper is 0 closed / 1 open, as the suite takes them: -1 open, +1 closed.

    Threshold 0.5 (starVLA's and GR00T N1.5's LIBERO clients; N1.6's scales, takes the sign and inverts: the same).
    """
    actions = np.array(actions)
    actions[..., 6] = 1.0 - 2.0 * (actions[..., 6] > 0.5)
    return actions
