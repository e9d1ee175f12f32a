"""Fake policy servers, in threads of the test's process. They speak with msgpack alone, not with evalkit's codecs."""

from __future__ import annotations

import http.server
import io
import json
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import zmq
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

#: Frames of the wire formats' own documentation, byte for byte.
DIT4DIT_METADATA = bytes.fromhex("81a3656e76ab73696d706c65725f656e76")
OPENPI_METADATA = bytes.fromhex("80")
GROOT_PING_REPLY = bytes.fromhex("82a6737461747573a26f6ba76d657373616765b15365727665722069732072756e6e696e67")
VLA_EVAL_HELLO = bytes.fromhex(
    "84a474797065a568656c6c6fa77061796c6f616482af6861726e6573735f76657273696f6ea5302e342e30b070726f746f636f6c5f76657273"
    "696f6e01a373657100a974696d657374616d70cb0000000000000000")


def bytes_keys(value: Any) -> bytes:
    """msgpack with openpi's arrays."""
    return msgpack.packb(value, default=lambda array: {
        b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": array.shape})


def str_keys(value: Any) -> bytes:
    """msgpack with vla-eval's arrays."""
    return msgpack.packb(value, default=lambda array: {
        "__ndarray__": True, "data": array.tobytes(), "dtype": array.dtype.str, "shape": array.shape})


def npy(value: Any) -> bytes:
    """msgpack with GR00T's arrays."""
    def default(array):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": buffer.getvalue()}

    return msgpack.packb(value, default=default)


def decode(data: bytes) -> Any:
    """Any of these; images stay maps."""
    def hook(found):
        if b"__ndarray__" in found:
            return np.frombuffer(found[b"data"], found[b"dtype"]).reshape(found[b"shape"])
        if "__ndarray__" in found:
            return np.frombuffer(found["data"], found["dtype"]).reshape(found["shape"])
        if "__ndarray_class__" in found:
            return np.load(io.BytesIO(found["as_npy"]))
        return found

    return msgpack.unpackb(data, object_hook=hook, strict_map_key=False)


class Late:
    """Send `frame` after `seconds`."""

    def __init__(self, seconds: float, frame: bytes):
        self.seconds, self.frame = seconds, frame


class Fake:
    """A server with its requests (decoded) and a way to spoil its replies.

    spoil: number of the request -> what to send instead of its reply, from the reply: bytes, str (a text frame), Late,
    or None (drop the connection).
    """

    def __init__(self):
        self.requests: list[Any] = []
        self.spoil: dict[int, Callable[[bytes], Any]] = {}
        self.connections = 0
        self._stopped = threading.Event()

    def answer(self, request: Any) -> bytes | None:
        """The reply to a decoded request; None: this one has no reply."""
        raise NotImplementedError

    def reply_to(self, raw: bytes) -> Any:
        """The reply, spoiled if so wanted; () for none."""
        number = len(self.requests)
        request = decode(raw)
        self.requests.append(request)
        reply = self.answer(request)
        if number in self.spoil:
            return self.spoil.pop(number)(reply)
        return () if reply is None else reply

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.stop()


class FakeWebsocket(Fake):
    """Greets with `greeting` (None: says nothing), then answers each frame."""

    greeting: bytes | None = None

    def start(self, port: int = 0):
        """Listen on `port`, 0: any."""
        self._server = serve(self._handle, "127.0.0.1", port, compression=None, max_size=None, close_timeout=0.2)
        self.port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"
        self._open: list[Any] = []
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self):
        """Drop all connections and stop listening."""
        self._stopped.set()
        self._server.shutdown()
        for connection in self._open:
            connection.socket.close()
        self._thread.join(5)

    def _handle(self, connection):
        self.connections += 1
        self._open.append(connection)
        self.headers = dict(connection.request.headers.raw_items())
        try:
            if self.greeting is not None:
                connection.send(self.greeting)
            for raw in connection:
                reply = self.reply_to(raw)
                if reply == ():
                    continue
                if isinstance(reply, Late):
                    self._stopped.wait(reply.seconds)
                    reply = reply.frame
                if reply is None:
                    connection.socket.shutdown(2)
                    return
                connection.send(reply)
                if isinstance(reply, str):
                    connection.close(1011, "Internal server error. Traceback included in previous frame.")
        except (ConnectionClosed, OSError):
            return


class FakeDit4Dit(FakeWebsocket):
    """(B, T, A) normalised actions, all `value`."""

    greeting = DIT4DIT_METADATA

    def __init__(self, length=16, width=32, value=0.0):
        super().__init__()
        self.actions = np.full((length, width), value, np.float32)

    def answer(self, request):
        data = {"normalized_actions": np.stack([self.actions] * len(request["examples"]))}
        return bytes_keys({"status": "ok", "ok": True, "type": "inference_result", "request_id": "default",
                           "data": data})


class FakeStarVLA(FakeWebsocket):
    """Un-normalised actions (B, T, D) under `name`."""

    def __init__(self, actions, name="actions", **metadata):
        super().__init__()
        self.actions, self.name = actions, name
        self.greeting = msgpack.packb({
            "env": "starvla_policy_server", "ckpt_path": "ckpt.pt", "action_chunk_size": len(actions),
            "available_unnorm_keys": ["only"], "default_unnorm_key": "only", "training_data_mix": "mix",
            "training_obs_image_size": [224, 224], "eval_image_contract": "clients choose", **metadata})

    def answer(self, request):
        data = {self.name: np.stack([self.actions] * len(request["examples"]))}
        return bytes_keys({"status": "ok", "ok": True, "type": "inference_result", "request_id": "default",
                           "data": data})


class FakeOpenpi(FakeWebsocket):
    """(H, 7) actions."""

    greeting = OPENPI_METADATA

    def __init__(self, actions):
        super().__init__()
        self.actions = actions

    def answer(self, request):
        return bytes_keys({"actions": self.actions, "policy_timing": {"infer_ms": 1.0},
                           "server_timing": {"infer_ms": 1.0}})


class FakeVlaEval(FakeWebsocket):
    """One action (7,), or a chunk, for an observation; silent about episodes that begin and end."""

    def __init__(self, action, **hello):
        super().__init__()
        self.action, self.hello, self.start_error = action, hello, None

    def answer(self, request):
        kind = request["type"]
        if kind == "hello":
            hello = msgpack.unpackb(VLA_EVAL_HELLO)
            hello["payload"].update(model_server="Fake", capabilities={}, **self.hello)
            return msgpack.packb(hello)
        if kind == "episode_start" and self.start_error:
            return self._message("error", {"error": self.start_error}, request)
        return self._message("action", {"actions": self.action}, request) if kind == "observation" else None

    def _message(self, kind, payload, request):
        return str_keys({"type": kind, "payload": payload, "seq": request["seq"], "timestamp": 0.0})


class FakeEvalkit(FakeWebsocket):
    """evalkit's own protocol; actions are `actions(request)`."""

    def __init__(self, metadata, actions):
        super().__init__()
        self.greeting, self.actions = msgpack.packb(metadata), actions

    def answer(self, request):
        return bytes_keys({"id": request["id"], "actions": self.actions(request), "server_timing": {"infer_ms": 1.0}})


class FakeGroot(Fake):
    """A ZMQ REP server of N1.5 (`version` "n15") or N1.6; actions: group -> (T, d) float32."""

    def __init__(self, version, actions, video, state, horizon=16):
        super().__init__()
        self.version, self.actions = version, actions
        prefix = (lambda kind, key: f"{kind}.{key}") if version == "n15" else (lambda kind, key: key)
        self.config = {}
        for kind, keys, steps in (("video", video, 1), ("state", state, 1), ("action", list(actions), horizon)):
            entry = {"delta_indices": list(range(steps)), "modality_keys": [prefix(kind, key) for key in keys]}
            body = json.dumps(entry) if version == "n15" else entry
            self.config[kind] = {"__ModalityConfig_class__": True, "as_json": body}

    def start(self, port: int = 0):
        """Listen on `port`, 0: any."""
        self._socket = zmq.Context.instance().socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self.port = port or self._socket.bind_to_random_port("tcp://127.0.0.1")
        if port:
            self._socket.bind(f"tcp://127.0.0.1:{port}")
        self.url = f"tcp://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def stop(self):
        """Stop listening."""
        self._stopped.set()
        self._thread.join(5)
        self._socket.close(linger=0)

    def _loop(self):
        while not self._stopped.is_set():
            if not self._socket.poll(50):
                continue
            reply = self.reply_to(self._socket.recv())
            if isinstance(reply, Late):
                self._stopped.wait(reply.seconds)
                reply = reply.frame
            self._socket.send(reply)

    def answer(self, request):
        endpoint = request["endpoint"]
        if endpoint == "ping":
            return GROOT_PING_REPLY
        if endpoint == "get_modality_config":
            return msgpack.packb(self.config)
        if endpoint == "reset" and self.version == "n16":
            return msgpack.packb({})
        if endpoint != "get_action":
            return msgpack.packb({"error": f"Unknown endpoint: {endpoint}"})
        observation = request["data"] if self.version == "n15" else request["data"]["observation"]
        count = len(next(value for key, value in observation.items() if key.startswith("state.")))
        actions = {f"action.{key}": np.stack([group] * count) for key, group in self.actions.items()}
        return npy(actions if self.version == "n15" else [actions, {}])


class FakeGrootHttp:
    """N1.5's HTTP server; `lists`: answers with nested lists instead of json-numpy. `status`: of /act."""

    def __init__(self, actions, lists=False):
        self.actions, self.lists, self.status, self.delay = actions, lists, 200, 0.0
        self.requests: list[Any] = []

    def __enter__(self):
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                return

            def _send(self, status, value):
                body = json.dumps(value, default=lambda array: {
                    "__numpy__": b64encode(array.tobytes()).decode(), "dtype": array.dtype.str,
                    "shape": list(array.shape)}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self._send(200 if self.path == "/health" else 404, {"status": "healthy", "model": "GR00T"})

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fake.requests.append(json.loads(body, object_hook=lambda found: np.frombuffer(
                    b64decode(found["__numpy__"]), found["dtype"]).reshape(found["shape"])
                    if "__numpy__" in found else found))
                time.sleep(fake.delay)
                actions = {f"action.{key}": group[np.newaxis] for key, group in fake.actions.items()}
                if fake.lists:
                    actions = {key: group.tolist() for key, group in actions.items()}
                self._send(fake.status, actions if fake.status == 200 else {"detail": "Internal server error: boom"})

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
