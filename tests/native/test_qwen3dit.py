"""The Qwen3DiT policy: equal to starVLA's own code, strict about its checkpoint, the same action in any batch."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from baselines.qwen3dit import Qwen3DiT, parity, synthetic
from baselines.qwen3dit.graph import Graphs
from baselines.qwen3dit.prompt import ImageProcessor
from baselines.qwen3dit.vlm import Vlm
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.paths import PROJECT
from evalkit.registry import load_suite
from evalkit.testing import check_policy, fake_observation

FIXTURE = PROJECT.parent / "shared" / "fixtures" / "starvla_gr00t"
WEIGHTS = "checkpoints/steps_20000_pytorch_model.pt"


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fixture() -> Path:
    if not FIXTURE.is_dir():
        pytest.skip("needs the recorded values in ../shared/fixtures/starvla_gr00t")
    return FIXTURE


@pytest.fixture
def run(fixture, tmp_path) -> Path:
    """A copy of the checkpoint's folder that a test may spoil."""
    shutil.copytree(fixture / "run", tmp_path / "run")
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        path.chmod(0o755)
    return tmp_path / "run"


def policy(folder: Path, suite: str = "robocasa_gr1", **options) -> Qwen3DiT:
    return Qwen3DiT(load_suite(suite), checkpoint=str(folder), base_vlm=str(FIXTURE / "Qwen3-VL-tiny"), **options)


def loaded(folder: Path, suite: str = "robocasa_gr1", **options) -> Qwen3DiT:
    made = policy(folder, suite, **options)
    made.load()
    return made


def observe(suite: str = "robocasa_gr1", step: int = 0, count: int = 3):
    """Observations of `count` episodes, each with an instruction of another length."""
    episodes = [Episode(suite, 0, index, 7, 720) for index in range(count)]
    return [replace(fake_observation(load_suite(suite), episode, step),
                    instruction="move it " * (1 + 12 * episode.index)) for episode in episodes]


def edit_config(run: Path, **changes) -> None:
    """Set keys of config.yaml by their path with ``__`` between; None removes one."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = config
        for key in parents:
            section = section[key]
        if value is None:
            del section[last]
        else:
            section[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def edit_weights(run: Path, change) -> None:
    """Let `change` alter the state dict in place."""
    tensors = torch.load(run / WEIGHTS, weights_only=True)
    change(tensors)
    torch.save(tensors, run / WEIGHTS)


def make_reconstruction(run: Path) -> None:
    """Turn the checkpoint into the paper's: DiT4DiT's head, which has no future tokens."""
    edit_config(run, framework__name="Qwen3DiT")
    edit_weights(run, lambda tensors: tensors.pop("action_model.future_tokens.weight"))


def make_libero(run: Path) -> None:
    """Give the checkpoint LIBERO's statistics and chunk of 8; it keeps its 29 columns, of which 7 are used."""
    action = {"min": [-0.5] * 6 + [0.0], "max": [0.5] * 6 + [1.0], "mask": [True] * 6 + [False]}
    (run / "dataset_statistics.json").write_text(json.dumps({"franka": {"action": action}}))
    edit_config(run, framework__action_model__action_horizon=8)


# Equal to upstream.

def test_parity(fixture, capsys):
    assert parity.main([str(fixture)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("38 quantities, 0 over tolerance")


def test_parity_reports_what_is_over(fixture, tmp_path, capsys):
    folder = tmp_path / "spoiled"
    shutil.copytree(fixture, folder)
    (folder / "noise.npz").chmod(0o644)
    folder.chmod(0o755)
    noise = np.load(fixture / "noise.npz")["action_noise"]
    np.savez(folder / "noise.npz", action_noise=noise + np.float32(1e-3))
    assert parity.main([str(folder)]) == 1
    over = [line for line in capsys.readouterr().out.splitlines() if line.startswith("OVER")]
    assert any("normalized_actions" in line for line in over)
    assert not any("vl_features" in line for line in over)


def test_parity_of_no_fixture_is_wrong_input(tmp_path, capsys):
    assert parity.main([str(tmp_path)]) == 2
    assert "no such file" in capsys.readouterr().err


# The contract.

@pytest.mark.parametrize("batch", [1, 4])
def test_contract(fixture, batch):
    check_policy(policy(fixture / "run", batch=batch), load_suite("robocasa_gr1"))


def test_actions_are_bit_identical_in_any_batch(fixture):
    one = loaded(fixture / "run")
    together = one.act(observe())
    for observation, expected in zip(observe(), together):
        assert np.array_equal(one.act([observation])[0], expected)


def test_a_filled_up_batch_gives_the_same_actions(fixture):
    one, four = loaded(fixture / "run"), loaded(fixture / "run", batch=4)
    for a, b in zip(one.act(observe()), four.act(observe())):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=0)


def test_every_pass_has_the_same_number_of_rows(fixture, monkeypatch):
    one = loaded(fixture / "run", batch=4)
    answer, rows = one.network.answer, []
    monkeypatch.setattr(one.network, "answer", lambda inputs, *rest: rows.append(len(inputs.noise)) or answer(
        inputs, *rest))
    observations = [replace(observation, instruction="close the drawer") for observation in observe(count=5)]
    together = one.act(observations)
    alone = [one.act([observation])[0] for observation in observations]
    assert rows == [4] * (2 + 5)
    assert all(np.array_equal(a, b) for a, b in zip(together, alone))


def test_the_instruction_matters(fixture):
    one = loaded(fixture / "run")
    observation = observe(count=1)[0]
    first, second = (one.act([replace(observation, instruction=text)])[0] for text in ("open it", "close it"))
    assert np.abs(first - second).max() > 1e-3


def test_noise_follows_from_the_query_seed(fixture):
    one = loaded(fixture / "run")
    first, again, = one.act(observe(count=1))[0], one.act([replace(observe(count=1)[0], seed=None)])[0]
    assert np.array_equal(first, again)
    observation = observe(count=1)[0]
    assert np.array_equal(one.act([replace(observation, seed=observation.query_seed)])[0], first)
    assert np.abs(one.act([replace(observation, seed=1)])[0] - first).max() > 1e-3


def test_both_attention_kernels_agree(fixture):
    sdpa, eager = (loaded(fixture / "run", attention=kernel, batch=4).act(observe()) for kernel in ("sdpa", "eager"))
    for a, b in zip(sdpa, eager):
        np.testing.assert_allclose(a, b, atol=2e-5, rtol=0)


def test_a_graph_is_captured_once_a_length_and_reads_the_new_inputs(fixture, monkeypatch):
    """The book-keeping round a CUDA graph, with a replay that computes on the CPU."""
    plain, graphed = loaded(fixture / "run", batch=2), loaded(fixture / "run", batch=2)
    graphs = Graphs(graphed.network.answer)

    class Replays:
        def replay(self):
            captured, = (one for one in graphs._captured.values() if one.graph is self)
            captured.chunk.copy_(graphed.network.answer(captured.inputs))

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in (("CUDAGraph", Replays), ("graph", nullcontext), ("stream", nullcontext),
                        ("Stream", lambda: stream), ("current_stream", lambda: stream)):
        monkeypatch.setattr(torch.cuda, name, value)
    graphed.network.graphs = graphs
    for step in (0, 12, 24):
        for a, b in zip(plain.act(observe(step=step)), graphed.act(observe(step=step))):
            assert np.array_equal(a, b)
    assert len(graphs._captured) == len({length for _, length in plain.network._groups(
        [plain.example(observation) for observation in observe()], 2)}) == 3


def test_stages_are_marked_and_do_not_overlap(fixture):
    one = loaded(fixture / "run")
    open_stages, seen = [], []

    class Mark:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            assert not open_stages, f"{self.name} inside {open_stages}"
            open_stages.append(self.name)
            seen.append(self.name)

        def __exit__(self, *_):
            open_stages.pop()

    one.stage = Mark
    one.act(observe(count=1))
    assert seen == ["host", "host", "vlm", "head"]


def test_description(fixture):
    said = loaded(fixture / "run").describe()
    assert "not the paper's Qwen3DiT" in said["note"]
    assert said["checkpoint"]["sha256"] == json.loads((fixture.parent / "MANIFEST.json").read_text())[
        f"starvla_gr00t/run/{WEIGHTS}"]["sha256"]
    assert (said["parameters"], said["device"], said["dtype"]) == (492349, "cpu", "float32 VLM, float32 head")
    assert said["head"]["noise_at"] == 0 and said["head"]["future_tokens"] == 32
    json.dumps(said)


# State.

def test_without_state_none_is_asked_for(run):
    with_state, without = loaded(run), loaded(run, include_state=False)
    assert with_state.spec.state == ("left_arm", "right_arm", "left_hand", "right_hand", "waist")
    assert without.spec.state == ()
    stateless = replace(observe(count=1)[0], state={})
    a, b = without.act([stateless])[0], with_state.act(observe(count=1))[0]
    assert np.abs(a - b).max() > 1e-3


def test_the_configuration_says_whether_state_is_used(run):
    edit_config(run, datasets__vla_data__include_state=False)
    assert policy(run).spec.state == ()
    assert policy(run, include_state=True).spec.state != ()
    edit_config(run, datasets__vla_data__include_state=None)
    assert policy(run).spec.state != ()


def test_state_that_the_checkpoint_cannot_take(run):
    def drop(tensors):
        for name in [name for name in tensors if ".state_encoder." in name]:
            del tensors[name]
    edit_weights(run, drop)
    with pytest.raises(InputError, match="state encoder takes no numbers"):
        loaded(run)
    assert loaded(run, include_state=False).act(observe(count=1))[0].shape == (16, 29)
    edit_config(run, framework__action_model__state_dim=20)
    with pytest.raises(InputError, match="20 numbers"):
        policy(run)


# Heads.

def test_the_reconstruction_has_noise_at_time_one(run):
    make_reconstruction(run)
    one = loaded(run)
    assert one.describe()["note"].startswith("reconstruction")
    assert one.describe()["head"] == {"noise_at": 1, "future_tokens": 0, "width": 64, "layers": 4, "steps": 4}
    trace = {}
    one.network.sample([one.example(observe(count=1)[0])], trace=trace)
    assert trace["t_steps"].tolist() == [1000, 750, 500, 250]
    torch.testing.assert_close(trace["x_steps"][1], trace["x_steps"][0] - trace["v_steps"][0] / 4)


def test_name_and_tensors_must_agree_on_the_head(run):
    edit_weights(run, lambda tensors: tensors.pop("action_model.future_tokens.weight"))
    with pytest.raises(InputError, match="head=starvla"):
        loaded(run)
    assert loaded(run, head="starvla").describe()["head"]["noise_at"] == 0
    assert loaded(run, head="reconstruction").describe()["head"]["noise_at"] == 1


def test_sizes_come_from_the_tensors_not_from_the_configuration(fixture, run):
    edit_config(run, framework__action_model__hidden_size=1024, framework__action_model__max_seq_len=1024)
    assert np.array_equal(loaded(run).act(observe(count=1))[0], loaded(fixture / "run").act(observe(count=1))[0])


def test_features_after_the_final_norm_are_another_policy(fixture):
    before, after = (loaded(fixture / "run", final_norm=norm).act(observe(count=1))[0] for norm in (False, True))
    assert np.abs(before - after).max() > 1e-2


# LIBERO.

def test_libero_sends_two_views_in_order_and_no_state(run):
    make_libero(run)
    one = loaded(run, "libero_goal")
    assert (one.spec.views, one.spec.state) == (("agentview", "wrist"), ())
    assert (one.spec.chunk_length, one.spec.executed_steps) == (8, 8)
    observation = observe("libero_goal", count=1)[0]
    views = {"wrist": np.full((256, 256, 3), 200, np.uint8), "agentview": np.full((256, 256, 3), 10, np.uint8)}
    example = one.example(replace(observation, views=views))
    assert [int(image.max()) for image in example.images] == [10, 200]
    assert [image.shape for image in example.images] == [(224, 224, 3)] * 2


def test_libero_contract_and_gripper(run):
    make_libero(run)
    one = policy(run, "libero_goal")
    check_policy(one, load_suite("libero_goal"))
    chunk = np.zeros((8, 29), np.float32)
    chunk[:, 6] = [-3.0, 0.0, 0.49, 0.51, 1.0, 7.0, 0.2, 0.9]
    chunk[:, 0] = [-1, 1, 3, 0, 0, 0, 0, 0]
    actions = one.actions(chunk)
    assert actions[:, 6].tolist() == [1, 1, 1, -1, -1, -1, 1, -1]  # 1 in the data is open, -1 to robosuite
    assert actions[:3, 0].tolist() == [-0.5, 0.5, 1.5]  # not clipped to [-1, 1] first


# What a light constructor refuses, before anything is loaded.

@pytest.mark.parametrize(("spoil", "message"), [
    (lambda run: (run / "config.yaml").unlink(), "config.yaml is missing"),
    (lambda run: (run / "config.yaml").write_text("a: [1"), "cannot be read as YAML"),
    (lambda run: (run / "dataset_statistics.json").unlink(), "un-normalised"),
    (make_libero, "made for libero"),
    (lambda run: edit_config(run, framework__name="QwenOFT"), "QwenGR00T, Qwen3DiT"),
    (lambda run: edit_config(run, framework__action_model__num_inference_timesteps=None), "num_inference_timesteps"),
    (lambda run: edit_config(run, framework__action_model__future_action_window_size=7), r"\[8, 16\] chunk lengths"),
    (lambda run: edit_config(run, framework__action_model__add_pos_embed=False), "add_pos_embed"),
    (lambda run: edit_config(run, framework__action_model__diffusion_model_cfg__norm_type="layer_norm"), "norm_type"),
    (lambda run: shutil.copy(run / WEIGHTS, run / "checkpoints/steps_9_pytorch_model.pt"), "holds 2 checkpoints"),
    (lambda run: (run / WEIGHTS).unlink(), "no such file"),
])
def test_a_spoiled_checkpoint_folder(run, spoil, message):
    spoil(run)
    with pytest.raises(InputError, match=message):
        policy(run)


def test_wrong_options(fixture, run):
    with pytest.raises(InputError, match="needs a checkpoint"):
        Qwen3DiT(load_suite("robocasa_gr1"))
    with pytest.raises(InputError, match="no layout for suite 'toy'"):
        policy(run, "toy")
    with pytest.raises(InputError, match="names '/not/a/real/path"):
        Qwen3DiT(load_suite("robocasa_gr1"), checkpoint=str(run))
    with pytest.raises(InputError, match="weights are not needed"):
        Qwen3DiT(load_suite("robocasa_gr1"), checkpoint=str(run), base_vlm=str(run))
    for options in ({"head": "x"}, {"dtype": "fp16"}, {"attention": "flash"}, {"include_state": "maybe"},
                    {"batch": -1}, {"executed_steps": "12"}):
        with pytest.raises(InputError, match=f"option {next(iter(options))}"):
            policy(run, **options)
    with pytest.raises(InputError, match="this machine has cpu"):
        loaded(run, device="cuda:77")
    with pytest.raises(InputError, match="'synthetic:gr1'"):
        Qwen3DiT(load_suite("robocasa_gr1"), checkpoint="synthetic:libero")


def test_another_vlm_is_refused(run, fixture, tmp_path):
    shutil.copytree(fixture / "Qwen3-VL-tiny", tmp_path / "vlm")
    (tmp_path / "vlm").chmod(0o755)
    config = json.loads((tmp_path / "vlm/config.json").read_text())
    (tmp_path / "vlm/config.json").unlink()
    (tmp_path / "vlm/config.json").write_text(json.dumps({**config, "model_type": "qwen2_5_vl"}))
    with pytest.raises(InputError, match="'qwen2_5_vl'; supported"):
        Qwen3DiT(load_suite("robocasa_gr1"), checkpoint=str(run), base_vlm=str(tmp_path / "vlm"))


def test_the_weights_alone_name_their_folder(fixture):
    assert policy(fixture / "run" / WEIGHTS).spec == policy(fixture / "run").spec


# What strict loading refuses.

@pytest.mark.parametrize(("spoil", "message"), [
    (lambda tensors: tensors.pop("action_model.state_encoder.layer2.bias"), "missing .*state_encoder.layer2.bias"),
    (lambda tensors: tensors.pop("qwen_vl_interface.model.model.language_model.norm.weight"), "missing .*norm.weight"),
    (lambda tensors: tensors.update({"action_model.extra": torch.zeros(1)}), "unexpected .*extra"),
    (lambda tensors: tensors.update({"backbone.weight": torch.zeros(1)}), "unexpected .*backbone.weight"),
    (lambda tensors: tensors.update({"qwen_vl_interface.model.model.visual.pos_embed.weight": torch.zeros(144, 31)}),
     "of another shape"),
])
def test_spoiled_weights(run, spoil, message):
    edit_weights(run, spoil)
    with pytest.raises(InputError, match=message):
        loaded(run)


def test_the_tied_language_head_may_be_absent(run, fixture):
    edit_weights(run, lambda tensors: tensors.pop("qwen_vl_interface.model.lm_head.weight"))
    assert np.array_equal(loaded(run).act(observe(count=1))[0], loaded(fixture / "run").act(observe(count=1))[0])


# Pictures.

@pytest.mark.parametrize(("given", "resized"), [
    ((224, 224), (256, 256)), ((256, 256), (256, 256)), ((480, 640), (480, 640)), ((100, 300), (160, 448))])
def test_pictures_are_enlarged_to_the_minimum_of_pixels(given, resized):
    assert ImageProcessor().size(*given) == resized


def test_patches_of_a_token_lie_together():
    """A 4 x 4 picture of patches of one pixel, merged two by two: the upper left square comes first."""
    processor = ImageProcessor(min_pixels=1, patch=1, temporal_patch=2, merge=2, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    picture = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2) + np.array([0, 100, 200], np.uint8)
    patches = processor.patches(processor.resize([picture]))
    assert patches.shape == (16, 6)
    assert patches[:, 0].round().int().tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert patches[0].round().int().tolist() == [0, 0, 100, 100, 200, 200]  # channel by channel, twice along time


# Attention.

def test_padding_sees_itself_and_is_seen_by_nothing_else(fixture):
    """A row that sees nothing is NaN in some kernels, and NaN times a weight of zero is NaN."""
    valid = torch.tensor([[False, True, True]])
    seen = loaded(fixture / "run").network.vlm.attention_mask(valid, torch.float32)
    assert seen[0, 0].int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    added = loaded(fixture / "run", attention="eager").network.vlm.attention_mask(valid, torch.bfloat16)
    assert added.dtype == torch.bfloat16 and torch.equal(added == 0, seen)


# Random weights for latency.

def test_synthetic_sizes_are_the_papers():
    from transformers import Qwen3VLConfig

    vlm = Vlm.on_meta(Qwen3VLConfig(**synthetic.QWEN3_VL_2B))
    assert sum(parameter.numel() for parameter in vlm.parameters()) == 2_127_532_032


@pytest.mark.parametrize("head", ["auto", "starvla"])
def test_synthetic_weights_act(monkeypatch, head):
    small = {**synthetic.QWEN3_VL_2B,
             "text_config": {**synthetic.QWEN3_VL_2B["text_config"], "hidden_size": 64, "intermediate_size": 96,
                             "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2},
             "vision_config": {**synthetic.QWEN3_VL_2B["vision_config"], "hidden_size": 32, "num_heads": 2,
                               "intermediate_size": 48, "out_hidden_size": 64, "depth": 3,
                               "deepstack_visual_indexes": [0, 1]}}
    monkeypatch.setattr(synthetic, "QWEN3_VL_2B", small)
    for name, value in (("WIDTH", 96), ("LAYERS", 2), ("HIDDEN", 48), ("OUTPUT", 48)):
        monkeypatch.setattr(synthetic, name, value)
    for suite, checkpoint, shape in (("robocasa_gr1", "synthetic:gr1", (16, 29)),
                                     ("libero_10", "synthetic:libero", (8, 7))):
        made = Qwen3DiT(load_suite(suite), checkpoint=checkpoint, head=head)
        made.load()
        chunk = made.act(observe(suite, count=1))[0]
        assert chunk.shape == shape and np.isfinite(chunk).all()
        assert "latency only" in made.describe()["note"]
        assert made.describe()["head"]["future_tokens"] == (32 if head == "starvla" else 0)
