"""Wire: the formats' own check vectors, recorded messages of an upstream server, and what is refused."""

from __future__ import annotations

import io

import imageio.v3 as imageio
import msgpack
import numpy as np
import pytest

from evalkit import wire
from evalkit.paths import PROJECT

RECORDED = PROJECT.parent / "shared" / "fixtures" / "wire_gr1"

NPY3 = ("82b15f5f6e6461727261795f636c6173735f5fc3a661735f6e7079c48c934e554d5059010076007b276465736372273a20273c6634272c"
        "2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028332c292c207d" + "20" * 60
        + "0a000000000000803f00000040")
NPY113 = ("b15f5f6e6461727261795f636c6173735f5fc3a661735f6e7079c48c934e554d5059010076007b276465736372273a20273c6634272c"
          "2027666f727472616e5f6f72646572273a2046616c73652c20277368617065273a2028312c20312c2033292c207d" + "20" * 55
          + "0a000000000000000000000000")

#: (what, value, form, hex), from the documentation of the formats.
VECTORS = [
    ("openpi array", {"a": np.arange(3, dtype="f4")}, wire.BYTES_KEYS,
     "81a16184c40b5f5f6e6461727261795f5fc3c40464617461c40c000000000000803f00000040c4056474797065a33c6634c4057368617065"
     "9103"),
    ("openpi image", np.zeros((2, 2, 3), "u1"), wire.BYTES_KEYS,
     "84c40b5f5f6e6461727261795f5fc3c40464617461c40c000000000000000000000000c4056474797065a37c7531c405736861706593020203"
     ),
    ("float32 scalar", {"s": np.float32(1.5)}, wire.BYTES_KEYS,
     "81a17383c40d5f5f6e7067656e657269635f5fc3c40464617461cb3ff8000000000000c4056474797065a33c6634"),
    ("int64 scalar", {"s": np.int64(7)}, wire.BYTES_KEYS,
     "81a17383c40d5f5f6e7067656e657269635f5fc3c4046461746107c4056474797065a33c6938"),
    ("float64 scalar", {"s": np.float64(1.5)}, wire.BYTES_KEYS, "81a173cb3ff8000000000000"),
    ("DiT4DiT metadata", {"env": "simpler_env"}, wire.BYTES_KEYS, "81a3656e76ab73696d706c65725f656e76"),
    ("openpi metadata", {}, wire.BYTES_KEYS, "80"),
    ("ping", {"type": "ping"}, wire.BYTES_KEYS, "81a474797065a470696e67"),
    ("DiT4DiT request",
     {"examples": [{"image": [np.zeros((1, 1, 3), "u1")], "lang": "a", "state": np.zeros((1, 2), "f4")}],
      "do_sample": False, "use_ddim": True, "num_ddim_steps": 10}, wire.BYTES_KEYS,
     "84a86578616d706c65739183a5696d6167659184c40b5f5f6e6461727261795f5fc3c40464617461c403000000c4056474797065a37c7531"
     "c405736861706593010103a46c616e67a161a5737461746584c40b5f5f6e6461727261795f5fc3c40464617461c4080000000000000000c4"
     "056474797065a33c6634c4057368617065920102a9646f5f73616d706c65c2a87573655f6464696dc3ae6e756d5f6464696d5f7374657073"
     "0a"),
    ("DiT4DiT reply",
     {"status": "ok", "ok": True, "type": "inference_result", "request_id": "default",
      "data": {"normalized_actions": np.arange(4, dtype="f4").reshape(1, 2, 2)}}, wire.BYTES_KEYS,
     "85a6737461747573a26f6ba26f6bc3a474797065b0696e666572656e63655f726573756c74aa726571756573745f6964a764656661756c74"
     "a46461746181b26e6f726d616c697a65645f616374696f6e7384c40b5f5f6e6461727261795f5fc3c40464617461c410000000000000803f"
     "0000004000004040c4056474797065a33c6634c405736861706593010202"),
    ("GR00T array", np.arange(3, dtype="f4"), wire.NPY, NPY3),
    ("N1.6 reset", {"endpoint": "reset", "data": {"options": None}}, wire.NPY,
     "82a8656e64706f696e74a57265736574a46461746181a76f7074696f6e73c0"),
    ("N1.6 reply", [{"action.waist": np.zeros((1, 1, 3), "f4")}, {}], wire.NPY,
     "9281ac616374696f6e2e776169737482" + NPY113 + "80"),
    ("N1.6 get_action",
     {"endpoint": "get_action", "data": {"observation": {
         "state.waist": np.zeros((1, 1, 3), "f4"), "annotation.human.coarse_action": ["a"]}, "options": None}},
     wire.NPY,
     "82a8656e64706f696e74aa6765745f616374696f6ea46461746182ab6f62736572766174696f6e82ab73746174652e776169737482"
     + NPY113 + "be616e6e6f746174696f6e2e68756d616e2e636f617273655f616374696f6e91a161a76f7074696f6e73c0"),
    ("vla-eval hello",
     {"type": "hello", "payload": {"harness_version": "0.4.0", "protocol_version": 1}, "seq": 0, "timestamp": 0.0},
     wire.STR_KEYS,
     "84a474797065a568656c6c6fa77061796c6f616482af6861726e6573735f76657273696f6ea5302e342e30b070726f746f636f6c5f766572"
     "73696f6e01a373657100a974696d657374616d70cb0000000000000000"),
    ("vla-eval action",
     {"type": "action", "payload": {"actions": np.arange(3, dtype="f4")}, "seq": 1, "timestamp": 0.0}, wire.STR_KEYS,
     "84a474797065a6616374696f6ea77061796c6f616481a7616374696f6e7384ab5f5f6e6461727261795f5fc3a464617461c40c0000000000"
     "00803f00000040a56474797065a33c6634a573686170659103a373657101a974696d657374616d70cb0000000000000000"),
]


def same(left, right):
    if isinstance(left, np.ndarray):
        return isinstance(right, np.ndarray) and left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@pytest.mark.parametrize(("value", "form", "expected"), [row[1:] for row in VECTORS], ids=[row[0] for row in VECTORS])
def test_check_vectors(value, form, expected):
    """Every documented message is written byte for byte, and read back as it was."""
    packed = wire.pack(value, form)
    assert packed.hex() == expected
    if not isinstance(next(iter(value.values()), None) if isinstance(value, dict) else None, np.float64):
        assert same(value, wire.unpack(packed))


@pytest.mark.skipif(not RECORDED.is_dir(), reason="no folder of recorded messages beside the repository")
def test_recorded_messages_of_an_upstream_server():
    """Decoding and encoding each recorded message gives its bytes again."""
    paths = sorted(RECORDED.glob("*.msgpack"))
    assert len(paths) >= 10
    for path in paths:
        assert wire.pack(wire.unpack(path.read_bytes())) == path.read_bytes(), path.name


@pytest.mark.parametrize("form", [wire.BYTES_KEYS, wire.STR_KEYS, wire.NPY])
@pytest.mark.parametrize("array", [
    np.arange(6, dtype="<f8").reshape(2, 3)[:, ::2], np.zeros((0, 7), "f4"), np.array(True), np.arange(4, dtype=">i2"),
    np.zeros((2, 2, 5), "u1"), np.arange(6.0).reshape(2, 3).T],
    ids=["strided", "empty", "bool", "big endian", "five channels", "columns first"])
def test_arrays_come_back(array, form):
    """Any layout, size and byte order of a real array, in each form."""
    found = wire.unpack(wire.pack({"x": array}, form))["x"]
    assert found.dtype == array.dtype and np.array_equal(found, array)


def test_decoded_arrays_must_be_copied_before_they_are_edited():
    """They are views of the message."""
    found = wire.unpack(wire.pack(np.zeros(3)))
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1.0


def test_lebedov_form_is_read():
    """GR00T N1.7's arrays, keys as bytes or as str; objects are refused."""
    vector = bytes.fromhex("85c4026e64c3c40474797065a33c6634c4046b696e64c400c40573686170659103c40464617461c40c00000000"
                           "0000803f00000040")
    assert same(wire.unpack(vector), np.arange(3, dtype="f4"))
    strings = {"nd": True, "type": "<f4", "kind": b"", "shape": [1], "data": bytes(4)}
    assert same(wire.unpack(msgpack.packb(strings)), np.zeros(1, "f4"))
    with pytest.raises(wire.WireError, match="objects"):
        wire.unpack(msgpack.packb({**strings, "kind": b"O"}))


def test_modality_configs_are_read_as_maps():
    """N1.5 writes them as a JSON string, N1.6 as a map."""
    for body in ('{"modality_keys": ["a"]}', {"modality_keys": ["a"]}):
        packed = msgpack.packb({"video": {"__ModalityConfig_class__": True, "as_json": body}})
        assert wire.unpack(packed) == {"video": {"modality_keys": ["a"]}}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_vla_eval_images_are_png(channels):
    """Any PNG reader finds the same pixels."""
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    found = msgpack.unpackb(wire.pack(image, wire.STR_KEYS))
    assert (found["__image__"], found["format"], found["shape"]) == (True, "png", [5, 7, channels])
    assert np.array_equal(imageio.imread(found["data"]).reshape(image.shape), image)


@pytest.mark.parametrize(("value", "form"), [
    (np.array([None]), wire.BYTES_KEYS), (np.zeros(2, complex), wire.BYTES_KEYS), (np.array(["a"]), wire.STR_KEYS),
    (np.float32(1), wire.NPY), ({1, 2}, wire.BYTES_KEYS), (2**70, wire.BYTES_KEYS)])
def test_what_has_no_form_is_not_sent(value, form):
    """Objects, complex numbers, sets, too large integers; numpy scalars to GR00T."""
    with pytest.raises(wire.WireError, match=r"cannot send|do not travel"):
        wire.pack({"x": value}, form)


def array_map(**changes):
    return msgpack.packb({b"__ndarray__": True, b"data": bytes(12), b"dtype": "<f4", b"shape": [3],
                          **{key.encode(): value for key, value in changes.items()}})


def npy_map(array, claim="", truth=""):
    """An npy blob, as `np.save` writes it, in whose header `truth` is replaced by `claim`."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return msgpack.packb({"__ndarray_class__": True,
                          "as_npy": buffer.getvalue().replace(truth.encode(), claim.encode()) if truth else
                          buffer.getvalue()})


def test_columns_first_npy():
    """numpy's own writer keeps Fortran order."""
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert np.array_equal(wire.unpack(npy_map(array)), array)


@pytest.mark.parametrize("data", [
    b"", b"\xc1", b"\x81\xa1", b"\x80\x80", array_map(shape=[4]), array_map(shape=[-3]), array_map(shape=[3.0]),
    array_map(dtype="|O"), array_map(dtype="<c8", shape=[]), array_map(dtype="nonsense"), array_map(data="text"),
    array_map(dtype="<M8[s]"), npy_map(np.array([{}], object)), msgpack.packb(msgpack.ExtType(5, b"x")),
    npy_map(np.zeros(3), "(999999999999,), }", "(3,), }" + 11 * " "),
    msgpack.packb({"__ndarray_class__": True, "as_npy": b"PK\x03\x04"})])
def test_malformed_messages_are_refused(data):
    """Never another exception, never an array of the wrong size, never a pickle."""
    with pytest.raises(wire.WireError):
        wire.unpack(data)


def test_bombs_are_refused():
    """Headers that claim more than they bring, deep nesting, endless messages: small, and refused quickly."""
    claims_four_billion = b"\xdd\xff\xff\xff\xff"
    nested = b"\xdc\xff\xff" * 500
    for data in (claims_four_billion, nested, b"\x91" * 100_000, b"\x91" * 200 + b"\x01", b"\xdf\xff\xff\xff\xff"):
        with pytest.raises(wire.WireError):
            wire.unpack(data)
    with pytest.raises(wire.WireError, match="allowed"):
        wire.unpack(bytes(wire.MAX_MESSAGE + 1))


METADATA = wire.Metadata(
    policy="x", suite="toy", views={"front": (4, 5, 3)}, state={"arm": 2}, chunk_length=8, executed_steps=4,
    stateful=True, groups={"arm": 2, "hand": 1}, meaning="joint targets", checkpoint={"path": "a"},
    described={"note": "n"}, statistics={"low": [0.0]})


def test_metadata_travels():
    """The first frame of evalkit's server, there and back."""
    assert wire.Metadata.read(wire.unpack(wire.pack(METADATA.message()))) == METADATA


@pytest.mark.parametrize(("path", "value", "text"), [
    (("protocol",), 2, "protocol"), (("env",), "other", "protocol"), (("spec", "chunk_length"), "8", "chunk_length"),
    (("spec", "stateful"), 1, "stateful"), (("action", "groups"), {"arm": 2.5}, "arm"), (("policy",), None, "policy")])
def test_wrong_metadata_names_the_field(path, value, text):
    """What is wrong is said."""
    message = METADATA.message()
    inner = message
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(wire.WireError, match=text):
        wire.Metadata.read(message)


REQUEST = wire.Request(id=3, views={"front": np.zeros((4, 5, 3), np.uint8)}, state={"arm": np.array([1.0, 2.0])},
                       prompt="do it", episode="toy/00/001", step=8, seed=2**62)


def test_a_request_travels():
    """A query, there and back, with a 63-bit seed."""
    found = wire.Request.read(wire.unpack(wire.pack(REQUEST.message())))
    assert same(vars(found), vars(REQUEST))


@pytest.mark.parametrize(("key", "value"), [
    ("type", "predict"), ("id", True), ("views", {"front": np.zeros((4, 5), np.uint8)}),
    ("views", {"front": np.zeros((4, 5, 3), np.float32)}), ("state", {"arm": np.array([np.nan])}),
    ("state", {"arm": [1.0]}), ("step", 1.5), ("seed", None), ("prompt", 3)])
def test_wrong_requests_are_refused(key, value):
    """Before a policy sees them."""
    with pytest.raises(wire.WireError):
        wire.Request.read({**REQUEST.message(), key: value})


def test_replies():
    """Actions are copied; another request's answer and an error are refused with what they say."""
    chunk = np.ones((2, 3))
    message = wire.unpack(wire.pack(wire.reply(3, chunk, {"infer_ms": 1.5})))
    actions = wire.read_reply(message, 3)
    assert actions.dtype == np.float32 and np.array_equal(actions, chunk) and actions.flags.writeable
    with pytest.raises(wire.WireError, match="request 3, expected 4"):
        wire.read_reply(message, 4)
    with pytest.raises(wire.WireError, match="ValueError: no such view"):
        wire.read_reply(wire.unpack(wire.pack(wire.error_reply(3, ValueError("no such view")))), 3)
    with pytest.raises(wire.WireError, match="missing"):
        wire.read_reply({"id": 3}, 3)
