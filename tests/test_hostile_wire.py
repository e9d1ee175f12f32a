"""Messages of anybody's making, to `evalkit serve` and from servers to the remote policy: refused by name, bounded in
memory and time, and the next client is served as before."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
import tracemalloc
from contextlib import suppress
from dataclasses import replace

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from baselines.remote import Remote
from baselines.remote.client import Client, Options, greeted_by
from baselines.remote.describe import describe, shortened
from baselines.remote.detect import FAMILIES
from baselines.remote.groot import as_floats, decode_json
from baselines.remote.transports import Address, Http, RemoteError, Zmq, _is_readable
from evalkit import wire
from evalkit.errors import InputError
from evalkit.registry import load_suite
from evalkit.serving import ServeConfig
from evalkit.specs import PolicySpec
from evalkit.suite import Observation
from tests import fake_servers as fakes
from tests.hostile import spoilt, spoilt_bytes, tries
from tests.test_serving import Noisy, ask, client, natively, observation, request, serving, welcomed
from tests.test_wire import METADATA, npy_map

TOY, LIBERO, GR1 = load_suite("toy"), load_suite("libero_goal"), load_suite("robocasa_gr1")

GOOD = wire.pack(request(observation()))


def array(**changes) -> dict:
    """An array on the wire with `changes`."""
    return {b"__ndarray__": True, b"data": bytes(12), b"dtype": "<f4", b"shape": [3],
            **{key.encode(): value for key, value in changes.items()}}


def npy_header(text: bytes) -> bytes:
    """An npy file whose header is `text`."""
    blob = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    return msgpack.packb({"__ndarray_class__": True, "as_npy": blob})


#: (what, message): small, and each asks for something that it does not bring.
NASTY = {
    "a huge shape": msgpack.packb(array(shape=[2**40, 2**20])),
    "an endless axis": msgpack.packb(array(shape=[0, 2**63], data=b"")),
    "many axes": msgpack.packb(array(shape=[1] * 10_000)),
    "a negative axis": msgpack.packb(array(shape=[-1, -3])),
    "too few bytes": msgpack.packb(array(data=bytes(11))),
    "objects": msgpack.packb(array(dtype="O")),
    "a structure": msgpack.packb(array(dtype="i4,(9999999,9999999)i8", shape=[1])),
    "a list of fields": msgpack.packb(array(dtype="{'names': ['a'], 'formats': ['O']}")),
    "an unknown dtype": msgpack.packb(array(dtype="float17")),
    "a long dtype": msgpack.packb(array(dtype="f" * 10**6)),
    "void": msgpack.packb(array(dtype="V999999999", shape=[0], data=b"")),
    "a date": msgpack.packb(array(dtype="<M8[s]")),
    "a number too large": msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "u1"}),
    "a number that is a list": msgpack.packb({b"__npgeneric__": True, b"data": [1, 2], b"dtype": "f8"}),
    "an extension": msgpack.packb(msgpack.ExtType(42, b"x" * 100)),
    "a timestamp": b"\xd6\xff\x00\x00\x00\x00",
    "a map that claims billions": b"\xdf\xff\xff\xff\xff",
    "a list that claims billions": b"\xdd\xff\xff\xff\xff",
    "bytes that claim billions": b"\xc6\xff\xff\xff\xff",
    "a text that claims billions": b"\xdb\xff\xff\xff\xff",
    "nested lists": b"\x91" * 100_000,
    "nested maps": b"\x81\xa1a" * 100_000,
    "no UTF-8": b"\x81\xa1a\xa1\xff",
    "nothing": b"",
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    "an npy of objects": npy_map(np.array([{}], object)),
    "an npy that claims billions": npy_map(np.zeros(3), "(999999999999,), }", "(3,), }" + 11 * " "),
    "an npy with half a header": npy_header(b"{'descr': (((((((("),
    "an npy with deep brackets": npy_header(b"(" * 9000),
    "an npy with a lambda": npy_header(b"{'descr': lambda: 0, 'fortran_order': False, 'shape': (1,)}"),
    "an npy with an indent": npy_header(b" {\n  'a'\n b"),
    "modalities nested too deep": msgpack.packb({"__ModalityConfig__": True, "as_json": "[" * 100_000}),
}

#: 16 million empty lists in 16 MB.
COUNTLESS = (b"\xdc\x03\xe8" + (b"\xdc\x3f\xff" + b"\x90" * 0x3fff) * 1000)


@pytest.mark.parametrize("what", NASTY)
def test_nasty_messages_are_refused(what):
    """A WireError of one short line; nothing is made room for."""
    tracemalloc.start()
    try:
        with pytest.raises(wire.WireError) as refused:
            wire.unpack(NASTY[what])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(refused.value)) < 500 and most < 30e6


def test_countless_values_are_refused():
    """Small values by the million take a byte each in a message and a hundred in memory."""
    with pytest.raises(wire.WireError, match="values"):
        wire.unpack(COUNTLESS)
    with pytest.raises(wire.WireError, match="allowed"):
        decode_json(b"[" + b"[]," * 3_000_000 + b"[]]")


@given(data=spoilt_bytes(GOOD) | spoilt_bytes(wire.pack(METADATA.message())) | st.binary(max_size=50)
       | st.sampled_from([*NASTY.values()]))
@tries(300)
def test_any_bytes(data):
    """A value or a WireError, and so for what is read of it."""
    for read in (wire.Metadata.read, wire.Request.read, lambda message: wire.read_reply(message, 1), greeted_by):
        with suppress(wire.WireError, RemoteError):
            read(wire.unpack(data))


@given(body=spoilt_bytes(b'{"action.waist": {"__numpy__": "AAAA", "dtype": "<f4", "shape": [1, 3]}, "x": [[1.0], [2]]}')
       | st.binary(max_size=30))
@example(body=b"[" * 100_000)
@example(body=b'{"__numpy__": "AAAA", "dtype": ["f4"], "shape": 3}')
@example(body=b'"' + b'[' * 2000 + b'"')
@tries(150)
def test_any_json(body):
    """The same for GR00T's HTTP form; numbers that no float holds stay what they are."""
    with suppress(wire.WireError):
        as_floats(decode_json(body))
    assert as_floats([[10**400]]) == [[10**400]]


# --- the server


@pytest.fixture(scope="module")
def server():
    with serving(Noisy(TOY, bad=["fail"])) as address:
        yield address


def still_serves(address: str) -> None:
    """A good client gets its own answer."""
    seen = observation(TOY, 3)
    with welcomed(address) as connection:
        assert np.array_equal(wire.read_reply(ask(connection, request(seen)), 1), natively(Noisy(TOY), seen))


def speak(address: str, frame: bytes | str) -> None:
    """Send one frame on a connection of its own and take whatever comes back, in band or as the connection's end."""
    with client(address) as connection:
        connection.recv(timeout=20)
        with suppress(ConnectionClosed):
            connection.send(frame)
            reply = connection.recv(timeout=20)
            assert len(reply) < 5000


@pytest.mark.parametrize("what", [*NASTY, "countless values"])
def test_the_server_outlives_nasty_frames(server, what):
    """Each ends its own connection at most."""
    speak(server, NASTY.get(what, COUNTLESS))
    still_serves(server)


@given(frame=spoilt_bytes(GOOD) | st.binary(max_size=30) | st.text(max_size=20))
@tries(60)
def test_the_server_outlives_any_frame(server, frame):
    """Damaged requests, any bytes, any text."""
    speak(server, frame)


@given(message=spoilt({**request(observation()), "views": {}, "state": {}, "examples": [{"lang": "a"}],
                       "observation/state": [0.0], "request_id": "r"}, times=4))
@example(message=request(observation(), prompt="x" * 10_001))
@example(message=request(observation(), episode="x" * 10**6 + "/00/000"))
@example(message=request(observation(), episode="x" * 60 + "/00/000"))
@example(message={"x" * 1000 + str(number): 0 for number in range(1000)})
@tries(60)
def test_the_server_outlives_any_message(server, message):
    """Fields of other types, too few or too many, long and odd ones; the answer is short whatever was sent."""
    with suppress(wire.WireError):
        speak(server, wire.pack(message))


def test_and_still_serves(server):
    """After all of them."""
    still_serves(server)


def test_compressed_frames_are_not_inflated(server):
    """permessage-deflate is not agreed to, and a frame that claims to be compressed ends its connection."""
    with connect(server, compression="deflate", open_timeout=20, proxy=None) as connection:
        assert not connection.protocol.extensions
        connection.recv(timeout=20)
        connection.socket.sendall(b"\xc2\x84" + bytes(4) + b"bomb")  # FIN, RSV1, binary; masked, 4 bytes
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=20)
    still_serves(server)


def test_frames_that_claim_more_than_the_cap(server):
    """A header that announces 2^62 bytes is enough to be turned away: nothing is waited for."""
    with client(server) as connection:
        connection.recv(timeout=20)
        connection.socket.sendall(b"\x82\xff" + (2**62).to_bytes(8, "big") + bytes(4))
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
        assert closed.value.rcvd.code == 1009
    still_serves(server)


def test_fragments_count_together():
    """A message in many frames is not larger than one."""
    with serving(Noisy(TOY), max_message=20_000) as address, welcomed(address) as connection:
        with suppress(ConnectionClosed):
            connection.send(bytes(5000) for _ in range(5))
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=20)
        assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("said", [
    b"", b"GET /", b"\x16\x03\x01\x02\x00", b"\x00" * 100, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500,
    b"GET /" + b"x" * 20_000, b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"])
def test_clients_that_speak_something_else(server, said):
    """Silence, TLS, endless headers, bodies: other clients do not notice."""
    host, port = server.removeprefix("ws://").split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        with suppress(OSError):
            connection.sendall(said)
        still_serves(server)


def test_only_so_many_clients():
    """Beyond the cap a client is turned away with 503, which `remote` waits out; when one leaves, the next gets in."""
    with serving(Noisy(TOY), clients=2) as address:
        with welcomed(address), welcomed(address):
            with pytest.raises(InvalidStatus) as refused:
                client(address)
            assert refused.value.response.status_code == 503
        ended = time.monotonic() + 20
        while True:
            try:
                still_serves(address)
                break
            except InvalidStatus:
                assert time.monotonic() < ended
    with pytest.raises(InputError, match="clients is 0"):
        ServeConfig("p", "toy", clients=0).check()


@pytest.mark.parametrize("headers", [
    [("Authorization", "Api-Key \xff")], [("Authorization", "Api-Key s3cret"), ("Authorization", "Api-Key s3cret")],
    [("Authorization", "")], [("Authorization", "Api-Key " + "x" * 5000)]])
def test_odd_keys_are_wrong_keys(tmp_path, capfd, headers):
    """401 for whatever is not the key, also what is no text; the key itself is never said."""
    (tmp_path / "key").write_text("s3cret\n")
    with serving(Noisy(TOY), key_file=str(tmp_path / "key")) as address:
        host, port = address.removeprefix("ws://").split(":")
        lines = ["GET / HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
                 *(f"{name}: {value}" for name, value in headers)]
        with socket.create_connection((host, int(port)), 20) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            answer = connection.recv(10_000)
        assert b" 401 " in answer and b"s3cret" not in answer
    said = capfd.readouterr()
    assert "s3cret" not in said.out + said.err and "Traceback" not in said.err


@pytest.mark.parametrize("key", ["a\nb", "ü", "\x1b", "a\x7f"])
def test_keys_that_no_header_can_carry(monkeypatch, key):
    """Refused on both sides, without being repeated."""
    monkeypatch.setenv("EVALKIT_API_KEY", key)
    for use in (lambda: ServeConfig("p", "toy").check(), lambda: Remote(LIBERO, "ws://127.0.0.1:1")):
        with pytest.raises(InputError, match="one line of ASCII") as refused:
            use()
        assert key not in str(refused.value)


# --- the remote policy


def options(url: str = "ws://127.0.0.1:1", **more) -> Options:
    return Options(Address(url, connect_timeout=5.0), **more)


GREETINGS = {
    "evalkit": (TOY, METADATA.message()),
    "starvla": (LIBERO, {"env": "starvla_policy_server", "action_chunk_size": 8, "available_unnorm_keys": ["a"],
                         "default_unnorm_key": "a", "action_keys": ["action.x"], "training_obs_image_size": [224] * 2}),
    "openpi": (LIBERO, {"anything": 1}),
}


@pytest.mark.parametrize("family", GREETINGS)
@given(data=st.data())
@tries(60)
def test_any_greeting(family, data):
    """What a server says of itself is understood or refused, compared with the next time, recorded in few words."""
    suite, greeting = GREETINGS[family]
    found: Client = FAMILIES[family](suite, options())
    said = wire.unpack(msgpack.packb(data.draw(spoilt(greeting)), default=str, unicode_errors="replace"))
    with suppress(wire.WireError, RemoteError, InputError):
        assert greeted_by(said) in FAMILIES
        found.said = found.understand(said)
        found.connect = lambda: wire.unpack(wire.pack(found.said))
        found._open()
        assert len(str(describe(found, PolicySpec("x"), options()))) < 200_000


HELLO = {"model_server": "x", "capabilities": {},
         "observation_params": {"send_wrist_image": True, "send_state": True, "absolute_action": False},
         "action_spec": {"gripper": {"name": "g", "dims": 1, "format": "binary_close_positive"}, "rotation": {}}}
MODALITIES = {"video": {"modality_keys": ["video.ego_view"], "delta_indices": [0]},
              "state": {"modality_keys": [f"state.{name}" for name in GR1.state], "delta_indices": [0]},
              "action": {"modality_keys": [f"action.{name}" for name in GR1.state], "delta_indices": list(range(16))}}


@given(data=st.data())
@tries(80)
def test_any_hello_and_any_modalities(data):
    """The same for vla-eval's first answer and GR00T's."""
    with pytest.MonkeyPatch.context() as patch, suppress(wire.WireError, RemoteError, InputError):
        patch.setattr("baselines.remote.vla_eval.Websocket", lambda address: None)
        vla_eval: Client = FAMILIES["vla_eval"](LIBERO, options())
        hello = wire.unpack(msgpack.packb(data.draw(spoilt(HELLO)), default=str, unicode_errors="replace"))
        vla_eval.tell, vla_eval.answer = lambda *_: 0, lambda *_: wire.take({"payload": hello}, "payload", dict)
        vla_eval._open()
    with suppress(wire.WireError, RemoteError, InputError):
        config = wire.unpack(msgpack.packb(data.draw(spoilt(MODALITIES)), default=str, unicode_errors="replace"))
        FAMILIES["groot_n15"](GR1, options("tcp://127.0.0.1:1")).compare(config)


def test_a_greeting_of_arrays_and_nan_is_the_same_again():
    """Arrays and NaN in a greeting do not keep a client from connecting again."""
    said = {"array": np.arange(3.0), "nan": float("nan"), "long": list(range(1000)), "deep": {"text": "x" * 5000}}
    with fakes.FakeOpenpi(np.zeros((10, 7), np.float32)) as server:
        server.greeting = wire.pack(said)
        found = FAMILIES["openpi"](LIBERO, options(server.url))
        for _ in range(2):
            found.open()
            found.close()
        server.greeting = wire.pack({**said, "array": np.arange(4.0)})
        with pytest.raises(RemoteError, match="other things about array"):
            found.open()
    assert shortened(said)["long"] == "1000 items" and len(str(shortened(said))) < 2000


class Raw:
    """A TCP server that says `answer` to whoever has asked, byte by byte where `slow`, and then keeps silent."""

    def __init__(self, answer: bytes, slow: bool = False):
        self.answer, self.slow = answer, slow

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._stopped = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    pieces = [self.answer[i:i + 1] for i in range(len(self.answer))] if self.slow else [self.answer]
                    for piece in pieces:
                        connection.sendall(piece)
                        if self.slow and self._stopped.wait(0.05):
                            return
                    self._stopped.wait(20)

    def __exit__(self, *exception):
        self._stopped.set()
        self._listener.close()


HEAD = b"HTTP/1.1 200 OK\r\n"

#: What a server says, whether byte by byte, and what is said of it.
ENDLESS = {
    "a dripping header": (HEAD + b"X-Slow: " + b"x" * 10_000, True, "sent nothing"),
    "a dripping body": (HEAD + b"Content-Length: 10000\r\n\r\n" + b"x" * 5000, True, "sent nothing"),
    "half a body": (HEAD + b"Content-Length: 10\r\n\r\n12345", False, "sent nothing"),
    "half a header": (HEAD, False, "sent nothing"), "silence": (b"", False, "sent nothing"),
    "a promise": (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, False, "sent nothing"),
    "many headers": (HEAD + b"a: b\r\n" * 200, False, "more than 100 headers"),
    "a long header": (HEAD + b"a" * 70_000 + b"\r\n", False, "LineTooLong"),
    "another protocol": (b"\x16\x03\x01 not http\r\n", False, "BadStatusLine"),
    "wrong chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n", False, "lost the connection"),
    "a body without end": (HEAD + b"\r\n" + bytes(wire.MAX_MESSAGE + 2**20), False, "sends more than"),
    "another address": (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", False,
                        "HTTP 302"),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_http_servers_that_do_not_end(case):
    """Dripping, silent, endless or wrong: an error within the time allowed, and the connection is not used again."""
    answer, slow, text = ENDLESS[case]
    with Raw(answer, slow) as server:
        http = Http(Address(server.url, connect_timeout=5.0))
        with pytest.raises(RemoteError, match=text):
            http.ask("POST", "/act", 5.0 if case == "a body without end" else 0.6, b"{}")
        assert http._connection.sock is None or case == "another address"


def test_an_http_connection_is_kept():
    """Two requests, one connection; one that the server has dropped meanwhile is not used."""
    connections = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            connections.append(self)
            super().setup()

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
            self.close_connection = self.path == "/last"

        def log_message(self, *_):
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asking = Http(Address(f"http://127.0.0.1:{server.server_address[1]}", connect_timeout=5.0))
        assert [asking.ask("GET", path, 5.0) for path in ("/", "/last")] == [b"ok", b"ok"] and len(connections) == 1
        while not _is_readable(asking._connection.sock):
            time.sleep(0.01)
        assert asking.ask("GET", "/", 5.0) == b"ok" and len(connections) == 2
        asking.close()
        server.shutdown()


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999999", "http://[::1", "http://:x", "http://a b:1"])
def test_http_addresses_that_are_none(url):
    """Named, not raised as something else."""
    with pytest.raises(RemoteError):
        Http(Address(url, connect_timeout=0.6)).ask("GET", "/", 0.5)


@pytest.mark.parametrize("parts, text", [
    ([b"\x80", b"more"], "2 parts"), ([b"", b""], "2 parts"), ([b"x" * 50] * 100, "100 parts")])
def test_zmq_answers_in_parts(parts, text):
    """An answer is one part; the rest of it is not taken for the next answer."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket_:
        socket_.setsockopt(zmq.LINGER, 0)
        port = socket_.bind_to_random_port("tcp://127.0.0.1")

        def answer():
            socket_.recv()
            socket_.send_multipart(parts)

        thread = threading.Thread(target=answer)
        thread.start()
        asking = Zmq(Address(f"tcp://127.0.0.1:{port}"))
        with contextlib.closing(asking), pytest.raises(RemoteError, match=text):
            asking.ask(b"x", 10.0)
        thread.join(10)


@pytest.mark.parametrize("what", [*NASTY, "countless values"])
def test_the_client_outlives_nasty_replies(what):
    """A RemoteError, and the next attempt gets its chunk."""
    actions = np.zeros((10, 7), np.float32)
    with fakes.FakeOpenpi(actions) as server:
        policy = Remote(LIBERO, server.url, "openpi", connect_timeout=5.0, timeout=20.0, first_timeout=20.0)
        policy.load()
        server.spoil[0] = lambda _: NASTY.get(what, COUNTLESS)
        seen = observation(LIBERO)
        with pytest.raises(RemoteError) as refused:
            policy._client.ask([small(seen)])
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 1000
        assert np.array_equal(policy._client.ask([small(seen)])[0], actions)


def small(seen: Observation) -> Observation:
    """The observation with views of the size that travels."""
    return replace(seen, views={name: np.zeros((224, 224, 3), np.uint8) for name in seen.views})
