"""Which family a server belongs to: asked, not guessed from its port."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from baselines.remote.client import Client, Options, WebsocketClient, greeted_by
from baselines.remote.dit4dit import Dit4Dit
from baselines.remote.evalkit_server import EvalkitServer
from baselines.remote.groot import GrootN15, GrootN15Http, GrootN16
from baselines.remote.openpi import Openpi
from baselines.remote.starvla import StarVLA
from baselines.remote.transports import Address, RemoteError, Silence, Websocket, Zmq
from baselines.remote.vla_eval import PROTOCOL, VERSION, VlaEval
from evalkit import wire

FAMILIES: dict[str, type[Client]] = {family.family: family for family in (
    EvalkitServer, Dit4Dit, StarVLA, Openpi, GrootN15, GrootN15Http, GrootN16, VlaEval)}

#: Seconds in which every server but vla-eval's has greeted, unless it is busy.
GREETING_SECONDS = 2.0


def schemes(family: type[Client]) -> tuple[str, ...]:
    """URL schemes that reach a server of `family`."""
    if issubclass(family, WebsocketClient):
        return ("ws", "wss")
    return ("http", "https") if family is GrootN15Http else ("tcp", "ipc")


def detect(options: Options) -> str:
    """The family of the server at the address. Raises RemoteError."""
    address = options.address
    scheme = address.url.partition("://")[0]
    if scheme in schemes(GrootN15Http):
        return GrootN15Http.family
    return _zmq_family(address) if scheme in schemes(GrootN15) else _websocket_family(address)


def _websocket_family(address: Address) -> str:
    """By the first frame; a server that waits for a word gets vla-eval's, and is told apart by its answer."""
    with closing(Websocket(address)) as socket:
        try:
            frame = socket.receive(GREETING_SECONDS)
        except Silence:
            hello = {"type": "hello", "payload": {"harness_version": VERSION, "protocol_version": PROTOCOL}, "seq": 0,
                     "timestamp": 0.0}
            socket.send(wire.pack(hello, wire.STR_KEYS), address.connect_timeout)
            frame = socket.receive(address.connect_timeout)
    return greeted_by(wire.unpack(frame))


def _zmq_family(address: Address) -> str:
    """N1.5 names modalities with their kind (``video.ego_view``), N1.6 without."""
    with closing(Zmq(address)) as socket:
        request: dict[str, Any] = {"endpoint": "get_modality_config"}
        if address.key:
            request["api_token"] = address.key
        config = wire.unpack(socket.ask(wire.pack(request, wire.NPY), address.connect_timeout))
    try:
        keys = config["video"]["modality_keys"]
        return GrootN15.family if all(str(key).startswith("video.") for key in keys) else GrootN16.family
    except (TypeError, KeyError) as error:
        raise RemoteError(f"the server at {address} does not say which GR00T it is (get_modality_config answered "
                          f"{str(config)[:200]}): set option protocol to {GrootN15.family} or {GrootN16.family}"
                          ) from error
