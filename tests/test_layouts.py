"""Embodiments of the released checkpoints, and what the native policies' constructors refuse: no torch needed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import yaml

from baselines.common.layouts import GR1, LAYOUTS, LIBERO, Statistics, action_statistics, layout_for, read_statistics
from baselines.common.parity import Report
from baselines.dit4dit.folders import BASE_FILES
from evalkit.errors import InputError
from evalkit.registry import load_suite, make_policy, suite_names
from evalkit.specs import check_policy_fits

CONFIG = {
    "datasets": {"vla_data": {"video_delta_indices": list(range(17)), "action_video_freq_ratio": 2}},
    "framework": {
        "name": "DiT4DiT",
        "cosmos25": {"base_model": "/no/such/folder", "extract_layer": 17, "training": "joint", "vl_hidden_dim": 2048,
                     "conditional_frame_timestep": 0.0001},
        "action_model": {
            "action_model_type": "DiT-B", "hidden_size": 2560, "add_pos_embed": True, "max_seq_len": 1024,
            "action_dim": 32, "state_dim": 64, "action_horizon": 16, "future_action_window_size": 15,
            "num_inference_timesteps": 4, "num_timestep_buckets": 1000,
            "diffusion_model_cfg": {"cross_attention_dim": 2048, "num_layers": 16, "norm_type": "ada_norm",
                                    "interleave_self_attention": True, "positional_embeddings": None}}},
}


@pytest.fixture
def write(tmp_path):
    """write(changes, statistics, base): options of a policy on a folder in the released layout, without weights.

    changes: dotted keys of config.yaml to new values, None to leave one out. statistics: the file's content, None to
    leave it out. base: whether the base folder is complete.
    """
    def build(changes=(), statistics=None, base=True):
        config = json.loads(json.dumps(CONFIG))
        for key, value in dict(changes).items():
            *parts, last = key.split(".")
            node = config
            for part in parts:
                node = node[part]
            node.pop(last) if value is None else node.update({last: value})
        run, folder = tmp_path / "run", tmp_path / "base"
        (run / "final_model").mkdir(parents=True)
        (run / "final_model" / "pytorch_model.pt").write_bytes(b"")
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        if statistics is not None:
            (run / "dataset_statistics.json").write_text(json.dumps(statistics))
        for name in BASE_FILES[0 if base else 1:]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")
        return {"checkpoint": str(run), "base_model": str(folder)}
    return build


def gr1_statistics(size: int = 29) -> dict:
    """A statistics file for GR1."""
    return {"gr1": {"action": {"min": [-1.0] * size, "max": [1.0] * size, "mask": [True] * size}}}


def make(options, suite="robocasa_gr1", **further):
    """A light DiT4DiT."""
    return make_policy("dit4dit", load_suite(suite), {**options, **further})


def test_layouts_are_the_suites():
    """Views, state groups and actions are those that the suites declare."""
    for layout in LAYOUTS:
        for name in layout.suites:
            suite = load_suite(name)
            assert layout_for(suite, "any") is layout
            assert set(layout.views) <= set(suite.views)
            assert {group: suite.state[group] for group in layout.state} == layout.state
            assert layout.action_size == suite.action.size
            assert 1 <= layout.executed_steps <= suite.max_steps
    assert {name for layout in LAYOUTS for name in layout.suites} == set(suite_names()) - {"toy"}


def test_gr1_state_by_hand():
    """All sines of a group, then its cosines, group after group, then zeros."""
    state = {name: np.zeros(size) for name, size in GR1.state.items()}
    state["left_arm"][0], state["right_arm"][6], state["waist"][1] = math.pi / 2, math.pi / 6, -math.pi / 2
    encoded = GR1.encode_state(state, 64)
    assert encoded.shape == (64,) and encoded.dtype == np.float32
    np.testing.assert_allclose(encoded[0:14], [1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1], atol=1e-6)
    assert (encoded[14 + 6], encoded[14 + 13]) == pytest.approx((0.5, math.sqrt(3) / 2))
    np.testing.assert_allclose(encoded[52:58], [0, -1, 0, 1, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(encoded[58:], 0)


def test_libero_state_by_hand():
    """Sine and cosine of each number side by side."""
    state = {"eef_pos": np.array([math.pi / 2, 0, 0]), "eef_axis_angle": np.array([math.pi, 0, 0]),
             "gripper_qpos": np.array([0.0, -math.pi / 2])}
    expected = [1, 0, 0, 1, 0, 1, 0, -1, 0, 1, 0, 1, 0, 1, -1, 0]
    np.testing.assert_allclose(LIBERO.encode_state(state, 16), expected, atol=1e-6)


def test_libero_image_by_hand():
    """Both views in one image, the agent's on the left; views of the model's size are not resized."""
    views = {"wrist": np.full((224, 224, 3), 9, np.uint8), "agentview": np.full((224, 224, 3), 5, np.uint8)}
    image = LIBERO.image(views)
    assert image.shape == LIBERO.image_shape == (224, 448, 3)
    assert (image[:, :224] == 5).all() and (image[:, 224:] == 9).all()


def test_unnormalize_by_hand():
    """Cut to [-1, 1] first, then from there to [min, max]; a constant dimension is its constant; padding is dropped."""
    low, high = np.full(29, -2.0), np.full(29, 4.0)
    low[3] = high[3] = 0.7
    statistics = Statistics(low, high, np.ones(29, bool))
    chunk = np.zeros((2, 32))
    chunk[0, 0], chunk[0, 1], chunk[1, 2], chunk[0, 3] = 1.0, -3.0, 0.5, 0.9
    actions = GR1.unnormalize(chunk, statistics)
    assert actions.shape == (2, 29)
    np.testing.assert_allclose(actions[0, :5], [4.0, -2.0, 1.0, 0.7, 1.0])
    np.testing.assert_allclose(actions[1, 2], 2.5)
    np.testing.assert_allclose(GR1.unnormalize(chunk, statistics, clip=False)[0, 1], -8.0)
    assert GR1.to_suite(actions).dtype == np.float32


def test_libero_gripper_by_hand():
    """Below 0.5 is closed, +1 for the suite; from 0.5 on open, -1; its statistics are not used."""
    statistics = Statistics(np.full(7, -0.5), np.full(7, 0.5), np.array([True] * 6 + [False]))
    chunk = np.zeros((3, 8))
    chunk[:, 6] = [0.49, 0.5, 7.0]
    actions = LIBERO.unnormalize(chunk, statistics)
    np.testing.assert_array_equal(actions[:, 6], [0, 1, 1])
    np.testing.assert_array_equal(LIBERO.to_suite(actions)[:, 6], [1, -1, -1])
    np.testing.assert_array_equal(actions[:, :6], 0)


def test_statistics_are_checked(tmp_path):
    """A file that is missing, malformed or of another embodiment or length is named, with the next move."""
    path = tmp_path / "dataset_statistics.json"
    with pytest.raises(InputError, match="is missing: without it actions cannot be un-normalised"):
        read_statistics(path)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_statistics(path)
    with pytest.raises(InputError, match=r"has statistics for 'gr1'.*'franka'.\nThe checkpoint is made for gr1"):
        action_statistics(gr1_statistics(), LIBERO, path)
    with pytest.raises(InputError, match=r"shape \(28,\), expected \(29,\)"):
        action_statistics(gr1_statistics(28), GR1, path)
    with pytest.raises(InputError, match="lacks max"):
        action_statistics({"gr1": {"action": {"min": [0.0] * 29}}}, GR1, path)


def test_constructor_reads_the_release(write):
    """Spec of a GR1 checkpoint in the released layout: 12 of 16 executed, on this suite alone."""
    policy = make(write(statistics=gr1_statistics()))
    spec, suite = policy.spec, load_suite("robocasa_gr1")
    assert (spec.views, spec.chunk_length, spec.executed_steps) == (("ego_view",), 16, 12)
    assert spec.suites == ("robocasa_gr1",) and spec.action_meaning == suite.action.meaning and not spec.stateful
    check_policy_fits(spec, suite)
    assert policy.settings.latent_shape(224, 224) == (3, 28, 28) and policy.settings.heads == 12
    file = make({**policy_options(policy), "checkpoint": str(policy.weights)}, executed_steps=16)
    assert file.spec.executed_steps == 16 and file.folder == policy.folder


def policy_options(policy):
    """Options that lead to the same folders."""
    return {"checkpoint": str(policy.folder), "base_model": str(policy.base)}


@pytest.mark.parametrize(("changes", "said"), [
    ({"framework.cosmos25.extract_layer": None}, "lacks framework.cosmos25.extract_layer"),
    ({"datasets.vla_data.action_video_freq_ratio": None}, "lacks datasets.vla_data.action_video_freq_ratio"),
    ({"framework.cosmos25.training": "video"}, "training is 'video', allowed: 'joint'"),
    ({"framework.name": "QwenGR00T"}, "name is 'QwenGR00T', allowed: 'DiT4DiT'"),
    ({"framework.action_model.future_action_window_size": 7}, "future_action_window_size is 7; allowed: 15"),
    ({"framework.action_model.action_model_type": "DiT-X"}, "types of known size: DiT-B"),
    ({"framework.cosmos25.vl_hidden_dim": 4096}, "vl_hidden_dim is 4096, cross_attention_dim is 2048"),
    ({"datasets.vla_data.image_size": [256, 256]}, "image_size is .256, 256., allowed: .224, 224."),
    ({"framework.action_model.action_dim": 8}, "action_dim is 8, the suite's embodiment 'gr1' needs at least 29"),
    ({"framework.action_model.state_dim": 16}, "state_dim is 16, .* needs at least 58"),
    ({"framework.action_model.action_horizon": 8, "framework.action_model.future_action_window_size": 7},
     "would execute 12 steps of chunks of 8; allowed: 1 to 8"),
])
def test_constructor_refuses_configs(write, changes, said):
    """What config.yaml lacks or says otherwise is named before anything is loaded."""
    with pytest.raises(InputError, match=said):
        make(write(changes, gr1_statistics()))


def test_constructor_refuses_folders(write, tmp_path):
    """Missing files, another embodiment, another suite: named, with what to give instead."""
    with pytest.raises(InputError, match=r"needs --checkpoint: a folder with config\.yaml"):
        make({})
    with pytest.raises(InputError, match=r"pytorch_model\.pt does not exist"):
        make({"checkpoint": str(tmp_path)})
    options = write()
    with pytest.raises(InputError, match=r"dataset_statistics\.json is missing"):
        make(options)
    (tmp_path / "run" / "dataset_statistics.json").write_text(json.dumps(gr1_statistics()))
    with pytest.raises(InputError, match="made for gr1"):
        make(options, suite="libero_goal")
    with pytest.raises(InputError, match="no layout for suite 'toy'"):
        make(options, suite="toy")
    with pytest.raises(InputError, match=r"config\.yaml names '/no/such/folder', not found here"):
        make({**options, "base_model": ""})
    (tmp_path / "base" / "vae" / "config.json").unlink()
    with pytest.raises(InputError, match=r"base lacks vae/config\.json"):
        make(options)
    (tmp_path / "run" / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"config\.yaml is missing"):
        make(options)


@pytest.mark.parametrize(("further", "said"), [
    ({"dtype": "fp16"}, "unknown dtype .*'fp16'"), ({"executed_steps": 17}, "execute 17 steps .* 1 to 16"),
    ({"executed_steps": 0}, "executed_steps .* is 0"), ({"batch": -1}, "batch .* is -1"),
    ({"text_encoder": "gone"}, "unknown text_encoder"), ({"chekpoint": "x"}, "Did you mean 'checkpoint'"),
])
def test_constructor_refuses_options(write, further, said):
    """Options out of range are named with what is allowed."""
    with pytest.raises(InputError, match=said):
        make(write(statistics=gr1_statistics()), **further)


def test_synthetic_is_labelled_by_embodiment():
    """Random weights of the released sizes need no folder, and only the suite's own embodiment."""
    policy = make({"checkpoint": "synthetic:libero"}, suite="libero_10")
    assert (policy.spec.chunk_length, policy.spec.executed_steps, policy.settings.latent_frames) == (8, 8, 2)
    assert policy.statistics["franka"]["action"]["mask"] == [True] * 6 + [False]
    with pytest.raises(InputError, match="allowed: 'synthetic:gr1'"):
        make({"checkpoint": "synthetic:libero"})


def test_parity_report_by_hand(capsys):
    """The largest difference beside its tolerance; shapes, NaN and a second limit count; nothing compared is not ok."""
    report = Report()
    assert not report.passed
    report.compare("same", np.array([1, 2]), np.array([1, 2]), 0)
    report.compare("near", np.array([1.0, 2.0]), np.array([1.0, 2.5]), 0.5)
    assert report.passed and report.finish() == 0 and report.rows[1].error == 0.5
    report.compare("rms", np.array([3.0, 0.0]), np.array([0.0, 0.0]), 5, 2.0)
    assert report.rows[2].rms == pytest.approx(math.sqrt(4.5)) and not report.rows[2].passed
    report.compare("nan", np.array([np.nan]), np.array([0.0]), 1)
    report.compare("shape", np.zeros(2), np.zeros(3), 1)
    assert [row.passed for row in report.rows] == [True, True, False, False, False]
    assert report.finish() == 1 and "OVER  shape" in capsys.readouterr().out
