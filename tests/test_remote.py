"""Remote policies against fake servers: what is sent, what is taken, and how every kind of fault ends."""

from __future__ import annotations

import json
import socket
import threading
import time

import imageio.v3 as imageio
import numpy as np
import pytest
from websockets.server import ServerProtocol

from baselines.remote import Remote
from baselines.remote.openpi import resize_with_pad
from baselines.remote.transports import Address, RemoteError, Websocket
from baselines.remote.vla_eval import shortest
from evalkit import wire
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.paths import PROJECT
from evalkit.registry import load_object, load_suite
from evalkit.rollout import run_episode
from evalkit.specs import check_policy_fits
from evalkit.suite import EnvOptions, Observation
from evalkit.testing import check_policy, fake_observation
from tests import fake_servers as fakes

FIXTURES = PROJECT.parent / "shared" / "fixtures"

LIBERO, GR1, TOY = load_suite("libero_goal"), load_suite("robocasa_gr1"), load_suite("toy")
PATIENT = {"connect_timeout": 20.0, "timeout": 20.0, "first_timeout": 20.0}

GR1_ACTIONS = np.linspace(-1, 1, 16 * 29, dtype=np.float32).reshape(16, 29)
LIBERO_ACTIONS = np.linspace(-0.9, 0.9, 10 * 7, dtype=np.float32).reshape(10, 7)


def episode(suite, index=0):
    return Episode(suite.name, 0, index, 7, suite.max_steps)


def observation(suite, step=0, index=0, size=224):
    """Random, with views that need no resizing."""
    found = fake_observation(suite, episode(suite, index), step)
    generator = np.random.default_rng(index)
    views = {name: generator.integers(0, 256, (size, size, 3), dtype=np.uint8) for name in found.views}
    return Observation(views, found.state, found.instruction, found.episode, step)


def remote(suite, server, loaded=True, **options):
    policy = Remote(suite, server.url, **{**PATIENT, **options})
    if loaded:
        policy.load()
    return policy


@pytest.fixture
def run_folder(tmp_path):
    """A run folder of DiT4DiT: GR1, actions -2 to 2 in every column."""
    statistics = {"action": {"min": [-2.0] * 29, "max": [2.0] * 29, "mask": [True] * 29}}
    (tmp_path / "dataset_statistics.json").write_text(json.dumps({"gr1": statistics}))
    (tmp_path / "config.yaml").write_text(
        "framework: {action_model: {state_dim: 64, action_dim: 32, action_horizon: 16}}")
    return str(tmp_path)


def groups(actions, sizes):
    ends = np.cumsum(list(sizes.values()))[:-1]
    return dict(zip(sizes, np.split(actions, ends, axis=-1)))


def gr1_groot(version):
    video = {"n15": ["ego_view"], "n16": ["ego_view_bg_crop_pad_res256_freq20"]}[version]
    return fakes.FakeGroot(version, groups(GR1_ACTIONS, GR1.action.groups), video, list(GR1.state))


LIBERO_KEYS = dict.fromkeys(("x", "y", "z", "roll", "pitch", "yaw", "gripper"), 1)


def libero_groot(version):
    actions = np.concatenate([LIBERO_ACTIONS, LIBERO_ACTIONS])[:16]
    return fakes.FakeGroot(version, groups(actions, LIBERO_KEYS), ["image", "wrist_image"], list(LIBERO_KEYS))


def evalkit_server(suite, actions=None, **changes):
    served = wire.Metadata(
        "test", suite.name, dict(suite.views), dict(suite.state), changes.pop("chunk_length", 4),
        changes.pop("executed_steps", 2), changes.pop("stateful", False), dict(suite.action.groups),
        suite.action.meaning, {"path": "weights.pt", "sha256": "0f"})

    def draw(request):
        return np.random.default_rng(request["seed"]).normal(size=(4, suite.action.size)).astype(np.float32)

    return fakes.FakeEvalkit({**served.message(), **changes}, actions or draw)


# --- each family, from before the run to an answer ------------------------------------------------------------------


FAMILIES = {
    "dit4dit": (GR1, lambda: fakes.FakeDit4Dit(), 12, 16),
    "starvla gr1": (GR1, lambda: fakes.FakeStarVLA(GR1_ACTIONS), 12, 16),
    "starvla libero": (LIBERO, lambda: fakes.FakeStarVLA(LIBERO_ACTIONS), 10, 10),
    "openpi": (LIBERO, lambda: fakes.FakeOpenpi(LIBERO_ACTIONS.astype(np.float64)), 5, 10),
    "groot_n15": (GR1, lambda: gr1_groot("n15"), 16, 16),
    "groot_n16": (GR1, lambda: gr1_groot("n16"), 8, 16),
    "groot_n15 libero": (LIBERO, lambda: libero_groot("n15"), 1, 16),
    "groot_n16 libero": (LIBERO, lambda: libero_groot("n16"), 8, 16),
    "groot_n15_http": (GR1, lambda: fakes.FakeGrootHttp(groups(GR1_ACTIONS, GR1.action.groups)), 16, 16),
    "vla_eval": (LIBERO, lambda: fakes.FakeVlaEval(LIBERO_ACTIONS[0]), 1, 1),
    "evalkit": (TOY, lambda: evalkit_server(TOY), 2, 4),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("auto", [True, False], ids=["auto", "told"])
def test_every_family(name, auto, run_folder):
    """A server is recognised (or believed), tried before the run, and keeps the Policy contract."""
    suite, make, executed, length = FAMILIES[name]
    family = name.split()[0]
    options = {"checkpoint": run_folder} if family == "dit4dit" else {}
    with make() as server:
        policy = remote(suite, server, loaded=False, protocol="auto" if auto else family, **options)
        check_policy_fits(policy.spec, suite)
        policy.check_plan([episode(suite)])
        assert (policy.spec.executed_steps, policy.spec.chunk_length) == (executed, length)
        described = policy.describe()
        assert described["protocol"] == family and json.dumps(described)
        assert ("no seed" in described.get("note", "")) == (family != "evalkit")
        policy.load()
        chunk = policy.act([observation(suite)])[0] if suite is not TOY else policy.act(
            [fake_observation(suite, episode(suite))])[0]
        suite.action.check(chunk)
        assert chunk.dtype == np.float32 and chunk.flags.writeable and len(chunk) >= executed
        policy.check_plan([])


def test_evalkit_keeps_the_policy_contract():
    """All of it: batches, repetitions, randomness by seed; the seed travels."""
    with evalkit_server(TOY) as server:
        policy = remote(TOY, server)
        check_policy(policy, TOY)
        seen = fake_observation(TOY, episode(TOY))
        policy.act([seen])
        request = server.requests[-1]
        assert (request["seed"], request["episode"], request["step"], request["type"]) == (
            seen.query_seed, "toy/00/000", 0, "infer")
        assert request["prompt"] == seen.instruction and set(request["views"]) == set(TOY.views)
        assert all(np.array_equal(request["views"][name], seen.views[name]) for name in TOY.views)
        assert all(request["state"][name].dtype == np.float64 for name in TOY.state)


@pytest.mark.parametrize("name", ["starvla libero", "openpi", "groot_n15", "groot_n16 libero", "vla_eval"])
def test_every_other_family_keeps_the_policy_contract(name):
    """As far as a server without seeds can: this one always says the same. (DiT4DiT's client needs OpenCV here.)"""
    suite, make, _, _ = FAMILIES[name]
    with make() as server:
        check_policy(remote(suite, server, protocol=name.split()[0]), suite)


# --- what is sent and what becomes of the answer ---------------------------------------------------------------------


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no folder of recorded policies beside the repository")
def test_dit4dit_as_recorded():
    """From raw observation to request and from recorded reply to joint targets: upstream's own numbers."""
    folder = FIXTURES / "dit4dit_gr1"
    inputs, client = np.load(folder / "inputs.npz"), np.load(folder / "client.npz")
    recorded = wire.unpack((FIXTURES / "wire_gr1" / "infer0.request.msgpack").read_bytes())
    reply = (FIXTURES / "wire_gr1" / "infer0.response.msgpack").read_bytes()
    state = {group: np.float64(inputs[f"raw_state_{group}"][0]).reshape(-1) for group in GR1.state}
    instruction = recorded["examples"][0]["lang"]
    seen = Observation({"ego_view": inputs["example_image"][0]}, state, instruction, episode(GR1), 0)
    with fakes.FakeDit4Dit() as server:
        server.spoil[0] = lambda _: reply
        chunk = remote(GR1, server, checkpoint=str(folder / "run")).act([seen])[0]
    sent = server.requests[0]
    assert {**sent, "examples": 0} == {key: recorded[key] for key in recorded if key not in ("type", "request_id")} | {
        "examples": 0}
    assert list(sent["examples"][0]) == list(recorded["examples"][0])
    assert np.array_equal(sent["examples"][0]["image"][0], recorded["examples"][0]["image"][0])
    assert sent["examples"][0]["state"].dtype == np.float32
    np.testing.assert_allclose(sent["examples"][0]["state"], recorded["examples"][0]["state"], atol=1e-6)
    np.testing.assert_allclose(chunk, client["unnormalized_full"][0], atol=1e-5)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no folder of recorded policies beside the repository")
def test_dit4dit_libero_as_recorded():
    """Two views of 256 become one image of 224 x 448 by INTER_AREA, the state 16 numbers, the gripper a sign: three
    queries of upstream's own evaluation loop."""
    pytest.importorskip("cv2", reason="resizing needs OpenCV, which the workers have")
    folder = FIXTURES / "dit4dit_libero"
    inputs, client = np.load(folder / "inputs.npz"), np.load(folder / "client.npz")
    for query in range(3):
        views = {"agentview": inputs["raw_agentview_image"][query][::-1, ::-1],
                 "wrist": inputs["raw_robot0_eye_in_hand_image"][query][::-1, ::-1]}
        raw = client["state_raw8"][query]
        state = {"eef_pos": raw[:3], "eef_axis_angle": raw[3:6], "gripper_qpos": raw[6:]}
        seen = Observation(views, state, str(inputs["lang_episode"]), episode(LIBERO), 8 * query)
        with fakes.FakeDit4Dit(8, 8) as server:
            server.actions = client["normalized_actions"][query]
            chunk = remote(LIBERO, server, checkpoint=str(folder / "run")).act([seen])[0]
        example = server.requests[0]["examples"][0]
        assert np.array_equal(example["image"][0], inputs["example_image"][query])
        np.testing.assert_allclose(example["state"], inputs["example_state"][query], atol=1e-6)
        np.testing.assert_allclose(chunk, client["env_actions"][10 + 8 * query:18 + 8 * query], atol=1e-5)


def test_dit4dit_message(run_folder):
    """One flat map; normalised actions are clipped and scaled, padding dropped."""
    with fakes.FakeDit4Dit(value=2.0) as server:
        server.actions[:, 1] = -0.5
        chunk = remote(GR1, server, checkpoint=run_folder).act([observation(GR1)])[0]
    assert set(server.requests[0]) == {"examples", "do_sample", "use_ddim", "num_ddim_steps"}
    example = server.requests[0]["examples"][0]
    assert example["image"][0].shape == (224, 224, 3) and example["state"].shape == (1, 64)
    assert chunk.shape == (16, 29) and np.all(chunk[:, 0] == 2.0) and np.all(chunk[:, 1] == -1.0)


def test_starvla_message():
    """LIBERO: two images, no state, gripper 1 = open becomes -1. GR1: one image and 58 state numbers, or none."""
    actions = LIBERO_ACTIONS.copy()
    actions[:, 6] = [0.0, 1.0] * 5
    with fakes.FakeStarVLA(actions) as server:
        chunk = remote(LIBERO, server).act([observation(LIBERO)])[0]
    example = server.requests[0]["examples"][0]
    assert [image.shape for image in example["image"]] == 2 * [(224, 224, 3)] and "state" not in example
    assert server.requests[0]["unnorm_key"] is None
    assert chunk[:, 6].tolist() == [1.0, -1.0] * 5 and np.array_equal(chunk[:, :6], actions[:, :6])
    with fakes.FakeStarVLA(actions, training_obs_image_size=[256, 320]) as server:
        remote(LIBERO, server, views="agentview").act([observation(LIBERO)])
    assert [image.shape for image in server.requests[0]["examples"][0]["image"]] == [(256, 320, 3)]
    seen = observation(GR1)
    for send_state in (None, True, False):
        with fakes.FakeStarVLA(GR1_ACTIONS) as server:
            chunk = remote(GR1, server, send_state=send_state).act([seen])[0]
        example = server.requests[0]["examples"][0]
        assert np.array_equal(chunk, GR1_ACTIONS) and ("state" in example) == (send_state is not False)
    expected = np.concatenate([part for group in GR1.state for part in (np.sin(seen.state[group]),
                                                                        np.cos(seen.state[group]))])
    with fakes.FakeStarVLA(GR1_ACTIONS) as server:
        remote(GR1, server).act([seen])
    np.testing.assert_allclose(server.requests[0]["examples"][0]["state"], expected[np.newaxis], atol=1e-6)


def test_old_starvla_servers_need_statistics(run_folder):
    """Normalised actions are un-normalised once, without a clip, or refused."""
    with fakes.FakeStarVLA(np.full((16, 29), 1.5, np.float32), name="normalized_actions") as server:
        with pytest.raises(RemoteError, match="checkpoint="):
            remote(GR1, server).act([observation(GR1)])
        assert np.all(remote(GR1, server, checkpoint=run_folder).act([observation(GR1)])[0] == 3.0)


def test_openpi_message():
    """Keys, sizes and types of openpi's LIBERO example; actions as they come."""
    with fakes.FakeOpenpi(LIBERO_ACTIONS) as server:
        seen = observation(LIBERO)
        chunk = remote(LIBERO, server).act([seen])[0]
    request = server.requests[0]
    assert set(request) == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}
    assert np.array_equal(request["observation/image"], seen.views["agentview"])
    assert request["observation/state"].dtype == np.float64
    assert np.array_equal(request["observation/state"], np.concatenate([seen.state[name] for name in LIBERO.state]))
    assert np.array_equal(chunk, LIBERO_ACTIONS)


def test_resize_with_pad():
    """A wide image gets black bars above and below, its middle keeps its colour; 256 to 224 fills the square."""
    wide = np.full((100, 400, 3), 200, np.uint8)
    framed = resize_with_pad(wide)
    assert framed.shape == (224, 224, 3)
    assert np.all(framed[84:140] == 200) and not framed[:84].any() and not framed[140:].any()
    assert np.all(resize_with_pad(np.full((256, 256, 3), 9, np.uint8)) == 9)


@pytest.mark.parametrize("version", ["n15", "n16"])
def test_groot_message(version):
    """Keys of each version, float32 states, uint8 video, a list of instructions, B and T axes; reset for N1.6."""
    seen = observation(GR1, size=256)
    with gr1_groot(version) as server:
        policy = remote(GR1, server)
        chunks = policy.act([seen, observation(GR1, step=8, index=1, size=256)])
    assert len(chunks) == 2 and all(np.array_equal(chunk, GR1_ACTIONS) for chunk in chunks)
    endpoints = [request["endpoint"] for request in server.requests]
    request = server.requests[-1]["data"]
    if version == "n16":
        assert endpoints[-2:] == ["reset", "get_action"] and server.requests[-2]["data"] == {"options": None}
        assert request["options"] is None
        request = request["observation"]
    video = "video.ego_view" if version == "n15" else "video.ego_view_bg_crop_pad_res256_freq20"
    assert request[video].dtype == np.uint8 and request[video].shape == (2, 1, 256, 256, 3)
    assert request["annotation.human.coarse_action"] == 2 * [seen.instruction]
    for group, size in GR1.state.items():
        assert request[f"state.{group}"].dtype == np.float32 and request[f"state.{group}"].shape == (2, 1, size)
        assert np.array_equal(request[f"state.{group}"][0, 0], seen.state[group].astype(np.float32))


def test_groot_libero_state_and_gripper():
    """x, y, z, roll, pitch, yaw and two fingers; 0 closed / 1 open becomes +1 / -1."""
    with libero_groot("n16") as server:
        seen = observation(LIBERO, size=256)
        chunk = remote(LIBERO, server).act([seen])[0]
    request = server.requests[-1]["data"]["observation"]
    assert request["state.x"][0, 0, 0] == np.float32(seen.state["eef_pos"][0])
    assert np.array_equal(request["state.gripper"][0, 0], seen.state["gripper_qpos"].astype(np.float32))
    assert request["annotation.human.action.task_description"] == [seen.instruction]
    opened = np.concatenate([LIBERO_ACTIONS, LIBERO_ACTIONS])[:16, 6] > 0.5
    assert np.array_equal(chunk[:, 6], np.where(opened, -1.0, 1.0))


def test_groot_http_lists():
    """Some N1.5 HTTP servers answer in nested lists."""
    with fakes.FakeGrootHttp(groups(GR1_ACTIONS, GR1.action.groups), lists=True) as server:
        chunk = remote(GR1, server).act([observation(GR1, size=256)])[0]
    np.testing.assert_allclose(chunk, GR1_ACTIONS, atol=1e-6)
    assert server.requests[0]["observation"]["video.ego_view"].shape == (1, 1, 256, 256, 3)


def test_vla_eval_message():
    """What the server wishes decides views and state; images are PNG; the gripper becomes a sign."""
    action = np.array([0.1, 0, 0, 0, 0, 0, -0.2], np.float32)
    wishes = {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True}
    with fakes.FakeVlaEval(action, observation_params=wishes) as server:
        policy = remote(LIBERO, server, protocol="vla_eval")
        seen = observation(LIBERO, size=256)
        chunk = policy.act([seen])[0]
        policy.act([observation(LIBERO, step=1)])
        policy.act([observation(LIBERO, index=1)])
    assert [request["type"] for request in server.requests[-7:]] == [
        "hello", "episode_start", "observation", "observation", "episode_end", "episode_start", "observation"][-7:]
    numbers = [request["seq"] for request in server.requests[-7:]]
    assert numbers == sorted(set(numbers))
    sent = server.requests[-5]["payload"]
    assert set(sent["images"]) == {"agentview", "wrist"} and sent["task_description"] == seen.instruction
    assert np.array_equal(imageio.imread(sent["images"]["agentview"]["data"]), seen.views["agentview"])
    assert np.array_equal(sent["states"], np.concatenate([seen.state[name] for name in LIBERO.state]))
    assert chunk.shape == (1, 7) and chunk[0, 6] == -1.0 and policy.spec.views == ("agentview", "wrist")
    with fakes.FakeVlaEval(action) as server:
        policy = remote(LIBERO, server, protocol="vla_eval")
        policy.act([observation(LIBERO)])
    assert policy.spec.views == ("agentview",) and "states" not in server.requests[-1]["payload"]


def test_shortest_rotation():
    """The axis turns round when the angle is over pi."""
    assert np.array_equal(shortest(np.array([0.0, 3.0, 0.0])), [0.0, 3.0, 0.0])
    np.testing.assert_allclose(shortest(np.array([0.0, 4.0, 0.0])), [0.0, 4.0 - 2 * np.pi, 0.0])
    assert np.array_equal(shortest(np.zeros(3)), np.zeros(3))


# --- refused before the run ------------------------------------------------------------------------------------------


def refused(policy, suite):
    """The InputError of `check_plan`."""
    with pytest.raises(InputError) as error:
        policy.check_plan([episode(suite)])
    return str(error.value)


@pytest.mark.parametrize(("options", "text"), [
    ({"url": ""}, "url"), ({"url": "localhost:8000"}, "ws://"), ({"url": "tcp://a:1", "protocol": "openpi"}, "ws://"),
    ({"url": "ws://me:secret@a:1"}, "EVALKIT_API_KEY"), ({"protocol": "opnpi"}, "Did you mean 'openpi'"),
    ({"executed_steps": -1}, "executed_steps"), ({"timeout": 0}, "timeout"), ({"chunk_length": 1.5}, "chunk_length"),
    ({"protocol": "dit4dit"}, "checkpoint="), ({"protocol": "openpi", "unnorm_key": "x"}, "unnorm_key"),
    ({"protocol": "starvla", "views": "front"}, "agentview"), ({"protocol": "starvla", "send_state": True}, "state"),
    ({"protocol": "dit4dit", "checkpoint": "/nowhere"}, "config.yaml"), ({"views": ["a"]}, "views"),
    ({"api_key_variable": "NO_SUCH_VARIABLE"}, "never the key")])
def test_wrong_options(options, text):
    """Named, with what is allowed, without a connection."""
    with pytest.raises(InputError, match=text):
        Remote(LIBERO, **{"url": "ws://127.0.0.1:1", **options})


@pytest.mark.parametrize(("protocol", "suite"), [
    ("openpi", GR1), ("vla_eval", GR1), ("groot_n16", TOY), ("dit4dit", TOY), ("starvla", TOY)])
def test_suites_without_a_form(protocol, suite):
    """A family that has no form for the suite is refused at once."""
    url = "tcp://127.0.0.1:1" if protocol.startswith("groot") else "ws://127.0.0.1:1"
    with pytest.raises(InputError, match="allowed"):
        Remote(suite, url, protocol)


def test_a_server_that_is_not_there(capsys):
    """Waited for, then named, with how to start one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"
    text = refused(Remote(LIBERO, url, "openpi", connect_timeout=1.0), LIBERO)
    assert url in text and "serve_policy.py" in text and "nobody answers" in text
    assert "waiting up to 1 s" in capsys.readouterr().err
    text = refused(Remote(GR1, url.replace("ws", "http"), connect_timeout=0.6), GR1)
    assert "nobody answers" in text and "--http-server" in text
    text = refused(Remote(GR1, url.replace("ws", "tcp"), "groot_n16", connect_timeout=0.3), GR1)
    assert "sent nothing for 0.3 s" in text and "run_gr00t_server" in text


def test_a_server_that_comes_late_is_waited_for():
    """A refused connection is tried again until connect_timeout."""
    with fakes.FakeOpenpi(LIBERO_ACTIONS) as first:
        port = first.port
    second = fakes.FakeOpenpi(LIBERO_ACTIONS)
    timer = threading.Timer(0.7, second.start, [port])
    timer.start()
    try:
        policy = Remote(LIBERO, f"ws://127.0.0.1:{port}", "openpi", **PATIENT)
        policy.check_plan([episode(LIBERO)])
    finally:
        timer.join()
        second.stop()


def test_another_family_than_told():
    """What the server is, is said."""
    with fakes.FakeStarVLA(LIBERO_ACTIONS) as server:
        assert "greets as a starvla server" in refused(remote(LIBERO, server, False, protocol="openpi"), LIBERO)


@pytest.mark.parametrize(("metadata", "options", "text"), [
    ({"action_chunk_size": 4}, {"executed_steps": 6}, "allowed: 1 to 4"),
    ({"action_chunk_size": 12}, {}, "expected (1, 12, 7)"),
    ({"action_keys": ["action.left_arm"]}, {}, "another embodiment"),
    ({"training_obs_image_size": [256]}, {}, "training_obs_image_size is [256]"),
    ({"available_unnorm_keys": ["a", "b"], "default_unnorm_key": None}, {}, "one of a, b"),
    ({}, {"unnorm_key": "z"}, "allowed as option unnorm_key: only"),
    ({"action_chunk_size": "8"}, {}, "action_chunk_size")])
def test_starvla_metadata_is_compared(metadata, options, text):
    """Chunk length, columns, image size and statistics, before the run."""
    with fakes.FakeStarVLA(LIBERO_ACTIONS, **metadata) as server:
        assert text in refused(remote(LIBERO, server, False, **options), LIBERO)


@pytest.mark.parametrize(("changes", "text"), [
    ({"action": {"groups": {"x": 1}, "meaning": "m"}}, "action groups"), ({"protocol": 9}, "protocol"),
    ({"spec": {"views": {"front": [9, 9, 3]}, "state": {"tail": 1}, "chunk_length": 4, "executed_steps": 2,
               "stateful": False}}, "state group tail of size 1; the suite has none"),
    ({"chunk_length": 1, "executed_steps": 2}, "allowed: 1 to 1"), ({"chunk_length": 3}, "expected (up to 3, 2)")])
def test_evalkit_metadata_is_compared(changes, text):
    """Everything that does not match the suite is named."""
    with evalkit_server(TOY, **changes) as server:
        assert text in refused(remote(TOY, server, False), TOY)


def test_starvla_on_gr1_has_one_image_size():
    """Another size of training than the one that is sent is refused."""
    with fakes.FakeStarVLA(GR1_ACTIONS, training_obs_image_size=[256, 256]) as server:
        assert "(256, 256)" in refused(remote(GR1, server, False), GR1)


def test_groot_modalities_are_compared():
    """A server for another robot is refused by its keys; a chunk that is too short by its length."""
    with libero_groot("n15") as server:
        assert "another embodiment" in refused(remote(GR1, server, False), GR1)
    short = fakes.FakeGroot("n16", groups(GR1_ACTIONS[:4], GR1.action.groups), ["ego_view_bg_crop_pad_res256_freq20"],
                            list(GR1.state), horizon=4)
    with short as server:
        assert "allowed: 1 to 4" in refused(remote(GR1, server, False), GR1)


def test_dit4dit_chunk_and_checkpoint_are_compared(run_folder):
    """The reply must have the config's sizes; the config must be the suite's embodiment."""
    with fakes.FakeDit4Dit(length=8) as server:
        assert "expected (1, 16, 32)" in refused(remote(GR1, server, False, checkpoint=run_folder), GR1)
        with pytest.raises(InputError, match="made for"):
            Remote(LIBERO, server.url, "dit4dit", checkpoint=run_folder)


@pytest.mark.parametrize(("hello", "text"), [
    ({"observation_params": {"absolute_action": True}}, "absolute"),
    ({"action_spec": {"gripper": {"name": "gripper", "dims": 1, "format": "binary_close_negative"}}},
     "binary_close_negative")])
def test_vla_eval_meanings_are_compared(hello, text):
    """Upstream logs a mismatch; here it is refused."""
    with fakes.FakeVlaEval(LIBERO_ACTIONS[0], **hello) as server:
        assert text in refused(remote(LIBERO, server, False, protocol="vla_eval"), LIBERO)


def test_vla_eval_chunks_need_a_number():
    """A server that returns chunks does not say how many of them to execute."""
    with fakes.FakeVlaEval(LIBERO_ACTIONS) as server:
        assert "returns 10 actions" in refused(remote(LIBERO, server, False, protocol="vla_eval"), LIBERO)
        policy = remote(LIBERO, server, False, protocol="vla_eval", executed_steps=5)
        policy.check_plan([episode(LIBERO)])
        assert policy.spec.executed_steps == 5


# --- faults in a run -------------------------------------------------------------------------------------------------


def bad_openpi(actions):
    return lambda _: fakes.bytes_keys({"actions": actions})


FAULTS = {
    "NaN": (bad_openpi(np.full((10, 7), np.nan, np.float32)), "NaN or infinity in 70 of 70"),
    "infinity": (bad_openpi(np.full((10, 7), np.inf)), "NaN or infinity"),
    "another length": (bad_openpi(np.zeros((9, 7), np.float32)), r"shape \(9, 7\), expected \(10, 7\)"),
    "another width": (bad_openpi(np.zeros((10, 8), np.float32)), r"shape \(10, 8\), expected \(10, 7\)"),
    "one axis": (bad_openpi(np.zeros(7, np.float32)), "shape"),
    "integers": (bad_openpi(np.zeros((10, 7), np.int64)), "type int64, expected floats"),
    "no actions": (lambda _: fakes.bytes_keys({"action": np.zeros((10, 7))}), "'actions' is missing"),
    "a list": (bad_openpi([[0.0] * 7] * 10), "'actions' is list, expected ndarray"),
    "not msgpack": (lambda _: b"\xc1garbage", "not a msgpack message"),
    "a text frame": (lambda _: "Traceback ...\nRuntimeError: CUDA out of memory", "CUDA out of memory"),
    "a lost connection": (lambda _: None, "lost the connection"),
    "a late answer": (lambda reply: fakes.Late(30, reply), "sent nothing for 0.5 s"),
    "a huge frame": (lambda _: bytes(wire.MAX_MESSAGE + 1), "lost the connection"),
    "an object array": (lambda _: fakes.bytes_keys({"actions": {b"__ndarray__": True, b"data": b"x" * 8,
                                                                b"dtype": "|O", b"shape": [1]}}), "do not travel"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_end_the_attempt_and_the_next_one_works(fault):
    """Each fault raises one line that says what it was; then a new connection serves the next attempt."""
    spoil, text = FAULTS[fault]
    with fakes.FakeOpenpi(LIBERO_ACTIONS) as server:
        policy = remote(LIBERO, server, timeout=0.5 if fault == "a late answer" else 20.0)
        policy.act([observation(LIBERO)])
        server.spoil[1] = spoil
        started = time.monotonic()
        with pytest.raises(RemoteError, match=text) as error:
            policy.act([observation(LIBERO, step=5)])
        assert time.monotonic() - started < 20 and "\n" not in str(error.value)
        before = server.connections
        assert np.array_equal(policy.act([observation(LIBERO)])[0], LIBERO_ACTIONS)
        assert server.connections == before + 1


def test_a_first_reply_that_is_too_short():
    """Where nothing says how long replies are, the number of executed steps does."""
    with fakes.FakeOpenpi(LIBERO_ACTIONS[:4]) as server:
        assert "sent 4 actions, 5 are to be executed" in refused(remote(LIBERO, server, False), LIBERO)
        policy = remote(LIBERO, server, chunk_length=5)
        with pytest.raises(RemoteError, match=r"shape \(4, 7\), expected \(5, 7\)"):
            policy.act([observation(LIBERO)])


def test_str_keyed_arrays_are_understood():
    """vla-eval's form from an openpi server: both kinds of keys are read."""
    with fakes.FakeOpenpi(LIBERO_ACTIONS) as server:
        server.spoil[0] = lambda _: fakes.str_keys({"actions": LIBERO_ACTIONS})
        assert np.array_equal(remote(LIBERO, server).act([observation(LIBERO)])[0], LIBERO_ACTIONS)


def test_a_server_that_dies_and_returns():
    """The running attempt fails; once the server is back, the next one connects by itself."""
    first = fakes.FakeOpenpi(LIBERO_ACTIONS)
    first.start()
    policy = remote(LIBERO, first)
    policy.act([observation(LIBERO)])
    first.stop()
    with pytest.raises(RemoteError, match="lost the connection"):
        policy.act([observation(LIBERO, step=5)])
    second = fakes.FakeOpenpi(LIBERO_ACTIONS)
    timer = threading.Timer(0.5, second.start, [first.port])
    timer.start()
    try:
        assert np.array_equal(policy.act([observation(LIBERO)])[0], LIBERO_ACTIONS)
    finally:
        timer.join()
        second.stop()


def test_another_server_at_the_same_address():
    """A restart with another checkpoint in the middle of a run is noticed."""
    with fakes.FakeStarVLA(LIBERO_ACTIONS) as server:
        policy = remote(LIBERO, server)
        policy.act([observation(LIBERO)])
        other = fakes.FakeStarVLA(LIBERO_ACTIONS, ckpt_path="other.pt")
        server.greeting = other.greeting
        server.spoil[1] = lambda _: None
        with pytest.raises(RemoteError, match="lost"):
            policy.act([observation(LIBERO)])
        with pytest.raises(RemoteError, match=r"not the one this run began with.*ckpt_path"):
            policy.act([observation(LIBERO)])


def test_a_rollout_that_fails_is_repeated_as_if_nothing_had_happened():
    """A server lost in the middle ends the attempt with its cause; the next attempt is as if it never had."""
    with evalkit_server(TOY, stateful=True) as server:
        policy = remote(TOY, server)
        env = load_object(TOY.env)(TOY, 2, EnvOptions(policy.spec.views, TOY.seed_policies[0]))
        planned = Episode("toy", 2, 0, 7, 12)
        undisturbed = run_episode(env, policy, planned)
        server.spoil[len(server.requests) + 2] = lambda _: None
        with pytest.raises(RemoteError, match="lost the connection"):
            run_episode(env, policy, planned)
        again = run_episode(env, policy, planned)
        env.close()
    assert (again.final_sha, again.steps, again.policy_calls) == (undisturbed.final_sha, 12, 6)


def test_in_band_errors_of_dit4dit_and_starvla(run_folder):
    """`ok` is checked, and the model's message is passed on."""
    reply = bytes.fromhex(
        "85a6737461747573a56572726f72a26f6bc2a474797065a7756e6b6e6f776eaa726571756573745f6964a764656661756c74a56572726f72"
        "81a76d657373616765d920556e737570706f72746564206d65737361676520747970652027726573657427")
    with fakes.FakeDit4Dit() as server:
        server.spoil[0] = lambda _: reply
        with pytest.raises(RemoteError, match="Unsupported message type 'reset'"):
            remote(GR1, server, checkpoint=run_folder).act([observation(GR1)])


def test_dit4dit_nan_is_not_clipped_away(run_folder):
    """NaN in the model's own numbers, padding included, is an error."""
    with fakes.FakeDit4Dit(value=np.nan) as server, pytest.raises(RemoteError, match="NaN"):
        remote(GR1, server, checkpoint=run_folder).act([observation(GR1)])


def test_evalkit_answers_to_another_request():
    """A reply with another id is an answer to another observation; an error reply is passed on."""
    with evalkit_server(TOY) as server:
        policy = remote(TOY, server)
        seen = fake_observation(TOY, episode(TOY))
        policy.act([seen])
        server.spoil[1] = lambda _: fakes.bytes_keys({"id": 1, "actions": np.zeros((4, TOY.action.size), "f4")})
        with pytest.raises(RemoteError, match="reply to request 1, expected 2"):
            policy.act([seen])
        server.spoil[2] = lambda _: fakes.bytes_keys({"id": 1, "error": {"type": "KeyError", "message": "front"}})
        with pytest.raises(RemoteError, match="KeyError: front"):
            policy.act([seen])


def test_stateful_servers_are_not_asked_in_mid_episode():
    """After a lost connection the server has forgotten the episode: only its first step may begin again."""
    with evalkit_server(TOY, stateful=True) as server:
        policy = remote(TOY, server)
        seen = fake_observation(TOY, episode(TOY))
        policy.act([seen])
        server.spoil[1] = lambda _: None
        with pytest.raises(RemoteError, match="lost the connection"):
            policy.act([fake_observation(TOY, episode(TOY), 2)])
        with pytest.raises(RemoteError, match="has lost the state of toy/00/000 before step 2"):
            policy.act([fake_observation(TOY, episode(TOY), 2)])
        policy.act([seen])


def test_vla_eval_sequence_numbers():
    """A stale action, an answer of another kind and a failed episode start are errors, never actions."""
    stale = fakes.str_keys({"type": "action", "payload": {"actions": LIBERO_ACTIONS[0]}, "seq": 0, "timestamp": 0.0})
    error = bytes.fromhex(
        "84a474797065a56572726f72a77061796c6f616481a56572726f72d9216f62736572766174696f6e5f6661696c65643a2056616c75654572"
        "726f723a2078a373657101a974696d657374616d70cb0000000000000000")
    with fakes.FakeVlaEval(LIBERO_ACTIONS[0]) as server:
        policy = remote(LIBERO, server, protocol="vla_eval")  # request 0: hello, 1: episode_start
        server.spoil[2] = lambda _: stale
        with pytest.raises(RemoteError, match="belongs to another observation"):
            policy.act([observation(LIBERO)])
        server.spoil[5] = lambda _: error
        with pytest.raises(RemoteError, match="observation_failed: ValueError: x"):
            policy.act([observation(LIBERO)])
        server.start_error = "episode_start_failed: KeyError: suite"
        with pytest.raises(RemoteError, match="episode_start_failed"):
            policy.act([observation(LIBERO)])
        server.start_error = None
        policy.act([observation(LIBERO)])
        with pytest.raises(RemoteError, match="lost the state"):
            policy.act([observation(LIBERO, step=3, index=1)])


@pytest.mark.parametrize(("spoil", "text"), [
    (lambda _: fakes.npy({"error": "Unauthorized: Invalid API token"}), "Unauthorized"),
    (lambda _: b"ERROR", "answered ERROR"), (lambda reply: fakes.Late(2.0, reply), "sent nothing for 1 s"),
    (lambda _: fakes.npy({"action.waist": np.zeros((1, 16, 3), "f4")}), "left_arm' is missing"),
    (lambda _: fakes.npy({f"action.{key}": np.zeros((2, 16, size), "f4") for key, size in GR1.action.groups.items()}),
     r"\(1, T, 7\)"),
    (lambda _: b"\xc0", "expected a map")])
def test_groot_faults(spoil, text):
    """Errors in band, the legacy ERROR, a missed reply (a REQ socket is dead after it), wrong groups."""
    with gr1_groot("n15") as server:
        policy = remote(GR1, server, first_timeout=1.0, protocol="groot_n15")
        server.spoil[len(server.requests)] = spoil
        with pytest.raises(RemoteError, match=text):
            policy.act([observation(GR1)])
        assert np.array_equal(policy.act([observation(GR1)])[0], GR1_ACTIONS)


def test_http_faults():
    """Any status but 200, and a late answer."""
    with fakes.FakeGrootHttp(groups(GR1_ACTIONS, GR1.action.groups)) as server:
        policy = remote(GR1, server, first_timeout=1.0)
        server.status = 500
        with pytest.raises(RemoteError, match=r"HTTP 500.*boom"):
            policy.act([observation(GR1)])
        server.status, server.delay = 200, 2.0
        with pytest.raises(RemoteError, match="sent nothing for 1 s"):
            policy.act([observation(GR1)])
        server.delay = 0.0
        policy.act([observation(GR1)])


def test_the_first_reply_may_take_longer():
    """first_timeout for the first of a connection, timeout for the others."""
    with fakes.FakeOpenpi(LIBERO_ACTIONS) as server:
        policy = remote(LIBERO, server, timeout=0.5)
        server.spoil[0] = lambda reply: fakes.Late(0.8, reply)
        policy.act([observation(LIBERO)])
        server.spoil[1] = lambda reply: fakes.Late(0.8, reply)
        with pytest.raises(RemoteError, match=r"sent nothing for 0\.5 s"):
            policy.act([observation(LIBERO)])


def greet_and_never_read(listener, peers):
    """One websocket handshake and openpi's greeting, by hand; then the peer reads nothing more."""
    peer, _ = listener.accept()
    peers.append(peer)
    protocol = ServerProtocol()
    protocol.receive_data(peer.recv(1 << 16))
    protocol.send_response(protocol.accept(protocol.events_received()[0]))
    protocol.send_binary(fakes.OPENPI_METADATA)
    for data in protocol.data_to_send():
        peer.sendall(data)


def test_a_server_that_takes_no_data():
    """Sending is bounded too: a peer that never reads fills the buffers."""
    peers: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet_and_never_read, args=(listener, peers))
        thread.start()
        address = Address(f"ws://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=5.0)
        connection = Websocket(address)
        thread.join()
        assert connection.receive(5.0) == fakes.OPENPI_METADATA
        started = time.monotonic()
        with pytest.raises(RemoteError, match="took no data for"):
            connection.send(bytes(60 << 20), 0.3)
        connection.close()
        assert time.monotonic() - started < 10
        peers[0].close()


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_key_travels_and_is_not_recorded(monkeypatch):
    """From the environment into the header or the message, never into what is written down."""
    monkeypatch.setenv("EVALKIT_API_KEY", "s3cret")
    with fakes.FakeOpenpi(LIBERO_ACTIONS) as server:
        policy = remote(LIBERO, server)
        assert server.headers["Authorization"] == "Api-Key s3cret"
        assert "s3cret" not in json.dumps(policy.describe()) and "s3cret" not in repr(policy._options)
    with gr1_groot("n15") as server:
        remote(GR1, server)
        assert all(request["api_token"] == "s3cret" for request in server.requests)
    monkeypatch.setenv("MY_KEY", "other")
    with fakes.FakeOpenpi(LIBERO_ACTIONS) as server:
        remote(LIBERO, server, api_key_variable="MY_KEY")
        assert server.headers["Authorization"] == "Api-Key other"


def test_no_proxy_is_used(monkeypatch):
    """A loopback server is reached although the environment names a proxy, which stays named."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with fakes.FakeOpenpi(LIBERO_ACTIONS) as server:
        remote(LIBERO, server).act([observation(LIBERO)])
    with fakes.FakeGrootHttp(groups(GR1_ACTIONS, GR1.action.groups)) as server:
        remote(GR1, server).act([observation(GR1)])
