"""Transports: bytes to a server and back, every wait bounded. Websocket, ZMQ (REQ) and HTTP."""

from __future__ import annotations

import errno
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import TypeVar
from urllib.parse import urlsplit

import zmq
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from evalkit.policy import PolicyAway, PolicyGone
from evalkit.wire import KEY_HEADER, KEY_PREFIX, MAX_MESSAGE

Found = TypeVar("Found")

#: Seconds between two tries to connect to a server that refuses: it is being started, or restarted.
RETRY_SECONDS = 0.5

#: HTTP statuses of a server, or of what stands before it, that starts or stops.
BUSY = (502, 503, 504)

#: Seconds that closing a connection may take.
CLOSE_SECONDS = 1.0

#: Bytes of an HTTP answer read at once.
PIECE = 1 << 16


class RemoteError(RuntimeError):
    """A server that cannot be reached, answers late, wrongly or with an error. One line; it ends the attempt."""


class Silence(RemoteError):
    """Nothing came within the time allowed."""


class Absence(RemoteError, PolicyAway):
    """Nobody listens, or the connection went away: the server may be starting."""


class Gone(RemoteError, PolicyGone):
    """Nobody listened for as long as was allowed."""


@dataclass(frozen=True)
class Address:
    """Where a server is and how long to wait for it.

    key: sent as ``Authorization: Api-Key ...`` (websocket, HTTP), or in the message (GR00T over ZMQ); never recorded.
    connect_timeout: seconds until it accepts a connection and has greeted; refused connections are tried again.
    """

    url: str
    key: str | None = None
    connect_timeout: float = 60.0

    @property
    def headers(self) -> dict[str, str]:
        """Of an opening handshake or an HTTP request."""
        return {KEY_HEADER: KEY_PREFIX + self.key} if self.key else {}

    def __repr__(self) -> str:
        return self.url


class Websocket:
    """A websocket connection, binary frames only; one that failed is not used again.

    No compression, no proxy from the environment, and no keepalive pings: every stock server infers inside its event
    loop and answers no ping meanwhile.
    """

    def __init__(self, address: Address):
        self._url, self._stack = address.url, ExitStack()
        self._socket: ClientConnection = _until(address, lambda left: self._stack.enter_context(connect(
            address.url, compression=None, max_size=MAX_MESSAGE, proxy=None, ping_interval=None,
            additional_headers=address.headers, open_timeout=left, close_timeout=CLOSE_SECONDS)))

    def send(self, message: bytes, seconds: float) -> None:
        """Send one frame. Raises Silence if the server takes none of it for `seconds`, RemoteError."""
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))  # the kernel's struct timeval
        try:
            self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.send(message)
        except (WebSocketException, OSError) as error:
            if isinstance(error.__cause__, BlockingIOError):
                raise Silence(f"{self._url} took no data for {seconds:g} s") from error
            raise self._lost(error) from error

    def receive(self, seconds: float) -> bytes:
        """The next frame. Raises Silence after `seconds`, RemoteError: connection lost, or a text frame, which is how
        these servers send the traceback of a fault before they close."""
        try:
            frame = self._socket.recv(timeout=seconds)
        except TimeoutError as error:
            raise Silence(f"{self._url} sent nothing for {seconds:g} s") from error
        except (WebSocketException, OSError) as error:
            raise self._lost(error) from error
        if isinstance(frame, str):
            last = (frame.strip().splitlines() or ["(empty)"])[-1]
            raise RemoteError(f"{self._url} failed and says: {last[:500]}") from RuntimeError(frame[:20000])
        return frame

    def _lost(self, error: Exception) -> Absence:
        return Absence(f"lost the connection to {self._url}: {_line(error)}")

    def close(self) -> None:
        """Drop the connection."""
        self._stack.close()


class Zmq:
    """A REQ socket. After a missed reply it is unusable, so `close` it and make another."""

    def __init__(self, address: Address):
        self._url = address.url
        self._socket = zmq.Context.instance().socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        try:
            self._socket.connect(address.url)
        except zmq.ZMQError as error:
            self.close()
            raise RemoteError(f"cannot use the address {address.url!r}: {error}") from error

    def ask(self, message: bytes, seconds: float) -> bytes:
        """One request, one reply. Raises Silence after `seconds`."""
        self._socket.setsockopt(zmq.SNDTIMEO, int(1000 * seconds))
        self._socket.setsockopt(zmq.RCVTIMEO, int(1000 * seconds))
        try:
            self._socket.send(message)
            parts = self._socket.recv_multipart()
        except zmq.Again as error:
            raise Silence(f"{self._url} sent nothing for {seconds:g} s") from error
        except zmq.ZMQError as error:
            raise RemoteError(f"lost the connection to {self._url}: {error}") from error
        if len(parts) != 1:
            raise RemoteError(f"{self._url} answered in {len(parts)} parts, expected one")
        return parts[0]

    def close(self) -> None:
        """Drop the socket and what it has not sent."""
        self._socket.close(linger=0)


class Http:
    """HTTP requests over one kept connection; neither proxies nor passwords are taken from the environment."""

    def __init__(self, address: Address):
        self._address, self._url = address, address.url.rstrip("/")
        kind = HTTPSConnection if address.url.startswith("https:") else HTTPConnection
        try:
            parts = urlsplit(self._url)
            self._path, self._connection = parts.path, kind(parts.hostname or "", parts.port)
        except (ValueError, HTTPException) as error:
            raise RemoteError(f"cannot use the address {address.url!r}: {error}") from error

    def greet(self, path: str) -> bytes:
        """The answer to GET `path`, asked again while nobody listens, until `connect_timeout`. Raises RemoteError."""
        return _until(self._address, lambda left: self.ask("GET", path, left))

    def ask(self, method: str, path: str, seconds: float, body: bytes | None = None) -> bytes:
        """The body of a 200 answer. Raises Silence after `seconds`, however slowly the server talks until then;
        RemoteError for any other status."""
        headers = self._address.headers | ({"Content-Type": "application/json"} if body is not None else {})
        passed = threading.Event()
        try:
            with _deadline(self._open(seconds), seconds, passed):
                self._connection.request(method, self._path + path, body, headers)
                answer = self._connection.getresponse()
                content = self._read(answer)
                if passed.is_set():  # a body that ends with its connection would look whole
                    raise TimeoutError
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError) or (isinstance(error, (HTTPException, OSError)) and passed.is_set()):
                raise Silence(f"{self._url} sent nothing for {seconds:g} s, or did not finish its answer") from error
            if isinstance(error, (HTTPException, OSError)):
                raise Absence(f"lost the connection to {self._url}: {_line(error)}") from error
            raise
        if answer.status != 200:
            text = content.decode("utf-8", "replace")
            kind = Absence if answer.status in BUSY else RemoteError
            raise kind(f"{self._url}{path} answered HTTP {answer.status}: {' '.join(text.split())[:500]}")
        return content

    def _open(self, seconds: float) -> socket.socket:
        """The connected socket; a new one where the server has dropped the old, which shows as something to read."""
        connection = self._connection
        if connection.sock is not None and _is_readable(connection.sock):
            connection.close()
        if connection.sock is None:
            connection.timeout = min(seconds, self._address.connect_timeout)
            connection.connect()
        connection.sock.settimeout(seconds)
        return connection.sock

    def _read(self, answer: HTTPResponse) -> bytes:
        content = bytearray()
        while piece := answer.read(PIECE):
            content += piece
            if len(content) > MAX_MESSAGE:
                raise RemoteError(f"{self._url} sends more than {MAX_MESSAGE} bytes")
        if answer.length:  # `read` with a size does not tell
            raise IncompleteRead(b"", answer.length)
        return bytes(content)

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()


@contextmanager
def _deadline(connected: socket.socket, seconds: float, passed: threading.Event) -> Iterator[None]:
    """Shut the socket down and set `passed` unless the block ends within `seconds`: a socket's own timeout begins anew
    with each byte."""
    def shut() -> None:
        passed.set()
        with suppress(OSError):  # closed by the other side meanwhile
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _is_readable(connected: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


def _until(address: Address, attempt: Callable[[float], Found]) -> Found:
    """What `attempt(seconds left)` returns; tried again while the server refuses, until `connect_timeout`.

    Raises RemoteError: refused all the time, no such host, not a websocket server.
    """
    deadline = time.monotonic() + address.connect_timeout
    told = False
    while True:
        left = deadline - time.monotonic()
        try:
            return attempt(max(left, 0.1))
        except InvalidStatus as error:
            status = error.response.status_code
            if status in (401, 403):
                raise RemoteError(f"{address.url} wants another API key than it got (HTTP {status}): put it into the "
                                  "environment variable EVALKIT_API_KEY, or the one that option api_key_variable "
                                  "names") from error
            if status not in BUSY or left < RETRY_SECONDS:
                kind = Gone if status in BUSY else RemoteError
                raise kind(f"{address.url} refused the connection: HTTP {status}") from error
            time.sleep(RETRY_SECONDS)
        except TimeoutError as error:
            raise Gone(f"{address.url} did not complete the handshake in {address.connect_timeout:g} s") from error
        except (WebSocketException, OSError, EOFError, ValueError, Absence) as error:
            if not _passing(error):
                raise RemoteError(f"cannot connect to {address.url}: {_line(error)}") from error
            if left < RETRY_SECONDS:
                raise Gone(f"nobody answers at {address.url}: tried for {address.connect_timeout:g} s "
                           f"({_line(error)})") from error
            if not told:
                print(f"notice: nobody answers at {address.url} yet; waiting up to {address.connect_timeout:g} s",
                      file=sys.stderr)
                told = True
            time.sleep(RETRY_SECONDS)


def _passing(error: Exception) -> bool:
    """Whether a failed connection may succeed later: nobody listens yet, whoever accepted it went away in the
    handshake, or the host cannot be reached at the moment."""
    return (isinstance(error, (ConnectionError, EOFError, Absence)) or isinstance(error.__cause__, EOFError)
            or getattr(error, "errno", None) in (errno.EHOSTUNREACH, errno.ENETUNREACH, socket.EAI_AGAIN))


def _line(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
