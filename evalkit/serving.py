"""A server for any policy: websocket, msgpack, batches across clients. `evalkit serve`; runs in the policy's Python.

    python -m evalkit.serving '{"policy": "random", "suite": "libero_goal"}'      # keys: the fields of `ServeConfig`

One port answers three forms of request, told apart by their keys:

- evalkit's own (`evalkit.wire`): any suite, seeds, batching across clients, errors in band;
- openpi's flat form for LIBERO (openpi `examples/libero/main.py`, `scripts/serve_policy.py`);
- DiT4DiT's ``{"examples": [...]}`` for policies with a method ``predict_examples(examples) -> {"normalized_actions":
  (B, T, A)}`` (DiT4DiT `deployment/model_server/`), and its ``{"type": "ping"}``.

``GET /healthz`` answers ``OK`` once the policy is loaded. Nothing is encrypted: where the network is not yours, put a
tunnel before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request as Handshake
from websockets.http11 import Response

from evalkit import wire
from evalkit.batching import MOST, WAIT, Batcher
from evalkit.errors import InputError
from evalkit.parsing import read_text
from evalkit.policy import Policy
from evalkit.registry import load_suite, make_policy
from evalkit.service import Fatal, Service, logged
from evalkit.specs import check_policy_fits
from evalkit.suite import Suite
from evalkit.texts import plain_lines

#: openpi's port.
PORT = 8000

#: Environment variable that holds the API key.
KEY_VARIABLE = "EVALKIT_API_KEY"

#: Seconds between keepalive pings, and until a silent client is dropped: simulators that block their client's event
#: loop answer late.
PING_INTERVAL, PING_TIMEOUT = 60, 600

#: Clients that are served at the same time, unless chosen otherwise: each may send a message of `max_message` bytes.
MOST_CLIENTS = 256

#: Seconds in which a client must have said what it wants.
OPEN_TIMEOUT = 10

#: Seconds that queries under way have when the server stops, and that a client has to say goodbye.
CLOSE_TIMEOUT = 5


@dataclass(frozen=True)
class ServeConfig:
    """What to serve, where and to whom.

    policy, suite, options: as in `evalkit run`. port 0: any free one. key_file: file whose text is the API key;
    without one `KEY_VARIABLE` holds it, or there is none. no_key: serve beyond this machine without a key.
    most, wait: see `Batcher` (observations, seconds). max_message: bytes of the largest frame that is read.
    clients: connections at the same time at most.
    """

    policy: str
    suite: str
    options: Mapping[str, Any] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = PORT
    key_file: str | None = None
    no_key: bool = False
    most: int = MOST
    wait: float = WAIT
    max_message: int = wire.MAX_MESSAGE
    clients: int = MOST_CLIENTS

    def check(self) -> None:
        """Raise InputError for a number out of range, a missing key, or a host beyond this machine without a key."""
        for name, got, low, high in (("--port", self.port, 0, 65535), ("--max-batch", self.most, 1, 4096),
                                     ("--max-wait, in seconds,", self.wait, 0, 60),
                                     ("--max-message, in bytes,", self.max_message, 1024, wire.MAX_MESSAGE),
                                     ("--max-clients", self.clients, 1, 65536)):
            if not low <= got <= high:
                raise InputError(f"{name} is {got}; allowed: {low} to {high}")
        if self.key() is None and not self.no_key and not is_loopback(self.host):
            raise InputError(f"{self.host!r} can be reached from other machines, and there is no API key. Put one into "
                             f"{KEY_VARIABLE} or a file (--api-key-file FILE), bind to 127.0.0.1 (the default), or "
                             "pass --no-key to serve whoever comes.")

    def key(self) -> str | None:
        """The API key that clients must send, None where they need none. Raises InputError."""
        if self.key_file is None:
            key, source = os.environ.get(KEY_VARIABLE, "").strip(), KEY_VARIABLE
            if not key:
                return None
        else:
            try:
                key, source = read_text(Path(self.key_file)).strip(), self.key_file
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"cannot read the API key from {self.key_file}: {error}") from error
        if not key or not (key.isprintable() and key.isascii()):
            raise InputError(f"{source} must hold one line of ASCII, the API key")
        return key


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Connections:
    """Speaks with clients: handshake, first frame, one reply a frame."""

    def __init__(self, service: Service, key: str | None, most: int):
        self.service, self.key, self.most = service, key, most
        self._metadata = wire.pack(service.metadata)
        self._numbers = itertools.count()
        self._open = self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False

    def handshake(self, connection: ServerConnection, request: Handshake) -> Response | None:
        """Answer ``/healthz``; turn away who has not the key, and who is too many."""
        if self._stopping:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "stopping\n")
        if request.path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        if self.key is not None and not self._has_key(request):
            return connection.respond(HTTPStatus.UNAUTHORIZED,
                                      f"wrong or missing API key: send the header {wire.KEY_HEADER}: "
                                      f"{wire.KEY_PREFIX}<key>\n")
        if self._open >= self.most:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{self.most} clients are connected already\n")
        return None

    def _has_key(self, request: Handshake) -> bool:
        headers = request.headers.get_all(wire.KEY_HEADER)
        given = headers[0] if len(headers) == 1 else ""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), f"{wire.KEY_PREFIX}{self.key}".encode())

    async def handle(self, connection: ServerConnection) -> None:
        """One client, until it leaves."""
        client = next(self._numbers)
        self._count(1)
        try:
            await self._converse(connection, client)
        except ConnectionClosed:
            return
        finally:
            self._count(-1)
            self.service.forget(client)

    async def stop(self) -> None:
        """Let queries under way be answered, for `CLOSE_TIMEOUT` at most; each connection ends after its answer."""
        self._stopping = True
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self._idle.wait(), CLOSE_TIMEOUT)

    def _count(self, change: int) -> None:
        self._open += change
        self.service.batcher.clients = self._open

    @contextlib.contextmanager
    def _work(self) -> Iterator[None]:
        """A query is under way inside the block."""
        self._busy += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def _converse(self, connection: ServerConnection, client: int) -> None:
        await connection.send(self._metadata)
        async for frame in connection:
            with self._work():
                open_ = await self._reply(connection, frame, client)
            if self._stopping or not open_:
                return

    async def _reply(self, connection: ServerConnection, frame: bytes | str, client: int) -> bool:
        """Answer one frame; whether the connection goes on."""
        try:
            reply = wire.pack(await self.service.answer(decode(frame), client))
        except Exception as error:
            text = str(error) if isinstance(error, Fatal) else f"{type(error).__name__}: {logged(error)}"
            await connection.send(text)
            await connection.close(1011, "Error message in the previous frame.")
            return False
        await connection.send(reply)
        return True


def decode(frame: bytes | str) -> dict[str, Any]:
    """The map in a frame. Raises WireError."""
    if isinstance(frame, str):
        raise wire.WireError("a text frame; messages are binary frames of msgpack")
    message = wire.unpack(frame)
    if not isinstance(message, dict):
        raise wire.WireError(f"a message is a map, got {type(message).__name__}")
    return message


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound but does not listen yet: clients are refused until the policy is loaded. Raises
    InputError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = min(found, key=lambda item: item[0] != socket.AF_INET)
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise InputError(f"cannot serve on {host}:{port}: {error.strerror or error}; choose another --host or --port "
                         "(0: any free one)") from error
    return bound


async def run(config: ServeConfig) -> None:
    """Load the policy and serve until SIGTERM or SIGINT. Prints one line when ready. Raises InputError."""
    config.check()
    suite = load_suite(config.suite)
    policy = make_policy(config.policy, suite, dict(config.options))
    check_servable(config.policy, policy, suite)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with bind(config.host, config.port) as bound:
        async with Batcher(policy, config.most, config.wait) as batcher:
            service = Service(config.policy.rpartition("/")[2], policy, suite, batcher)
            if not await until(stop, batcher.call(service.load)):
                return
            async with answering(service, config, bound):
                print(f"serving {service.name} for {config.suite} on {address_of(bound)}", flush=True)
                await stop.wait()


def check_servable(name: str, policy: Policy, suite: Suite) -> None:
    """Raise InputError unless a server can answer for `policy`."""
    check_policy_fits(policy.spec, suite)
    if policy.spec.privileged:
        raise InputError(f"policy {name!r} reads the simulator itself, which does not travel: it cannot be served")


async def until(stop: asyncio.Event, work: Any) -> bool:
    """Wait for `work`, or for `stop`; whether the work was done. Raises what the work raised."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    tasks[1].cancel()
    if tasks[0].done():
        tasks[0].result()
    return tasks[0].done()


@contextlib.asynccontextmanager
async def answering(service: Service, config: ServeConfig, bound: socket.socket) -> AsyncIterator[None]:
    """Answer clients on socket `bound` inside the block; the service is loaded."""
    connections = Connections(service, config.key(), config.clients)
    server = await serve(connections.handle, sock=bound, process_request=connections.handshake, compression=None,
                         max_size=config.max_message, max_queue=1, open_timeout=OPEN_TIMEOUT,
                         ping_interval=PING_INTERVAL, ping_timeout=PING_TIMEOUT, close_timeout=CLOSE_TIMEOUT,
                         server_header=None)
    try:
        yield
    finally:
        await connections.stop()
        server.close()
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):  # a query that still is under way
            await asyncio.wait_for(server.wait_closed(), 1)


def address_of(bound: socket.socket) -> str:
    """``ws://host:port``."""
    host, port = bound.getsockname()[:2]
    return f"ws://{f'[{host}]' if ':' in host else host}:{port}"


def main(text: str) -> int:
    """Serve what the JSON `text` says; the exit status."""
    try:
        asyncio.run(run(ServeConfig(**json.loads(text))))
    except InputError as error:
        print(f"error: {plain_lines(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a query or load that is under way cannot be interrupted; nobody waits for it
