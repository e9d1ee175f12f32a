"""`evalkit serve`: three forms of request on one port, batches across clients, keys, caps, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from evalkit import wire
from evalkit.batching import Batcher
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.paths import PROJECT
from evalkit.policy import Policy
from evalkit.registry import load_suite, make_policy
from evalkit.service import Service
from evalkit.serving import ServeConfig, address_of, answering, bind
from evalkit.specs import PolicySpec
from evalkit.suite import Observation, Suite
from evalkit.testing import check_policy, fake_observation
from tests.helpers import command, environment

TOY, GOAL, GR1 = load_suite("toy"), load_suite("libero_goal"), load_suite("robocasa_gr1")


class Noisy(Policy):
    """State, pictures, instruction and a draw from the query's seed in one chunk of four; keeps what it saw.

    bad: instructions at which `act` raises; "nan" among them: answered by NaN instead. seconds: how long `act` takes.
    """

    def __init__(self, suite: Suite, bad=(), seconds: float = 0.0):
        self.spec = PolicySpec("noisy", views=tuple(suite.views), state=tuple(suite.state), chunk_length=4,
                               executed_steps=2)
        self.suite, self.bad, self.seconds = suite, bad, seconds
        self.statistics = {"low": [0.0], "high": [1.0]}
        self.batches: list[list[Observation]] = []

    def describe(self):
        return {"checkpoint": {"path": "/weights", "sha256": "ab"}, "parameters": 12, "device": "cpu"}

    def act(self, observations):
        self.batches.append(list(observations))
        time.sleep(self.seconds)
        return [self.chunk(observation) for observation in observations]

    def chunk(self, observation: Observation) -> np.ndarray:
        if observation.instruction == "nan":
            return np.full((4, self.suite.action.size), np.nan)
        if observation.instruction in self.bad:
            raise RuntimeError(f"cannot do {observation.instruction!r}")
        seen = sum(float(view.mean()) for view in observation.views.values()) + len(observation.instruction)
        noise = observation.generator("noise").normal(size=(4, self.suite.action.size))
        return noise + seen + sum(float(group.sum()) for group in observation.state.values())

    def predict_examples(self, examples):
        if not examples:
            raise ValueError("no examples")
        return {"normalized_actions": np.arange(4, dtype=np.float32).reshape(1, 2, 2)}


class Plain(Noisy):
    """The same without DiT4DiT's method."""

    predict_examples = None


@contextlib.contextmanager
def serving(policy: Policy, suite: Suite = TOY, **config) -> Iterator[str]:
    """A server in a thread of its own; its address."""
    config = ServeConfig("noisy", suite.name, port=0, **config)
    started, address = threading.Event(), []

    async def run():
        async with Batcher(policy, config.most, config.wait) as batcher:
            service = Service("noisy", policy, suite, batcher)
            await batcher.call(service.load)
            with bind(config.host, config.port) as bound:
                async with answering(service, config, bound):
                    address.append(address_of(bound))
                    stop.append((asyncio.get_running_loop(), asyncio.Event()))
                    started.set()
                    await stop[0][1].wait()

    stop: list = []
    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield address[0]
    finally:
        loop, event = stop[0]
        loop.call_soon_threadsafe(event.set)
        thread.join(20)
        assert not thread.is_alive()


def client(address: str, **more) -> ClientConnection:
    """A connection whose first frame has not been read yet."""
    return connect(address, compression=None, max_size=None, open_timeout=20, proxy=None, **more)


@contextlib.contextmanager
def welcomed(address: str, **more) -> Iterator[ClientConnection]:
    """A connection after the first frame."""
    with client(address, **more) as connection:
        connection.recv(timeout=20)
        yield connection


def ask(connection: ClientConnection, message: object) -> dict:
    """Send one message and read the reply."""
    connection.send(wire.pack(message))
    return wire.unpack(connection.recv(timeout=30))


def observation(suite: Suite = TOY, index: int = 0, step: int = 0) -> Observation:
    return fake_observation(suite, Episode(suite.name, 0, index, 7 + index, suite.max_steps), step)


def request(seen: Observation, number: int = 1, **changes) -> dict:
    """The message of an observation, with `changes`."""
    message = wire.Request(number, seen.views, seen.state, seen.instruction, seen.episode.id, seen.step,
                           seen.query_seed).message()
    return {**message, **changes}


def natively(policy: Policy, seen: Observation) -> np.ndarray:
    return policy.act([seen])[0].astype(np.float32)


@pytest.mark.parametrize("suite", [TOY, GOAL, GR1], ids=lambda suite: suite.name)
def test_the_same_actions_as_natively(suite):
    """Equal seeds, states, pictures and words give bit-equal float32 actions in this process and through the server."""
    policy = Noisy(suite)
    with serving(policy, suite) as address, welcomed(address) as connection:
        for number, (index, step) in enumerate([(0, 0), (0, 2), (1, 0), (11, 38)]):
            seen = observation(suite, index, step)
            actions = wire.read_reply(ask(connection, request(seen, number)), number)
            assert actions.dtype == np.float32 and np.array_equal(actions, natively(policy, seen))
    received = policy.batches[-2][0]
    assert (received.episode.id, received.step) == (f"{suite.name}/00/011", 38)
    assert all(np.array_equal(received.views[name], seen.views[name]) for name in suite.views)


def test_the_first_frame():
    """Spec, suite, action meaning, what was loaded and the statistics, before anything is asked."""
    with serving(Noisy(GOAL), GOAL) as address, client(address) as connection:
        told = wire.Metadata.read(wire.unpack(connection.recv(timeout=20)))
    assert (told.policy, told.suite, told.chunk_length, told.executed_steps) == ("noisy", "libero_goal", 4, 2)
    assert told.views == GOAL.views and told.state == GOAL.state and told.groups == GOAL.action.groups
    assert told.meaning == GOAL.action.meaning and told.checkpoint == {"path": "/weights", "sha256": "ab"}
    assert told.statistics == {"low": [0.0], "high": [1.0]} and told.described["parameters"] == 12


def test_clients_share_batches():
    """Six clients, five queries each: every answer is the own one, and queries that wait travel together."""
    policy = Noisy(TOY, seconds=0.05)
    together = threading.Barrier(6)

    def one(index: int) -> list[float]:
        sizes = []
        with welcomed(address) as connection:
            together.wait(20)
            for step in range(5):
                seen = observation(TOY, index, step)
                reply = ask(connection, request(seen, step, prompt=f"client {index}"))
                expected = policy.chunk(Observation(seen.views, seen.state, f"client {index}", seen.episode, step))
                assert np.array_equal(wire.read_reply(reply, step), expected.astype(np.float32))
                sizes.append(reply["server_timing"]["batch_size"])
        return sizes

    with serving(policy, wait=20) as address, ThreadPoolExecutor(6) as pool:
        sizes = [size for found in pool.map(one, range(6)) for size in found]
    assert max(map(len, policy.batches)) == 6 and sum(map(len, policy.batches)) == 30
    assert len(policy.batches) <= 10 and max(sizes) == 6
    assert all(len({seen.instruction for seen in batch}) == len(batch) for batch in policy.batches)


def test_a_single_client_does_not_wait():
    """With one client connected no query waits for others, however long a batch may wait."""
    start = time.perf_counter()
    with serving(Noisy(TOY), wait=30) as address, welcomed(address) as connection:
        assert ask(connection, request(observation()))["server_timing"]["batch_size"] == 1
    assert time.perf_counter() - start < 15


BAD = {
    "another view": ({"views": {"side": np.zeros((32, 32, 3), np.uint8)}}, "views are ['side']; needed: ['top']"),
    "no view": ({"views": {}}, "views are []"),
    "a small view": ({"views": {"top": np.zeros((16, 32, 3), np.uint8)}}, "(16, 32, 3), expected (32, 32, 3)"),
    "a float view": ({"views": {"top": np.zeros((32, 32, 3), np.float32)}}, "expected (H, W, 3) uint8"),
    "a missing state": ({"state": {"pos": np.zeros(2)}}, "state groups are ['pos']; needed: ['goal', 'pos']"),
    "a long state": ({"state": {"pos": np.zeros(3), "goal": np.zeros(2)}}, "has 3 numbers, expected 2"),
    "a NaN state": ({"state": {"pos": np.array([0, np.nan]), "goal": np.zeros(2)}}, "finite"),
    "a number as prompt": ({"prompt": 3}, "'prompt' is int, expected str"),
    "no words": ({"prompt": ""}, "prompt is empty"),
    "a negative step": ({"step": -1}, "step is -1"),
    "a step as text": ({"step": "0"}, "'step' is str, expected int"),
    "no episode id": ({"episode": "toy"}, "not an episode id: 'toy'"),
    "an unknown suite": ({"episode": "tomato/00/000"}, "unknown suite 'tomato'"),
    "another suite": ({"episode": "libero_goal/00/000"}, "an episode of suite 'libero_goal'"),
    "another type": ({"type": "reset"}, "message type 'reset'"),
    "no seed": ({"seed": None}, "'seed' is NoneType, expected int"),
}


@pytest.fixture(scope="module")
def toy_server():
    with serving(Noisy(TOY, bad=["fail"])) as address:
        yield address


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_request_is_refused(toy_server, case):
    """An in-band error under the request's id names what is wrong; the same connection goes on."""
    changes, words = BAD[case]
    with welcomed(toy_server) as connection:
        reply = ask(connection, request(observation(), 5, **changes))
        assert reply["id"] == 5 and reply["error"]["type"] == "WireError" and words in reply["error"]["message"]
        assert "actions" in ask(connection, request(observation(), 6))


def test_a_missing_field(toy_server):
    """A request without its prompt is refused by name."""
    message = request(observation(), 5)
    del message["prompt"]
    with welcomed(toy_server) as connection:
        assert "field 'prompt' is missing" in ask(connection, message)["error"]["message"]


def test_what_the_policy_raises_is_an_answer(toy_server):
    """The policy's exception, and a chunk of NaN, come back in band under the request's id; the connection goes on."""
    with welcomed(toy_server) as connection:
        error = ask(connection, request(observation(), 1, prompt="fail"))["error"]
        assert error == {"type": "RuntimeError", "message": "cannot do 'fail'"}
        assert "NaN" in ask(connection, request(observation(), 2, prompt="nan"))["error"]["message"]
        assert "actions" in ask(connection, request(observation(), 3))


def test_a_bad_client_does_not_disturb_others():
    """While one client sends requests that fail in every way, another one in the same batches gets all its answers."""
    policy = Noisy(TOY, bad=["fail"], seconds=0.02)

    def disturb():
        with welcomed(address) as connection:
            for number in range(8):
                ask(connection, request(observation(TOY, 9, number), number, prompt=("fail", "nan")[number % 2]))
        with welcomed(address) as connection:
            connection.send(b"\xc1 not msgpack")
            assert isinstance(connection.recv(timeout=20), str)

    with serving(policy, wait=0.2) as address, ThreadPoolExecutor(1) as pool, welcomed(address) as connection:
        disturbing = pool.submit(disturb)
        for step in range(12):
            seen = observation(TOY, 0, step)
            reply = ask(connection, request(seen, step))
            assert np.array_equal(wire.read_reply(reply, step), natively(Noisy(TOY), seen))
        disturbing.result(30)
    assert any(len(batch) == 2 for batch in policy.batches)


@pytest.mark.parametrize("frame, words", [(b"\xc1", "not a msgpack"), (b"", "not a msgpack"), ("hello", "a text frame"),
                                          (wire.pack([1, 2]), "a message is a map, got list")])
def test_undecodable_messages_end_the_connection(toy_server, frame, words):
    """As upstream's servers do: a text frame that says why, then close code 1011."""
    with welcomed(toy_server) as connection:
        connection.send(frame)
        assert words in connection.recv(timeout=20)
        with pytest.raises(ConnectionClosedError) as closed:
            connection.recv(timeout=20)
        assert closed.value.rcvd.code == 1011


def test_an_array_in_an_odd_place(toy_server):
    """A message that makes the server itself stumble ends its own connection only, with a text frame."""
    with welcomed(toy_server) as connection, welcomed(toy_server) as other:
        connection.send(wire.pack({"type": np.zeros(3)}))
        assert "ValueError" in connection.recv(timeout=20)
        assert "actions" in ask(other, request(observation()))


def test_large_messages_are_not_read():
    """A frame over the cap closes the connection with 1009 (too big), before it is decoded; one below is answered."""
    with serving(Noisy(TOY), max_message=20_000) as address:
        with welcomed(address) as connection:
            assert "actions" in ask(connection, request(observation()))
            connection.send(bytes(20_001))
            with pytest.raises(ConnectionClosedError) as closed:
                connection.recv(timeout=20)
            assert closed.value.rcvd.code == 1009
        with welcomed(address) as connection:
            assert "actions" in ask(connection, request(observation()))


def test_unknown_requests_name_what_is_allowed(toy_server):
    """Keys of no known form: an in-band error with the keys got and those of each form."""
    with welcomed(toy_server) as connection:
        reply = ask(connection, {"id": 4, "picture": 1, "words": "go"})
        assert reply["id"] == 4 and reply["ok"] is False
        text = reply["error"]["message"]
        assert "['id', 'picture', 'words']" in text and "prompt, episode, step, seed (evalkit)" in text
        assert "examples (DiT4DiT)" in text and "openpi" not in text  # the toy suite is not LIBERO


def get(url: str) -> tuple[int, bytes]:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20) as answer:
        return answer.status, answer.read()


def test_health(toy_server):
    """openpi's health route."""
    assert get(toy_server.replace("ws:", "http:") + "/healthz") == (200, b"OK\n")


def test_api_key(tmp_path, monkeypatch):
    """A wrong, missing or badly written key is turned away with 401 at the handshake; health needs none."""
    monkeypatch.delenv("EVALKIT_API_KEY", raising=False)
    (tmp_path / "key").write_text("s3cret\n")
    with serving(Noisy(TOY), key_file=str(tmp_path / "key")) as address:
        for headers in ({}, {"Authorization": "Api-Key wrong"}, {"Authorization": "Bearer s3cret"},
                        {"Authorization": "s3cret"}):
            with pytest.raises(InvalidStatus) as refused:
                client(address, additional_headers=headers)
            assert refused.value.response.status_code == 401
        with welcomed(address, additional_headers={"Authorization": "Api-Key s3cret"}) as connection:
            assert "actions" in ask(connection, request(observation()))
        assert get(address.replace("ws:", "http:") + "/healthz")[0] == 200


def test_a_key_from_the_environment(monkeypatch):
    """EVALKIT_API_KEY is the key where no file is given; empty is none."""
    monkeypatch.setenv("EVALKIT_API_KEY", "abc")
    assert ServeConfig("p", "toy").key() == "abc"
    monkeypatch.setenv("EVALKIT_API_KEY", "")
    assert ServeConfig("p", "toy").key() is None


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "10.0.0.7", "example.org"])
def test_other_machines_need_a_key(host, tmp_path, monkeypatch):
    """A host that others can reach is refused without a key, unless --no-key says so."""
    monkeypatch.delenv("EVALKIT_API_KEY", raising=False)
    with pytest.raises(InputError, match=r"can be reached from other machines.*\n?.*--no-key"):
        ServeConfig("p", "toy", host=host).check()
    ServeConfig("p", "toy", host=host, no_key=True).check()
    (tmp_path / "key").write_text("k")
    ServeConfig("p", "toy", host=host, key_file=str(tmp_path / "key")).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_this_machine_needs_none(host, monkeypatch):
    """Loopback addresses need no key."""
    monkeypatch.delenv("EVALKIT_API_KEY", raising=False)
    ServeConfig("p", "toy", host=host).check()


def test_bad_settings(tmp_path):
    """Numbers out of range and unusable key files are named."""
    for wrong, words in (({"port": 70000}, "--port is 70000; allowed: 0 to 65535"), ({"most": 0}, "--max-batch is 0"),
                         ({"wait": -1}, "--max-wait, in seconds, is -1"),
                         ({"max_message": 5}, "--max-message, in bytes, is 5"),
                         ({"key_file": str(tmp_path / "none")}, "cannot read the API key")):
        with pytest.raises(InputError, match=words):
            ServeConfig("p", "toy", **wrong).check()
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InputError, match="must hold one line"):
        ServeConfig("p", "toy", key_file=str(tmp_path / "empty")).check()


# --- openpi's form


def openpi_request(size: int = 224, **changes) -> dict:
    generator = np.random.default_rng(3)
    image, wrist = (generator.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(2))
    return {"observation/image": image, "observation/wrist_image": wrist,
            "observation/state": np.arange(8) / 10, "prompt": "open the drawer", **changes}


@pytest.mark.parametrize("size", [224, 256])
def test_openpi_form(size):
    """Views, the eight numbers of LIBERO's state and the words reach the policy; the reply has openpi's keys."""
    policy = Plain(GOAL)
    message = openpi_request(size)
    with serving(policy, GOAL) as address, welcomed(address) as connection:
        first, second = ask(connection, message), ask(connection, message)
    assert set(first) == {"actions", "policy_timing", "server_timing"} and first["actions"].shape == (4, 7)
    assert first["policy_timing"]["infer_ms"] > 0 and first["server_timing"]["infer_ms"] > 0
    seen = policy.batches[0][0]
    assert np.array_equal(seen.views["agentview"], message["observation/image"])
    assert np.array_equal(seen.views["wrist"], message["observation/wrist_image"])
    assert {name: group.tolist() for name, group in seen.state.items()} == {
        "eef_pos": [0.0, 0.1, 0.2], "eef_axis_angle": [0.3, 0.4, 0.5], "gripper_qpos": [0.6, 0.7]}
    assert seen.instruction == "open the drawer" and not np.array_equal(first["actions"], second["actions"])


@pytest.mark.parametrize("changes, words", [
    ({"observation/state": np.zeros(7)}, r"(7,); expected 8"), ({"observation/image": np.zeros((9, 9, 3), np.uint8)},
                                                                 "(9, 9, 3) uint8; allowed"),
    ({"extra": 1}, "'extra'"), ({"prompt": b"x"}, "'prompt' is bytes"),
    ({"observation/state": np.full(8, np.inf)}, "finite")])
def test_malformed_openpi_requests(changes, words):
    """This form knows no errors in band: a text frame that says what is wrong, then 1011, as openpi's own server."""
    with serving(Plain(GOAL), GOAL) as address, welcomed(address) as connection:
        connection.send(wire.pack(openpi_request(**changes)))
        assert words in connection.recv(timeout=20)
        with pytest.raises(ConnectionClosedError):
            connection.recv(timeout=20)


def test_openpi_form_is_for_libero():
    """A server for another suite says so."""
    with serving(Plain(GR1), GR1) as address, welcomed(address) as connection:
        connection.send(wire.pack(openpi_request()))
        assert "is for LIBERO" in connection.recv(timeout=20)


# --- DiT4DiT's form: frames as upstream's server sends them, byte for byte


#: The reply to one example whose normalised actions are arange(4) as (1, 2, 2), recorded from upstream's code.
REPLY = bytes.fromhex(
    "85a6737461747573a26f6ba26f6bc3a474797065b0696e666572656e63655f726573756c74aa726571756573745f6964a764656661756c74a4"
    "6461746181b26e6f726d616c697a65645f616374696f6e7384c40b5f5f6e6461727261795f5fc3c40464617461c410000000000000803f0000"
    "004000004040c4056474797065a33c6634c405736861706593010202")
PING_REPLY = bytes.fromhex("84a6737461747573a26f6ba26f6bc3a474797065a470696e67aa726571756573745f6964a764656661756c74")
RESET_REPLY = bytes.fromhex(
    "85a6737461747573a56572726f72a26f6bc2a474797065a7756e6b6e6f776eaa726571756573745f6964a764656661756c74a56572726f7281a7"
    "6d657373616765d920556e737570706f72746564206d65737361676520747970652027726573657427")
EXAMPLE = {"image": [np.zeros((1, 1, 3), np.uint8)], "lang": "a", "state": np.zeros((1, 2), np.float32)}


@pytest.mark.parametrize("message, reply", [
    ({"examples": [EXAMPLE], "do_sample": False, "use_ddim": True, "num_ddim_steps": 10}, REPLY),
    ({"examples": [EXAMPLE], "type": "infer"}, REPLY), ({"examples": [EXAMPLE], "type": "predict_action"}, REPLY),
    ({"type": "ping"}, PING_REPLY), ({"type": "reset"}, RESET_REPLY)])
def test_dit4dit_form(toy_server, message, reply):
    """The reply's bytes are upstream's."""
    with welcomed(toy_server) as connection:
        connection.send(wire.pack(message))
        assert connection.recv(timeout=20) == reply


def test_dit4dit_errors(toy_server):
    """What the model raises comes back in band, under the request's id; the connection goes on."""
    with welcomed(toy_server) as connection:
        assert ask(connection, {"examples": [], "request_id": "r7"}) == {
            "status": "error", "ok": False, "type": "inference_result", "request_id": "r7",
            "error": {"message": "no examples"}}
        assert ask(connection, {"type": "ping", "request_id": "p1"})["request_id"] == "p1"


def test_policies_without_examples():
    """A policy that does not speak DiT4DiT's form refuses examples in band, and still answers pings."""
    with serving(Plain(TOY)) as address, welcomed(address) as connection:
        reply = ask(connection, {"examples": [EXAMPLE]})
        assert reply["ok"] is False and "does not answer DiT4DiT's examples" in reply["error"]["message"]
        assert "unknown request with keys ['type']" in ask(connection, {"type": "reset"})["error"]["message"]
        assert ask(connection, {"type": "ping"})["ok"] is True


@pytest.mark.parametrize("suite", [TOY, GOAL, GR1], ids=lambda suite: suite.name)
def test_the_policy_behind_the_server_keeps_the_contract(suite):
    """Policy `remote` in front of a server passes every check that the policy behind it passes: instructions and seeds
    travel, actions come back bit for bit."""
    policy = Noisy(suite)
    with serving(policy, suite) as address:
        remote = make_policy("remote", suite, {"url": address})
        check_policy(remote, suite)
        seen = observation(suite, 3, 2)
        remote.reset(seen.episode)
        assert np.array_equal(remote.act([seen])[0], natively(policy, seen))


class Counts(Policy):
    """Answers with the number of queries since its episode's reset."""

    def __init__(self, suite: Suite):
        self.spec = PolicySpec("counts", stateful=True)
        self.count: dict[str, int] = {}

    def reset(self, episode):
        self.count[episode.id] = 0

    def act(self, observations):
        for observation in observations:
            self.count[observation.episode.id] += 1
        return [np.full((1, 2), self.count[observation.episode.id], float) for observation in observations]


def test_a_stateful_policy_keeps_episodes_apart():
    """An episode goes on only where it was begun: not after a reconnect, nor once another client has begun it."""
    def count(connection, step):
        reply = ask(connection, request(observation(TOY, 0, step), views={}, state={}))
        return reply["error"]["message"] if "error" in reply else float(reply["actions"][0, 0])

    with serving(Counts(TOY)) as address:
        with welcomed(address) as first:
            assert [count(first, step) for step in (0, 1, 2)] == [1, 2, 3]
        with welcomed(address) as again, welcomed(address) as other:
            assert "was not begun on this connection" in count(again, 3)
            assert [count(again, step) for step in (0, 1)] == [1, 2] and count(other, 0) == 1
            assert "another one has begun it since" in count(again, 2) and count(other, 1) == 2


def test_one_server_for_the_suites_of_a_group():
    """Suites that look alike can share a server: LIBERO's four; a spec that names its suites is kept to."""
    policy = Noisy(GOAL)
    seen = observation(GOAL)
    with serving(policy, GOAL) as address, welcomed(address) as connection:
        assert "actions" in ask(connection, request(seen, episode="libero_10/03/017"))
        assert "error" in ask(connection, request(seen, episode="robocasa_gr1/00/000"))
        policy.spec = PolicySpec("noisy", policy.spec.views, policy.spec.state, chunk_length=4, executed_steps=2,
                                 suites=("libero_goal",))
        assert "error" in ask(connection, request(seen, episode="libero_10/03/017"))


# --- the command


@contextlib.contextmanager
def command_line(*arguments: object, **variables: str) -> Iterator[subprocess.Popen]:
    """`evalkit serve ...` as a process; killed if it is still there at the end."""
    process = subprocess.Popen(command("serve", *arguments), cwd=PROJECT, env=environment(**variables),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command(number):
    """Port 0 finds a free one and prints it; a query is answered; a signal stops it with status 0."""
    with command_line("random", "--suite", "libero_goal", "--port", 0, "-o", "chunk=4") as process:
        line = process.stdout.readline().strip()
        assert line.startswith("serving random for libero_goal on ws://127.0.0.1:")
        with welcomed(line.split()[-1]) as connection:
            reply = ask(connection, request(observation(GOAL), 3))
            assert wire.read_reply(reply, 3).shape == (4, 7)
            process.send_signal(number)
            with pytest.raises(Exception, match="1001"):  # going away
                connection.recv(timeout=20)
        assert process.wait(30) == 0 and process.stdout.read() == ""


class SlowToLoad(Noisy):
    """Takes a minute to load; writes a line when it has begun."""

    def __init__(self, suite: Suite):
        super().__init__(suite)

    def load(self):
        print("loading", flush=True)
        time.sleep(60)


class StuckInAct(Noisy):
    """Takes a minute to act; writes a line when it has begun."""

    def __init__(self, suite: Suite):
        super().__init__(suite)

    def act(self, observations):
        print("acting", flush=True)
        time.sleep(60)
        return super().act(observations)


def test_it_stops_while_loading():
    """SIGTERM ends a server that is still loading, with status 0; until it is ready clients are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with command_line("tests.test_serving:SlowToLoad", "--suite", "toy", "--port", port) as process:
        assert process.stdout.readline() == "loading\n"
        with pytest.raises(ConnectionRefusedError):
            client(f"ws://127.0.0.1:{port}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_it_stops_while_acting():
    """A query under way does not keep a stopped server longer than the time it gives its clients."""
    with command_line("tests.test_serving:StuckInAct", "--suite", "toy", "--port", 0) as process:
        address = process.stdout.readline().split()[-1]
        with welcomed(address) as connection:
            connection.send(wire.pack(request(observation())))
            assert process.stdout.readline() == "acting\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_a_query_under_way_is_answered():
    """A server that is told to stop in the middle of a query answers it, then says goodbye (1001 or 1000)."""
    policy = Noisy(TOY, seconds=1.0)
    seen = observation()
    with contextlib.ExitStack() as server:
        address = server.enter_context(serving(policy))
        with welcomed(address) as connection, ThreadPoolExecutor(1) as pool:
            connection.send(wire.pack(request(seen, 1)))
            while not policy.batches:
                time.sleep(0.01)
            stopping = pool.submit(server.close)
            actions = wire.read_reply(wire.unpack(connection.recv(timeout=20)), 1)
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=20)
            stopping.result(20)
    assert np.array_equal(actions, natively(Noisy(TOY), seen))


@pytest.mark.parametrize("arguments, words", [
    (("random", "--suite", "toy", "--host", "0.0.0.0"), "can be reached from other machines"),
    (("random", "--suite", "tomato"), "unknown suite 'tomato'"),
    (("rando", "--suite", "toy"), "Did you mean 'random'?"),
    (("random", "--suite", "toy", "-o", "chunks=3"), "unknown option of policy 'random'"),
    (("scripted", "--suite", "libero_goal"), "reads the simulator itself"),
])
def test_wrong_input(arguments, words):
    """Status 2 and the reason, before anything is loaded."""
    with command_line(*arguments, EVALKIT_API_KEY="") as process:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 2 and words in said and "Traceback" not in said


def test_a_taken_port():
    """Status 2 and the next move when somebody else has the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = {"policy": "noop", "suite": "toy", "port": taken.getsockname()[1]}
        done = subprocess.run([sys.executable, "-m", "evalkit.serving", json.dumps(config)], cwd=PROJECT,
                              env=dict(os.environ), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "choose another --host or --port" in done.stderr
