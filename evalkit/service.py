"""The requests that a policy server answers: evalkit's own form, openpi's for LIBERO, DiT4DiT's examples."""

from __future__ import annotations

import itertools
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from evalkit import wire
from evalkit.batching import Answer, Batcher
from evalkit.episode import Episode, parse_episode_id, stable_seed
from evalkit.errors import InputError, shown
from evalkit.policy import Policy
from evalkit.registry import load_suite
from evalkit.suite import Observation, Suite

#: Keys of openpi's request for LIBERO -> view, and the sides of the square pictures that its clients send: its own is
#: 224 (openpi examples/libero/main.py).
OPENPI_VIEWS = {"observation/image": "agentview", "observation/wrist_image": "wrist"}
OPENPI_STATE, OPENPI_PROMPT = "observation/state", "prompt"
OPENPI_SIZES = (224, 256)

#: Types of DiT4DiT's message that ask for actions; absent counts too (its deployment/model_server).
DIT4DIT_TYPES = (None, "infer", "predict_action")

#: What to send instead of a form that this policy or suite does not have.
OWN_FORM = "type, id, views, state, prompt, episode, step, seed"


class Fatal(Exception):
    """An error that ends the connection: a text frame, then close code 1011, as the servers of openpi and DiT4DiT do.

    Its text has been logged already.
    """


class Service:
    """Answers decoded messages with a policy. `client`: the number of the connection. metadata: the first frame."""

    metadata: dict[str, Any]

    def __init__(self, name: str, policy: Policy, suite: Suite, batcher: Batcher):
        self.name, self.policy, self.suite, self.batcher = name, policy, suite, batcher
        self._queries = itertools.count()
        self._players: dict[str, int] = {}

    def load(self) -> None:
        """Load the policy and write down what it says of itself; takes long, belongs into the policy's thread."""
        self.policy.load()
        spec, described = self.policy.spec, dict(self.policy.describe())
        checkpoint = described.get("checkpoint") or {}
        self.metadata = wire.Metadata(
            policy=self.name, suite=self.suite.name, views={name: self.suite.views[name] for name in spec.views},
            state={name: self.suite.state[name] for name in spec.state}, chunk_length=spec.chunk_length,
            executed_steps=spec.executed_steps, stateful=spec.stateful, groups=self.suite.action.groups,
            meaning=self.suite.action.meaning, described=described,
            checkpoint=checkpoint if isinstance(checkpoint, Mapping) else {"path": str(checkpoint)},
            statistics=getattr(self.policy, "statistics", None)).message()

    async def answer(self, message: Mapping[str, Any], client: int) -> dict[str, Any]:
        """The reply to one message. Raises Fatal where its form knows no errors in band."""
        if "views" in message:
            return await self._evalkit(message, client)
        if message.get("type") == "ping":
            return {"status": "ok", "ok": True, "type": "ping", "request_id": message.get("request_id", "default")}
        if "examples" in message or (self.predict and "type" in message):
            return await self._dit4dit(message)
        if any(str(key).startswith("observation/") for key in message):
            return await self._openpi(message, client)
        return self._unknown(message)

    # --- evalkit's own form

    async def _evalkit(self, message: Mapping[str, Any], client: int) -> dict[str, Any]:
        try:
            request = wire.Request.read(message)
            observation = self.observation(request)
            if self.policy.spec.stateful:
                self._check_player(request, client)
            found = await self.batcher.act(observation)
            return wire.reply(request.id, self.checked(found.chunk), timing(found))
        except Exception as error:
            return wire.error_reply(message["id"] if type(message.get("id")) is int else None, logged(error))

    def observation(self, request: wire.Request) -> Observation:
        """The Observation of `request`. Raises WireError for whatever the suite or the policy's spec does not allow."""
        try:
            suite_name, task, index = parse_episode_id(request.episode)
        except ValueError as error:
            raise wire.WireError(str(error)) from error
        self._check_suite(suite_name)
        if request.step < 0:
            raise wire.WireError(f"step is {request.step}; allowed: 0 or more")
        self._check_names("view", request.views, self.policy.spec.views, self.suite.views)
        self._check_names("state group", request.state, self.policy.spec.state, self.suite.state)
        for name, image in request.views.items():
            if image.shape != self.suite.views[name]:
                raise wire.WireError(f"view {name!r} has shape {image.shape}, expected {self.suite.views[name]}")
        for name, group in request.state.items():
            if group.shape != (self.suite.state[name],):
                raise wire.WireError(f"state group {name!r} has {len(group)} numbers, expected "
                                     f"{self.suite.state[name]}")
        state = {name: np.asarray(group, np.float64) for name, group in request.state.items()}
        episode = Episode(suite_name, task, index, seed=0, max_steps=self.suite.max_steps)
        return Observation(request.views, state, request.prompt, episode, request.step, seed=request.seed)

    def _check_player(self, request: wire.Request, client: int) -> None:
        """Raise WireError unless the episode was begun on this connection: else a stateful policy would go on from
        nothing after a reconnect, or mix the episodes of two runs. Whoever begins an episode last has it."""
        if request.step == 0:
            self._players[request.episode] = client
        elif self._players.get(request.episode) != client:
            raise wire.WireError(f"policy {self.name!r} keeps state, and episode {request.episode} was not begun on "
                                 "this connection, or another one has begun it since; begin it again at step 0")

    def forget(self, client: int) -> None:
        """The connection is gone, and with it the episodes it had begun."""
        self._players = {episode: player for episode, player in self._players.items() if player != client}

    def _check_suite(self, name: str) -> None:
        """Raise WireError unless the policy may be asked about suite `name`: the one served, or one just like it (one
        server can serve all suites of a group)."""
        try:
            other = load_suite(name)
        except InputError as error:
            raise wire.WireError(str(error)) from error
        fields = ("views", "state", "action")
        if any(getattr(other, item) != getattr(self.suite, item) for item in fields) or \
                name not in (self.policy.spec.suites or (name,)):
            raise wire.WireError(f"an episode of suite {name!r}; this server serves {self.name!r} for "
                                 f"{self.suite.name!r}")

    def _check_names(self, kind: str, got: Mapping, needed: tuple[str, ...], known: Mapping) -> None:
        if not set(needed) <= set(got) <= set(known):
            raise wire.WireError(f"{kind}s are {shown(sorted(map(str, got)))}; needed: {sorted(needed)}, allowed: "
                                 f"{sorted(known)}")

    def checked(self, chunk: np.ndarray) -> np.ndarray:
        """`chunk` as float32. Raises ValueError unless it is what suite and spec declare."""
        self.suite.action.check(chunk)
        if len(chunk) < self.policy.spec.executed_steps:
            raise ValueError(f"policy {self.name!r} returned {len(chunk)} actions but declares to execute "
                             f"{self.policy.spec.executed_steps}")
        return np.asarray(chunk, np.float32)

    # --- openpi's form

    async def _openpi(self, message: Mapping[str, Any], client: int) -> dict[str, Any]:
        try:
            found = await self.batcher.act(self.openpi_observation(message, client))
            actions = self.checked(found.chunk)
        except Exception as error:
            raise Fatal(f"{type(error).__name__}: {logged(error)}"[:wire.MAX_ERROR]) from error
        return {"actions": actions, "policy_timing": {"infer_ms": 1000 * found.seconds}, "server_timing": timing(found)}

    def openpi_observation(self, message: Mapping[str, Any], client: int) -> Observation:
        """The Observation of openpi's flat request for LIBERO. It names neither episode nor step: each request is an
        episode's first, with randomness of its own. Raises WireError."""
        allowed = [*OPENPI_VIEWS, OPENPI_STATE, OPENPI_PROMPT]
        if set(OPENPI_VIEWS.values()) != set(self.suite.views) or self.policy.spec.stateful:
            raise wire.WireError(f"openpi's form of request is for LIBERO and policies without state between queries; "
                                 f"this server serves {self.name!r} for {self.suite.name!r}. Use evalkit's own form: "
                                 f"{OWN_FORM}")
        if set(message) != set(allowed):
            raise wire.WireError(f"request with keys {shown(sorted(map(str, message)))}; allowed: {', '.join(allowed)}")
        views = {view: wire.take(message, key, np.ndarray) for key, view in OPENPI_VIEWS.items()}
        for key, view in OPENPI_VIEWS.items():
            image = views[view]
            if image.dtype != np.uint8 or image.shape not in [(size, size, 3) for size in OPENPI_SIZES]:
                raise wire.WireError(f"{key} is {image.shape} {image.dtype}; allowed: (S, S, 3) uint8 with S "
                                     f"{' or '.join(map(str, OPENPI_SIZES))}")
        state = np.asarray(wire.take(message, OPENPI_STATE, np.ndarray, list), np.float64)
        sizes = list(self.suite.state.values())
        if state.shape != (sum(sizes),) or not np.isfinite(state).all():
            raise wire.WireError(f"{OPENPI_STATE} is {state.shape}; expected {sum(sizes)} finite numbers: "
                                 f"{', '.join(self.suite.state)}")
        groups = dict(zip(self.suite.state, np.split(state, np.cumsum(sizes)[:-1])))
        episode = Episode(self.suite.name, 0, client, seed=0, max_steps=self.suite.max_steps)
        seed = stable_seed("openpi", client, next(self._queries))
        return Observation(views, groups, wire.read_prompt(message, OPENPI_PROMPT), episode, 0, seed=seed)

    # --- DiT4DiT's form

    @property
    def predict(self) -> Callable[[Any], dict[str, Any]] | None:
        """The policy's method for DiT4DiT's examples, if it has one."""
        return getattr(self.policy, "predict_examples", None)

    async def _dit4dit(self, message: Mapping[str, Any]) -> dict[str, Any]:
        kind, identity = message.get("type"), message.get("request_id", "default")
        if self.predict is None:
            return refused("inference_result", identity, f"policy {self.name!r} does not answer DiT4DiT's examples; "
                           f"use evalkit's own form: {OWN_FORM}")
        if kind not in DIT4DIT_TYPES:
            return refused("unknown", identity, f"Unsupported message type {shown(kind)}")
        if "examples" not in message:
            return self._unknown(message)
        try:
            data = await self.batcher.call(self.predict, message["examples"])
        except Exception as error:
            return refused("inference_result", identity, str(logged(error)))
        return {"status": "ok", "ok": True, "type": "inference_result", "request_id": identity, "data": data}

    def _unknown(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """In the words of both in-band forms, so that either client finds the message."""
        forms = [f"{OWN_FORM} (evalkit)"]
        forms += [", ".join([*OPENPI_VIEWS, OPENPI_STATE, OPENPI_PROMPT]) + " (openpi)"] \
            if set(OPENPI_VIEWS.values()) == set(self.suite.views) else []
        forms += ["examples (DiT4DiT)"] if self.predict else []
        number = message.get("id") if type(message.get("id")) is int else None
        text = (f"unknown request with keys {shown(sorted(map(str, message)))}; allowed: {'; or '.join(forms)}; or "
                "type: ping")
        reply = refused("unknown", message.get("request_id", "default"), text)
        return {"id": number, **reply, "error": {"type": "WireError", "message": text}}


def timing(found: Answer) -> dict[str, float]:
    """Milliseconds of a query, and the size of the batch it was in."""
    return {"infer_ms": 1000 * found.seconds, "wait_ms": 1000 * found.waited, "batch_size": found.batch}


def refused(kind: str, identity: Any, text: str) -> dict[str, Any]:
    """DiT4DiT's reply in error."""
    return {"status": "error", "ok": False, "type": kind, "request_id": identity,
            "error": {"message": text[:wire.MAX_ERROR]}}


def logged(error: Exception) -> Exception:
    """`error`; its traceback goes to the server's standard error unless the request alone was at fault."""
    if not isinstance(error, wire.WireError):
        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    return error
