"""Wire formats: msgpack with arrays as the public policy servers write them, and the messages of evalkit's own server.

    wire.unpack(wire.pack({"actions": chunk}))          # bytes-keyed arrays: openpi, DiT4DiT, starVLA, evalkit

Three forms of an array go out, four come in (`unpack` knows them all):

- `BYTES_KEYS` (openpi's msgpack_numpy.py, copied by DiT4DiT and starVLA):
  ``{b"__ndarray__": True, b"data": bin, b"dtype": "<f4", b"shape": [3]}``
- `STR_KEYS` (allenai/vla-evaluation-harness): the same with str keys; images travel as PNG
- `NPY` (Isaac-GR00T N1.5 gr00t/eval/service.py and N1.6 gr00t/policy/server_client.py):
  ``{"__ndarray_class__": True, "as_npy": bin}``
- msgpack-numpy (lebedov; Isaac-GR00T N1.7):
  ``{b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [3], b"data": bin}``
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import tokenize
import zlib
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from evalkit.errors import shown

BYTES_KEYS, STR_KEYS, NPY = "bytes keys", "str keys", "npy"

#: Largest message that is read, in bytes: a batch of 32 observations of two 512 x 512 views takes 50 MB.
MAX_MESSAGE = 64 * 2**20

#: Longest list and map that are read. msgpack makes room for as many items as a message claims to hold, before reading
#: them: without a limit a few nested headers ask for all memory. Arrays are blobs and do not count.
MAX_ITEMS = 16384

#: Values in all lists and maps of a message together: each takes a byte of a message and a hundred bytes of memory.
MAX_VALUES = 200_000

#: Longest text of a request: an instruction has some hundred characters, a policy's tokenizer reads all of it.
MAX_PROMPT = 10_000

#: Longest text of an error that is answered; what it repeats of a request can be as long as the request.
MAX_ERROR = 2_000

#: Bytes of the largest JSON text that is read: actions of a batch in decimals take one hundredth.
MAX_JSON = 4 * 2**20

#: Deepest nesting that is read; msgpack's own limit is higher.
MAX_DEPTH = 64

#: Most axes of an array (numpy 1.26's limit).
MAX_AXES = 32

#: Kinds of dtype (numpy's letters) that travel: bool, integers, floats.
REAL_KINDS = "biuf"


class WireError(ValueError):
    """A message that breaks its protocol: undecodable, too large, a field missing or of the wrong type."""


# --- arrays ----------------------------------------------------------------------------------------------------------


def pack(value: Any, form: str = BYTES_KEYS) -> bytes:
    """`value` as msgpack, arrays in `form`. Raises WireError for what the form cannot hold."""
    try:
        return msgpack.packb(value, default=_ENCODERS[form], use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"cannot send this message: {error}") from error


def unpack(data: bytes) -> Any:
    """The value behind `data`, its arrays read-only where they share the message's memory. Raises WireError.

    Messages over `MAX_MESSAGE`, lists over `MAX_ITEMS`, nesting over `MAX_DEPTH`, object arrays and msgpack extensions
    are refused.
    """
    if len(data) > MAX_MESSAGE:
        raise WireError(f"a message of {len(data)} bytes; allowed: {MAX_MESSAGE}")
    try:
        count = _Count()
        value = msgpack.unpackb(data, raw=False, strict_map_key=False, object_hook=count.map, list_hook=count.list,
                                ext_hook=_refuse_extension, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS)
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise WireError(f"not a msgpack message: {type(error).__name__}: {error}".rstrip(": ")) from error
    _check_depth(value)
    return value


def _encode_bytes_keys(value: Any) -> dict:
    if isinstance(value, np.ndarray):
        _check_kind(value.dtype, refused="VOc")
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        _check_kind(value.dtype, refused="VOc")
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__} has no wire form")


def _encode_str_keys(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} has no wire form")
    if value.dtype.kind not in REAL_KINDS:
        raise TypeError(f"arrays of dtype {value.dtype} do not travel")
    if value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] in _PNG_COLOURS:
        return {"__image__": True, "format": "png", "data": encode_png(value), "shape": value.shape}
    return {"__ndarray__": True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": value.shape}


def _encode_npy(value: Any) -> dict:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a {type(value).__name__} has no wire form: send arrays or Python numbers")
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(value, order="C"), allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": buffer.getvalue()}


_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    BYTES_KEYS: _encode_bytes_keys, STR_KEYS: _encode_str_keys, NPY: _encode_npy}


class _Count:
    """msgpack's hooks: lists as they are, maps decoded, all their values counted. They raise WireError when there are
    too many."""

    def __init__(self) -> None:
        self.values = 0

    def map(self, found: dict) -> Any:
        self._add(found)
        return _decode(found)

    def list(self, found: list) -> list:
        self._add(found)
        return found

    def _add(self, found: Sized) -> None:
        self.values += 1 + len(found)
        if self.values > MAX_VALUES:
            raise WireError(f"a message of more than {MAX_VALUES} values; numbers travel as arrays")


def _decode(found: dict) -> Any:
    """msgpack's hook: an array or scalar where a map is the form of one, else the map."""
    if _get(found, "__ndarray__") is True:
        return read_array(_get(found, "data"), _get(found, "dtype"), _get(found, "shape"))
    if _get(found, "__npgeneric__") is True:
        return _scalar(_get(found, "data"), _dtype(_get(found, "dtype")))
    if found.get("__ndarray_class__") is True:
        return read_npy(found.get("as_npy"))
    if _get(found, "nd") is True:
        if _get(found, "kind") not in (b"", "", None):
            raise WireError("an array of objects or records; allowed: bool, integers, floats")
        return read_array(_get(found, "data"), _get(found, "type"), _get(found, "shape"))
    if _get(found, "__ModalityConfig_class__") is True or _get(found, "__ModalityConfig__") is True:
        config = _get(found, "as_json")
        return read_json(config) if isinstance(config, (str, bytes)) else config
    return found


def read_json(text: str | bytes, hook: Callable[[dict], Any] | None = None) -> Any:
    """The value of a JSON text of at most `MAX_JSON` bytes; hook: as `json.loads` has it. Raises WireError."""
    if len(text) > MAX_JSON:
        raise WireError(f"{len(text)} bytes of JSON; allowed: {MAX_JSON}")
    try:
        return json.loads(text, object_hook=hook)
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WireError(f"not JSON: {type(error).__name__}: {error}") from error


def _get(found: Mapping, key: str) -> Any:
    """The item under `key`, written as bytes or as str; None where there is none."""
    return found[key.encode()] if key.encode() in found else found.get(key)


def _dtype(name: Any) -> np.dtype:
    name = name.decode("ascii", "replace") if isinstance(name, bytes) else name
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise WireError(f"arrays of dtype {shown(name)} do not travel; allowed: bool, integers, floats")
    return np.dtype(name)


def _scalar(value: Any, dtype: np.dtype) -> np.generic:
    if not isinstance(value, (bool, int, float)):
        raise WireError(f"a number of type {type(value).__name__}")
    return dtype.type(value)


def read_array(data: Any, dtype: Any, shape: Any) -> np.ndarray:
    """A read-only view of `data`. Raises WireError unless its length is what dtype and shape need."""
    kind = _dtype(dtype)
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > MAX_AXES or not all(
            type(size) is int and 0 <= size < 2**62 for size in shape):
        raise WireError(f"an array with data of type {type(data).__name__} and shape {shown(shape)}")
    if math.prod(shape) * kind.itemsize != len(data):
        raise WireError(f"an array of shape {tuple(shape)} {kind} needs {math.prod(shape) * kind.itemsize} bytes, "
                        f"got {len(data)}")
    return np.frombuffer(data, kind).reshape(shape)


def read_npy(blob: Any) -> np.ndarray:
    """A read-only view of the array in an npy file; `np.load` would make room for whatever its header claims. Raises
    WireError."""
    if not isinstance(blob, bytes):
        raise WireError(f"an npy array of type {type(blob).__name__}; expected bytes")
    file = io.BytesIO(blob)
    try:
        version = np.lib.format.read_magic(file)
        if version not in _NPY_HEADERS:
            raise WireError(f"an npy array of format {version}; allowed: {', '.join(map(str, _NPY_HEADERS))}")
        shape, columns_first, dtype = _NPY_HEADERS[version](file)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise WireError(f"an npy array whose header cannot be read: {error}") from error
    array = read_array(blob[file.tell():], dtype.str, list(shape[::-1] if columns_first else shape))
    return array.T if columns_first else array


#: Names of dtypes that travel: numpy's letters, or words such as float32; never a structure, which numpy would parse.
_DTYPE = re.compile(r"[<>=|]?(\?|[bBhHiIlLqQefdg]|[biuf](1|2|4|8|16))|bool|u?int(8|16|32|64)|float(16|32|64)")

#: npy format -> how its header is read (numpy.lib.format).
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def _check_kind(dtype: np.dtype, refused: str) -> None:
    if dtype.kind in refused:
        raise WireError(f"arrays of dtype {dtype} do not travel; allowed: bool, integers, floats")


def _refuse_extension(code: int, data: bytes) -> None:
    raise WireError(f"msgpack extension {code}; none is known here")


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise WireError(f"a message nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, msgpack.Timestamp):  # the one extension that msgpack decodes by itself
        raise WireError("msgpack extension -1; none is known here")
    elif not isinstance(value, list):
        return
    for item in value:
        _check_depth(item, depth + 1)


#: PNG's colour types by number of channels (PNG specification, section 11.2.1).
_PNG_COLOURS = {1: 0, 3: 2, 4: 6}


def encode_png(image: np.ndarray) -> bytes:
    """A PNG of `image` (H, W, 1, 3 or 4) uint8, lightly compressed; needs no imaging library."""
    height, width, channels = image.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row begins with its filter, 0: none
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOURS[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(body)) + kind + body
                                            + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)


# --- messages --------------------------------------------------------------------------------------------------------


def take(message: Any, name: str, *types: type) -> Any:
    """Field `name` of a map. Raises WireError unless it is there and of one of `types`; True is not an int."""
    if not isinstance(message, Mapping):
        raise WireError(f"expected a map, got {type(message).__name__}")
    if name not in message:
        raise WireError(f"field {name!r} is missing; the message has {shown(sorted(map(str, message)))}")
    value = message[name]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        wanted = " or ".join("nil" if kind is type(None) else kind.__name__ for kind in types)
        raise WireError(f"field {name!r} is {type(value).__name__}, expected {wanted}")
    return value


def optional(message: Any, name: str, *types: type) -> Any:
    """`take`, or None where the field is absent or nil."""
    return take(message, name, *types) if isinstance(message, Mapping) and message.get(name) is not None else None


#: evalkit's own protocol: websocket, one binary frame a message, `BYTES_KEYS`. The server speaks first (`Metadata`);
#: then strictly one `Request`, one reply. A text frame is fatal, an error reply is not.
EVALKIT, PROTOCOL = "evalkit", 1

#: Header of a websocket's opening handshake that carries the key of a server that asks for one (openpi's form).
KEY_HEADER, KEY_PREFIX = "Authorization", "Api-Key "


@dataclass(frozen=True)
class Metadata:
    """What evalkit's server says of itself when a client connects.

    policy: its registered name. suite: the suite that its actions are for. views, state: names it reads, each with the
    size it expects (view (H, W, 3), state group length). chunk_length, executed_steps, stateful: as in `PolicySpec`.
    groups: action groups and sizes in order; meaning: of the numbers, as in `ActionSpec`. Actions are un-normalised.
    checkpoint: path and sha256, as in `Policy.describe`. described: the whole of `Policy.describe`.
    statistics: what un-normalises the actions, for the record, or None.
    """

    policy: str
    suite: str
    views: Mapping[str, tuple[int, ...]]
    state: Mapping[str, int]
    chunk_length: int
    executed_steps: int
    stateful: bool
    groups: Mapping[str, int]
    meaning: str
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    described: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Any] | None = None

    def message(self) -> dict[str, Any]:
        """The first frame."""
        spec = {"views": {name: list(shape) for name, shape in self.views.items()}, "state": dict(self.state),
                "chunk_length": self.chunk_length, "executed_steps": self.executed_steps, "stateful": self.stateful}
        return {"env": EVALKIT, "protocol": PROTOCOL, "policy": self.policy, "suite": self.suite, "spec": spec,
                "action": {"groups": dict(self.groups), "meaning": self.meaning, "normalised": False},
                "checkpoint": dict(self.checkpoint), "described": dict(self.described), "statistics": self.statistics}

    @classmethod
    def read(cls, message: Any) -> Metadata:
        """The Metadata of a first frame. Raises WireError naming the field that is wrong."""
        if take(message, "env", str) != EVALKIT or take(message, "protocol", int) != PROTOCOL:
            raise WireError(f"protocol {message['env']!r} {message.get('protocol')!r}; this is {EVALKIT!r} {PROTOCOL}")
        spec, action = take(message, "spec", dict), take(message, "action", dict)
        return cls(
            policy=take(message, "policy", str), suite=take(message, "suite", str),
            views={name: _shape(take(spec, "views", dict), name) for name in take(spec, "views", dict)},
            state=_sizes(spec, "state"), chunk_length=take(spec, "chunk_length", int),
            executed_steps=take(spec, "executed_steps", int), stateful=take(spec, "stateful", bool),
            groups=_sizes(action, "groups"), meaning=take(action, "meaning", str),
            checkpoint=take(message, "checkpoint", dict), described=take(message, "described", dict),
            statistics=take(message, "statistics", dict, type(None)))


def _shape(message: Mapping, name: str) -> tuple[int, ...]:
    shape = take(message, name, list)
    if not all(type(size) is int for size in shape):
        raise WireError(f"field {name!r} is {shown(shape)}, expected whole numbers")
    return tuple(shape)


def _sizes(message: Mapping, name: str) -> dict[str, int]:
    sizes = take(message, name, dict)
    return {key: take(sizes, key, int) for key in sizes}


@dataclass(frozen=True)
class Request:
    """One query to evalkit's server.

    id: counts the connection's requests; the reply repeats it. views: name -> uint8 (H, W, 3). state: name -> float64.
    episode: its id (`Episode.id`); step: policy steps taken in it; 0 tells a stateful policy to begin afresh.
    seed: of all that is random in the answer (`Observation.query_seed`).
    """

    id: int
    views: Mapping[str, np.ndarray]
    state: Mapping[str, np.ndarray]
    prompt: str
    episode: str
    step: int
    seed: int

    def message(self) -> dict[str, Any]:
        """The frame."""
        return {"type": "infer", **{key: dict(value) if isinstance(value, Mapping) else value
                                    for key, value in vars(self).items()}}

    @classmethod
    def read(cls, message: Any) -> Request:
        """The Request of a frame. Raises WireError naming the field that is wrong; arrays are read-only."""
        if take(message, "type", str) != "infer":
            raise WireError(f"message type {shown(message['type'])}; allowed: 'infer'")
        views, state = take(message, "views", dict), take(message, "state", dict)
        for name in views:
            image = take(views, name, np.ndarray)
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise WireError(f"view {name!r} is {image.shape} {image.dtype}, expected (H, W, 3) uint8")
        for name in state:
            group = take(state, name, np.ndarray)
            if group.dtype.kind != "f" or group.ndim != 1 or not np.isfinite(group).all():
                raise WireError(f"state group {name!r} is {group.shape} {group.dtype}, expected one row of finite "
                                "floats")
        return cls(take(message, "id", int), views, state, read_prompt(message, "prompt"),
                   take(message, "episode", str), take(message, "step", int), take(message, "seed", int))


def read_prompt(message: Any, name: str) -> str:
    """The instruction in field `name`. Raises WireError for none, or one over `MAX_PROMPT`."""
    prompt = take(message, name, str)
    if not 0 < len(prompt) <= MAX_PROMPT:
        raise WireError(f"{name} is empty; every observation carries its episode's instruction" if not prompt else
                        f"{name} has {len(prompt)} characters; allowed: {MAX_PROMPT}")
    return prompt


def reply(request_id: int, actions: np.ndarray, timing: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The answer of evalkit's server: `actions` (T, D) float32; `timing`: milliseconds by name."""
    return {"id": request_id, "actions": np.ascontiguousarray(actions, np.float32), "server_timing": dict(timing or {})}


def error_reply(request_id: int | None, error: BaseException) -> dict[str, Any]:
    """The answer of evalkit's server to a request that failed; the connection stays open."""
    return {"id": request_id, "error": {"type": type(error).__name__, "message": str(error)[:MAX_ERROR]}}


def read_reply(message: Any, request_id: int) -> np.ndarray:
    """The actions of a reply to request `request_id`, a copy. Raises WireError: another id, an error, no array."""
    if isinstance(message, Mapping) and message.get("error") is not None:
        error = take(message, "error", dict)
        raise WireError(f"{error.get('type')}: {error.get('message')}")
    if take(message, "id", int) != request_id:
        raise WireError(f"reply to request {message['id']}, expected {request_id}: an answer to another observation")
    return np.array(take(message, "actions", np.ndarray))
