"""Transports: bytes to a server and back, every wait bounded. Websocket, ZMQ (REQ) and HTTP."""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import requests
import zmq
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

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


class Absence(RemoteError):
    """Nobody listens, or the connection went away: the server may be starting."""


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

    def _lost(self, error: Exception) -> RemoteError:
        return RemoteError(f"lost the connection to {self._url}: {_line(error)}")

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
            return self._socket.recv()
        except zmq.Again as error:
            raise Silence(f"{self._url} sent nothing for {seconds:g} s") from error
        except zmq.ZMQError as error:
            raise RemoteError(f"lost the connection to {self._url}: {error}") from error

    def close(self) -> None:
        """Drop the socket and what it has not sent."""
        self._socket.close(linger=0)


class Http:
    """HTTP requests over one kept connection; neither proxies nor passwords are taken from the environment."""

    def __init__(self, address: Address):
        self._address, self._url = address, address.url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update(address.headers)

    def greet(self, path: str) -> bytes:
        """The answer to GET `path`, asked again while nobody listens, until `connect_timeout`. Raises RemoteError."""
        return _until(self._address, lambda left: self.ask("GET", path, left))

    def ask(self, method: str, path: str, seconds: float, body: bytes | None = None) -> bytes:
        """The body of a 200 answer. Raises Silence after `seconds`, RemoteError for any other status."""
        deadline = time.monotonic() + seconds
        try:
            with self._session.request(method, self._url + path, data=body, stream=True, allow_redirects=False,
                                       headers={"Content-Type": "application/json"} if body is not None else {},
                                       timeout=(min(seconds, self._address.connect_timeout), seconds)) as answer:
                content = self._read(answer, deadline, seconds)
        except requests.Timeout as error:
            raise Silence(f"{self._url} sent nothing for {seconds:g} s") from error
        except (requests.RequestException, OSError) as error:
            raise Absence(f"lost the connection to {self._url}: {_line(error)}") from error
        if answer.status_code != 200:
            text = content.decode("utf-8", "replace")
            raise RemoteError(f"{self._url}{path} answered HTTP {answer.status_code}: {' '.join(text.split())[:500]}")
        return content

    def _read(self, answer: requests.Response, deadline: float, seconds: float) -> bytes:
        content = bytearray()
        for piece in answer.iter_content(PIECE):
            content += piece
            if len(content) > MAX_MESSAGE:
                raise RemoteError(f"{self._url} sends more than {MAX_MESSAGE} bytes")
            if time.monotonic() > deadline:
                raise Silence(f"{self._url} had not finished its answer after {seconds:g} s")
        return bytes(content)

    def close(self) -> None:
        """Drop the connection."""
        self._session.close()


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
                raise RemoteError(f"{address.url} refused the connection: HTTP {status}") from error
            time.sleep(RETRY_SECONDS)
        except (ConnectionError, EOFError, Absence) as error:  # nobody listens yet, or it went away in the handshake
            if left < RETRY_SECONDS:
                raise RemoteError(f"nobody answers at {address.url}: tried for {address.connect_timeout:g} s "
                                  f"({_line(error)})") from error
            if not told:
                print(f"notice: nobody answers at {address.url} yet; waiting up to {address.connect_timeout:g} s",
                      file=sys.stderr)
                told = True
            time.sleep(RETRY_SECONDS)
        except RemoteError:
            raise
        except TimeoutError as error:
            raise RemoteError(f"{address.url} did not complete the handshake in {address.connect_timeout:g} s"
                              ) from error
        except (WebSocketException, OSError, ValueError) as error:
            raise RemoteError(f"cannot connect to {address.url}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
