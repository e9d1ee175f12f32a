"""The action head: hand-worked cases, both directions of time, and values recorded from upstream's own code."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from torch import nn

from baselines.common.checkpoint import load_strict, read_state_dict, take
from baselines.common.head import ActionHead, Block, DiffusionTransformer, HeadConfig
from evalkit.errors import InputError
from evalkit.paths import PROJECT

FIXTURES = PROJECT.parent / "shared" / "fixtures"
TINY = HeadConfig(action_dim=3, state_dim=5, horizon=4, width=8, heads=2, head_dim=4, layers=2, hidden_size=6,
                  output_dim=7, cross_dim=10, max_positions=9)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def recorded(name: str):
    """Folder of recorded values, or skip."""
    if not (FIXTURES / name).is_dir():
        pytest.skip(f"needs the recorded values in ../shared/fixtures/{name}")
    return FIXTURES / name


def random_head(config: HeadConfig = TINY) -> ActionHead:
    torch.manual_seed(0)
    return ActionHead(config).eval()


def random_inputs(config: HeadConfig = TINY, batch: int = 2):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for shape in (
        (batch, 6, config.cross_dim), (batch, 1, config.state_dim), (batch, config.horizon, config.action_dim))]


def change(config: HeadConfig, **changes) -> HeadConfig:
    return HeadConfig(**{**config.__dict__, **changes})


@pytest.mark.parametrize(("noise_at_one", "times"), [(True, (1000, 750, 500, 250)), (False, (0, 250, 500, 750))])
def test_integer_times_start_at_the_noise_and_never_reach_the_data(noise_at_one, times):
    assert change(TINY, noise_at_one=noise_at_one).times == times


@pytest.mark.parametrize(("noise_at_one", "sign"), [(True, -1), (False, 1)])
def test_a_constant_velocity_moves_the_noise_by_itself(noise_at_one, sign):
    """With all weights zero the velocity is the decoder's bias c: x = noise - c from time 1, noise + c from time 0."""
    head = random_head(change(TINY, noise_at_one=noise_at_one))
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    velocity = torch.tensor([1.0, -2.0, 0.5])
    head.action_decoder.layer2.bias.data.copy_(velocity)
    features, state, noise = random_inputs()
    torch.testing.assert_close(head.sample(features, state, noise), noise + sign * velocity)


class Passes(nn.Module):
    """Gives back its first input."""

    def forward(self, x, *_):
        return x


@pytest.mark.parametrize(("noise_at_one", "factor"), [(True, 0.75 ** 4), (False, 1.25 ** 4)])
def test_a_velocity_equal_to_x_shrinks_or_grows_it_by_a_quarter_a_step(noise_at_one, factor):
    head = random_head(change(TINY, noise_at_one=noise_at_one, width=3, heads=1, head_dim=4, future_tokens=2))
    nn.init.zeros_(head.position_embedding.weight)
    head.action_encoder, head.action_decoder = Passes(), Passes()
    head.model.forward = lambda tokens, prepared, step: tokens
    features, state, noise = random_inputs()
    torch.testing.assert_close(head.sample(features, state, noise), noise * factor)


def test_a_block_scales_before_it_shifts():
    """One token [1, -1], attention that returns its value: x + LN(x) * (1 + scale) + shift."""
    block = Block(change(TINY, width=2, heads=1, head_dim=2), crosses=False)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    for layer in (block.attn1.to_v, block.attn1.to_out[0]):
        nn.init.eye_(layer.weight)
    modulation = torch.tensor([1.0, 2.0, 10.0, 20.0])  # scale 1, 2; shift 10, 20
    got = block(torch.tensor([[[1.0, -1.0]]]), modulation, None, None)
    torch.testing.assert_close(got, torch.tensor([[[1 + 2 + 10.0, -1 - 3 + 20.0]]]), atol=1e-4, rtol=0)


def test_the_output_shifts_before_it_scales():
    """Its modulation is (shift, scale), the other way round than in a block."""
    config = change(TINY, width=2, heads=1, head_dim=2, layers=0, output_dim=2)
    model = DiffusionTransformer(config)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    nn.init.eye_(model.proj_out_2.weight)
    model.proj_out_1.bias.data.copy_(torch.tensor([10.0, 20.0, 1.0, 2.0]))  # shift 10, 20; scale 1, 2
    prepared = model.prepare(torch.zeros(1, 1, config.cross_dim), torch.zeros(4, 2), None)
    got = model(torch.tensor([[[1.0, -1.0]]]), prepared, 0)
    torch.testing.assert_close(got, torch.tensor([[[2 + 10.0, -3 + 20.0]]]), atol=1e-4, rtol=0)


def test_features_behind_the_mask_change_nothing():
    head = random_head()
    features, state, noise = random_inputs()
    mask = torch.tensor([[False, False, True, True, True, True], [True] * 6])
    first = head.sample(features, state, noise, mask)
    features[0, :2] = 100.0
    assert torch.equal(head.sample(features, state, noise, mask), first)
    assert not torch.allclose(head.sample(features, state, noise), first)


def test_a_state_and_future_tokens_stand_before_the_actions_without_positions():
    head = random_head(change(TINY, future_tokens=3))
    seen = []
    head.model.forward = lambda tokens, prepared, step: seen.append(tokens) or torch.zeros(
        *tokens.shape[:2], TINY.output_dim)
    features, state, noise = random_inputs()
    head.sample(features, state, noise)
    head.sample(features, None, noise)
    assert [tokens.shape[1] for tokens in (seen[0], seen[4])] == [1 + 3 + 4, 3 + 4]
    torch.testing.assert_close(seen[0][:, :1], head.state_encoder(state))
    torch.testing.assert_close(seen[0][0, 1:4], head.future_tokens.weight)


def test_bf16_inputs_are_computed_in_float32():
    head = random_head()
    features, state, noise = (tensor.bfloat16() for tensor in random_inputs())
    got = head.sample(features, state, noise)
    assert got.dtype == torch.float32
    assert torch.equal(got, head.sample(features.float(), state.float(), noise.float()))


def test_sizes_come_from_the_tensors():
    for config in (TINY, change(TINY, future_tokens=3, noise_at_one=False), change(TINY, state_dim=0)):
        tensors = random_head(config).state_dict()
        assert HeadConfig.from_tensors(tensors, heads=2, horizon=4, noise_at_one=config.noise_at_one) == config


def test_tensors_that_are_no_head_are_named():
    tensors = random_head().state_dict()
    del tensors["position_embedding.weight"]
    with pytest.raises(InputError, match="position_embedding"):
        HeadConfig.from_tensors(tensors, heads=2, horizon=4, noise_at_one=True)
    with pytest.raises(InputError, match="3 heads"):
        HeadConfig.from_tensors(random_head().state_dict(), heads=3, horizon=4, noise_at_one=True)
    with pytest.raises(InputError, match="chunk of 10"):
        HeadConfig.from_tensors(random_head().state_dict(), heads=2, horizon=10, noise_at_one=True)


def load_recorded(folder, checkpoint: str, horizon: int, noise_at_one: bool) -> ActionHead:
    tensors = {name: tensor.float() for name, tensor in take(read_state_dict(folder / checkpoint),
                                                             "action_model.").items()}
    config = HeadConfig.from_tensors(tensors, heads=4, horizon=horizon, noise_at_one=noise_at_one)
    with torch.device("meta"):
        head = ActionHead(config)
    load_strict(head, tensors)
    return head


DIT4DIT = "run/final_model/pytorch_model.pt"


@pytest.mark.parametrize(("name", "horizon"), [("dit4dit_gr1", 16), ("dit4dit_libero", 8)])
@pytest.mark.parametrize("precision", ["fp32", "bf16_backbone", "use_bf16_flag"])
def test_dit4dit_heads_agree_with_upstream(name, horizon, precision):
    folder = recorded(name)
    head = load_recorded(folder, DIT4DIT, horizon, noise_at_one=True)
    expected, inputs, noise = (np.load(folder / f"{file}.npz") for file in (f"expected_{precision}", "inputs", "noise"))
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    trace = {}
    head.sample(torch.from_numpy(expected["features"]), torch.from_numpy(inputs["example_state"]).to(dtype),
                torch.from_numpy(noise["action_noise"]).to(dtype), trace=trace,
                time_dtype=torch.bfloat16 if precision == "use_bf16_flag" else torch.float32)
    compare(trace, expected, 5e-6)


def test_starvla_head_agrees_with_upstream():
    folder = recorded("starvla_gr00t")
    head = load_recorded(folder, "run/checkpoints/steps_20000_pytorch_model.pt", 16, noise_at_one=False)
    expected, inputs, noise = (np.load(folder / f"{file}.npz") for file in ("expected_fp32", "inputs", "noise"))
    features, mask = torch.from_numpy(expected["vl_features"]), torch.from_numpy(expected["attention_mask"]).bool()
    state, start = torch.from_numpy(inputs["example_state"]), torch.from_numpy(noise["action_noise"])
    trace = {}
    head.sample(features, state, start, mask, trace)
    compare(trace, expected, 5e-6)
    for got, wanted in ((head.sample(features, None, start, mask), "no_state"),
                        (head.sample(features, state, start), "head_mask_ignored")):
        np.testing.assert_allclose(got.numpy(), expected[f"{wanted}_normalized_actions"], atol=5e-6, rtol=0)


def test_the_full_width_head_of_the_release_agrees_with_upstream():
    folder = recorded("dit_b_head")
    meta = json.loads((folder / "meta.json").read_text())
    reference = np.load(folder / "reference.npz")
    tensors = {name: recipe(meta["seed"], name, probe["shape"]) for name, probe in meta["probe"].items()}
    config = HeadConfig.from_tensors(tensors, heads=12, horizon=16, noise_at_one=True)
    with torch.device("meta"):
        head = ActionHead(config)
    load_strict(head, tensors)
    assert sum(parameter.numel() for parameter in head.parameters()) == meta["parameters"] == 163_276_320
    trace = {}
    head.sample(recipe(meta["seed"], "features", meta["features_shape"]) * 8, torch.from_numpy(reference["state"]),
                torch.from_numpy(reference["action_noise"]), trace=trace)
    compare(trace, reference, 1e-5)


def recipe(seed: int, name: str, shape: list[int]) -> torch.Tensor:
    """The tensor that the fixture's README describes, bf16 values as float32."""
    key = int.from_bytes(hashlib.sha256(f"{seed}|{name}".encode()).digest()[:16], "little")
    drawn = np.random.Generator(np.random.Philox(key=key)).standard_normal(shape).astype(np.float32)
    scale = 0.05 if name.endswith(".bias") else 0.2 if name == "position_embedding.weight" else 1 / np.sqrt(shape[-1])
    return torch.from_numpy(drawn * np.float32(scale)).bfloat16().float()


def compare(trace: dict, expected, tolerance: float) -> None:
    """Assert that everything recorded under a trace's names is within `tolerance`."""
    common = set(trace) & set(expected.files)
    assert {"x_steps", "v_steps"} <= common
    for name in common:
        np.testing.assert_allclose(trace[name].numpy(), expected[name], atol=tolerance, rtol=0, err_msg=name)
