"""DiT4DiT computes what upstream computes, whatever batch an observation travels in, and refuses what does not fit."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.common.checkpoint import load_strict, read_state_dict, take
from baselines.common.head import ActionHead, HeadConfig
from baselines.dit4dit import DiT4DiT, flops, model, parity
from baselines.dit4dit.config import RELEASED
from baselines.dit4dit.examples import check_example
from baselines.dit4dit.frames import to_pixels
from baselines.dit4dit.model import PARTS, PRECISIONS, TRUE_HEAD, TRUE_TRANSFORMER
from baselines.dit4dit.text import standardize
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.registry import load_suite, make_policy
from evalkit.suite import Observation
from evalkit.testing import check_policy, fake_observation

SUITES = {"gr1": "robocasa_gr1", "libero": "libero_goal"}


@pytest.fixture(scope="module", params=SUITES)
def kind(request) -> str:
    """An embodiment."""
    return request.param


@pytest.fixture(scope="module")
def make(fixtures):
    """make(kind, **options): a light policy on a tiny checkpoint."""
    def build(kind: str, **options) -> DiT4DiT:
        chosen = {"checkpoint": str(fixtures / f"dit4dit_{kind}" / "run"), "base_model": str(fixtures / "cosmos_base")}
        return make_policy("dit4dit", load_suite(SUITES[kind]), {**chosen, **options})
    return build


@pytest.fixture(scope="module")
def policy(make, kind) -> DiT4DiT:
    """Loaded on the CPU, in its default precision there."""
    made = make(kind)
    made.load()
    return made


def observations(kind: str, count: int = 3, step: int = 0) -> list[Observation]:
    """Random ones, of as many episodes and instructions."""
    suite = load_suite(SUITES[kind])
    return [fake_observation(suite, Episode(suite.name, index, index, 7 + index, suite.max_steps), step)
            for index in range(count)]


@pytest.fixture
def altered(fixtures, tmp_path):
    """altered(kind, change): a copy of the tiny checkpoint after change(state dict)."""
    def build(kind: str, change) -> str:
        folder = tmp_path / "run"
        shutil.copytree(fixtures / f"dit4dit_{kind}" / "run", folder)
        weights = folder / "final_model" / "pytorch_model.pt"
        tensors = {name: tensor.clone() for name, tensor in read_state_dict(weights).items()}
        change(tensors)
        weights.unlink()
        torch.save(tensors, weights)
        return str(folder)
    return build


@pytest.mark.parametrize("folder", ["cases", "dit4dit_gr1", "dit4dit_libero"])
def test_parity(fixtures, folder):
    """Every recorded quantity within its tolerance, in each precision."""
    report = parity.compare_folder(fixtures / folder, fixtures / "cosmos_base", list(parity.EXPECTED),
                                   torch.device("cpu"))
    assert [str(row) for row in report.rows if not row.passed] == []
    names = {row.name for row in report.rows}
    if folder != "cases":
        assert {f"fp32: {name}" for name in parity.TOLERANCES} <= names, "every quantity is compared"
        assert {"example_image", "example_state", "single calls: unnormalized_full", "bf16: features"} <= names


def test_parity_says_no(fixtures, tmp_path, capsys):
    """A recorded value that is off by more than its tolerance makes the command fail and names the quantity."""
    folder = tmp_path / "dit4dit_gr1"
    shutil.copytree(fixtures / "dit4dit_gr1", folder)
    expected = dict(np.load(folder / "expected_fp32.npz"))
    expected["features"] = expected["features"] + 1e-4
    (folder / "expected_fp32.npz").unlink()
    np.savez(folder / "expected_fp32.npz", **expected)
    assert parity.main([str(folder), "--base", str(fixtures / "cosmos_base"), "--dtype", "fp32"]) == 1
    over = [line for line in capsys.readouterr().out.splitlines() if line.startswith("OVER")]
    assert len(over) == 1 and "fp32: features" in over[0] and "1.0e-04 of 5e-06" in over[0]
    assert parity.main([str(tmp_path)]) == 2


def test_act_is_upstreams_client(fixtures, policy, kind, monkeypatch):
    """From the suite's observation to its action, with upstream's recorded draws: what upstream's client sent."""
    recorded = parity.Fixture(fixtures / f"dit4dit_{kind}")
    suite = load_suite(SUITES[kind])
    for row in range(3):
        lang = recorded.inputs["lang_episode"] if kind == "libero" else recorded.inputs["example_lang"][row]
        noise = recorded.noise(torch.device("cpu"))
        noise = model.Noise(noise.posterior[[row]], noise.video[[row]], noise.action[[row]])
        monkeypatch.setattr(model.Noise, "draw", lambda seeds, shapes, noise=noise: noise)
        observation = Observation(recorded.views(row), recorded.state(row), str(lang),
                                  Episode(suite.name, 0, row, 7, suite.max_steps), 0)
        chunk, = policy.act([observation])
        expected = recorded.layout.to_suite(recorded.client["unnormalized_full"][row])
        np.testing.assert_allclose(chunk, expected, atol=1e-5)


def test_contract(make, kind):
    """The Policy contract, to the bit."""
    check_policy(make(kind), load_suite(SUITES[kind]), tolerance=0.0)


def test_padded_batches(policy, make, kind, monkeypatch):
    """With option batch, an observation alone, in a full and in a split batch gets the same bits."""
    made = make(kind, batch=2)
    made.load()
    answer, sizes = made.model.answer, []
    monkeypatch.setattr(made.model, "answer", lambda *inputs: sizes.append(len(inputs[0])) or answer(*inputs))
    seen = observations(kind)
    together = made.act(seen)
    for observation, chunk in zip(seen, together):
        np.testing.assert_array_equal(made.act([observation])[0], chunk)
    assert sizes == [2] * 5, "kernels see one size of batch only"
    for chunk, other in zip(together, policy.act(seen)):
        np.testing.assert_allclose(chunk, other, atol=1e-5)


def test_noise_follows_from_the_seed(policy, kind):
    """Equal seeds give equal actions across the wire's form, other seeds others; without one the content decides."""
    observation = observations(kind, 1)[0]
    example = policy.example(observation)
    chunk = policy.predict_examples([example])["normalized_actions"][0]
    assert chunk.dtype == np.float32 and chunk.shape == (policy.settings.horizon, policy.settings.action_dim)
    np.testing.assert_array_equal(policy.to_suite(chunk), policy.act([observation])[0])
    other = replace(observation, step=5, seed=observation.query_seed)
    np.testing.assert_array_equal(policy.act([other])[0], policy.act([observation])[0])
    assert not np.array_equal(policy.act([replace(observation, step=5)])[0], policy.act([observation])[0])

    unseeded = {key: value for key, value in example.items() if key != "seed"}
    twice = policy.predict_examples([unseeded, unseeded])["normalized_actions"]
    np.testing.assert_array_equal(twice[0], twice[1])
    changed = {**unseeded, "state": example["state"] + np.float32(0.1)}
    assert policy_inputs(policy, unseeded).seed != policy_inputs(policy, changed).seed


def policy_inputs(policy, example):
    """What the policy makes of an example."""
    return check_example(example, policy.layout, policy.settings, "example")


def test_draws_are_those_of_the_observation(kind):
    """A query's three draws are those of Observation.generator, each purpose its own."""
    observation = observations(kind, 1)[0]
    shapes = {"posterior": (16, 4, 4), "video": (16, 3, 4, 4), "action": (5, 6)}
    noise = model.Noise.draw([observation.query_seed, 3], shapes)
    for purpose, shape in shapes.items():
        expected = observation.generator(purpose).standard_normal(shape, dtype=np.float32)
        np.testing.assert_array_equal(getattr(noise, purpose)[0].numpy(), expected)


def test_what_is_not_needed_is_not_used(altered, policy, make, kind):
    """NaN in every video block after the hooked one, in its output layers, in the VAE's decoder, the image tower and
    the language head changes nothing."""
    unused = ("transformer.transformer_blocks.3.", "transformer.norm_out.", "transformer.proj_out.", "vae.decoder.",
              "vae.post_quant_conv.", "text_encoder.model.visual.", "text_encoder.lm_head.")

    def poison(tensors):
        names = [name for name in tensors for part in unused if name.startswith(f"backbone_interface.extractor.{part}")]
        assert len(names) > 50
        for name in names:
            tensors[name].fill_(float("nan"))

    poisoned = make(kind, checkpoint=altered(kind, poison))
    poisoned.load()
    seen = observations(kind, 1)
    np.testing.assert_array_equal(poisoned.act(seen)[0], policy.act(seen)[0])


def test_the_hooked_block_is_used(altered, policy, make, kind):
    """The block whose output is hooked changes the action."""
    def change(tensors):
        tensors[PARTS["transformer"] + "transformer_blocks.2.ff.net.2.weight"].mul_(2)

    changed = make(kind, checkpoint=altered(kind, change))
    changed.load()
    seen = observations(kind, 1)
    assert not np.array_equal(changed.act(seen)[0], policy.act(seen)[0])


def test_one_frame_is_the_first_of_a_clip(fixtures, policy, kind):
    """Encoding the frame alone is what the VAE gives for the clip padded with grey, in latent frame 0."""
    weights = take(read_state_dict(policy.weights), PARTS["vae"])
    vae = model.build_vae(fixtures / "cosmos_base").eval()
    load_strict(vae, weights)
    vae = vae.float()
    image = policy.layout.image(observations(kind, 1)[0].views)
    frame = torch.from_numpy(to_pixels(image))[None, :, None]
    clip = torch.cat([frame, torch.zeros(1, 3, policy.settings.frames - 1, *frame.shape[-2:])], dim=2)
    with torch.no_grad():
        whole = vae.encode(clip).latent_dist
        mean, log_variance = policy.model.frames.posterior(frame[:, :, 0])
    assert whole.mean.shape[2] == policy.settings.latent_frames
    torch.testing.assert_close(mean, whole.mean[:, :, 0], atol=2e-5, rtol=0)
    torch.testing.assert_close(log_variance, whole.logvar[:, :, 0], atol=2e-5, rtol=0)


def test_text_is_encoded_once_per_instruction(make, kind, monkeypatch):
    """Six queries with two instructions encode two texts; a repeated query none."""
    made = make(kind)
    made.load()
    encode, calls = made.model.text_encoder.features, []
    monkeypatch.setattr(made.model.text_encoder, "features", lambda ids: calls.append(ids) or encode(ids))
    first, second = observations(kind, 2)
    second = replace(second, instruction="another one")
    made.act([first, second, first, second, second, first])
    assert len(calls) == 2
    made.act([first])
    assert len(calls) == 2


def test_swapped_text_encoder(make, policy, kind):
    """A text encoder that is brought over for each instruction gives the same features."""
    swapped = make(kind, text_encoder="swapped")
    swapped.load()
    assert not swapped.model.text_encoder.resident
    torch.testing.assert_close(swapped.model.text("pick it"), policy.model.text("pick it"), atol=0, rtol=0)


def test_standardize_by_hand():
    """[1, 2, 3] has mean 2 and unbiased deviation 1."""
    torch.testing.assert_close(standardize(torch.tensor([[1.0, 2.0, 3.0]])), torch.tensor([[-1.0, 0.0, 1.0]]))


@pytest.mark.parametrize(("change", "said"), [
    (lambda tensors: tensors.pop("action_model.action_encoder.layer2.bias"), "missing.*action_encoder.layer2.bias"),
    (lambda tensors: tensors.update({"action_model.spare.weight": torch.zeros(2)}), r"unexpected \(1\): spare.weight"),
    (lambda tensors: tensors.update({"ema.weight": torch.zeros(2)}), "unexpected.*ema.weight"),
    (lambda tensors: tensors.pop(PARTS["transformer"] + "transformer_blocks.3.norm1.linear_1.weight"),
     "the transformer:\n.*missing.*blocks.3.norm1"),
    (lambda tensors: tensors.pop(PARTS["text_encoder"] + "lm_head.weight"), "the text encoder:\n.*lm_head.weight"),
    (lambda tensors: tensors.update({PARTS["vae"] + "quant_conv.bias": torch.zeros(3)}),
     r"the vae:\n.*another shape.*quant_conv.bias \(3,\) instead of \(32,\)"),
    (lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith(PARTS["vae"])],
     "no key under.*vae"),
])
def test_keys_are_strict(altered, make, change, said):
    """A key too many, too few or of another shape is named, with the part it belongs to."""
    with pytest.raises(InputError, match=said):
        make("gr1", checkpoint=altered("gr1", change)).load()


def test_head_of_another_embodiment(fixtures, tmp_path, make):
    """A GR1 configuration with LIBERO's weights is refused by what differs."""
    folder = tmp_path / "run"
    shutil.copytree(fixtures / "dit4dit_gr1" / "run", folder)
    shutil.copy(fixtures / "dit4dit_libero" / "run" / "final_model" / "pytorch_model.pt", folder / "final_model")
    with pytest.raises(InputError, match=r"tensors have action_dim 8, config\.yaml says 32"):
        make("gr1", checkpoint=str(folder)).load()


class _Evil:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("save", [lambda value, path: torch.save(value, path),
                                  lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickled_code_does_not_run(tmp_path, save):
    """A checkpoint that carries code is refused, and the code has not run."""
    path, made = tmp_path / "evil.pt", tmp_path / "made by the pickle"
    save({"weight": _Evil(made)}, path)
    with pytest.raises(InputError, match="refused"):
        read_state_dict(path)
    assert not made.exists()


def test_damaged_checkpoints(fixtures, tmp_path):
    """Cut short, not there, or no state dict: said so."""
    whole = (fixtures / "dit4dit_gr1" / "run" / "final_model" / "pytorch_model.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:len(whole) // 2])
    torch.save({"model": {"nested": torch.zeros(1)}}, tmp_path / "nested.pt")
    for name, said in (("cut", "cannot be read"), ("nested", "not a flat state dict"), ("none", "is not a file")):
        with pytest.raises(InputError, match=said):
            read_state_dict(tmp_path / f"{name}.pt")


@pytest.mark.parametrize(("change", "said"), [
    ({"image": []}, "0 images, expected a list of one image"),
    ({"image": [np.zeros((224, 224, 3), np.uint8)] * 2}, "2 images, expected.*side by side"),
    ({"image": [np.zeros((256, 256, 3), np.uint8)]}, "256 x 256 pixels"),
    ({"image": [np.zeros((224, 224), np.complex64)[None, None]]}, "image has shape"),
    ({"state": np.zeros((1, 58))}, r"state has shape \(1, 58\), expected \(1, 64\)"),
    ({"state": np.full((1, 64), np.nan)}, "finite"),
    ({"lang": ["a", "b"]}, "lang is a list"),
])
def test_examples_are_checked(make, change, said):
    """What upstream would take for something else is refused, naming the example."""
    policy = make("gr1")
    with pytest.raises(ValueError, match=f"example.*{said}"):
        policy_inputs(policy, {**policy.blank_example(), **change})


def test_released_sizes():
    """Models of true size have the published numbers of parameters and tensors."""
    from diffusers import AutoencoderKLWan, CosmosTransformer3DModel

    with torch.device("meta"):
        transformer = CosmosTransformer3DModel(**TRUE_TRANSFORMER, use_crossattn_projection=True,
                                               crossattn_proj_in_channels=28 * 3584)
        heads = {name: ActionHead(HeadConfig(action_dim=one.action_dim, state_dim=one.state_dim, horizon=one.horizon,
                                             **TRUE_HEAD)) for name, one in RELEASED.items()}
        vae = AutoencoderKLWan()
    modules = {"transformer": transformer, "vae": vae, **heads}
    sizes = {name: (len(module.state_dict()), sum(tensor.numel() for tensor in module.state_dict().values()))
             for name, module in modules.items()}
    assert sizes == {"transformer": (569, 2_059_174_912), "vae": (194, 126_892_531), "gr1": (247, 163_276_320),
                     "libero": (247, 163_073_544)}


#: Cosmos-Reason1-7B, which is Qwen2.5-VL-7B, in the flat form of its published config.json.
TRUE_TEXT = {
    "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False, "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {"depth": 32, "hidden_size": 1280, "out_hidden_size": 3584, "intermediate_size": 3420,
                      "num_heads": 16, "in_chans": 3, "spatial_patch_size": 14},
}


def test_text_encoder_of_the_released_size(tmp_path):
    """The published config gives the checkpoint's number of tensors and parameters; no frequency stays on meta."""
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "config.json").write_text(json.dumps(TRUE_TEXT))
    with torch.device("meta"):
        encoder = model.build_text_encoder(tmp_path)
    tensors = encoder.state_dict()
    assert (len(tensors), sum(tensor.numel() for tensor in tensors.values())) == (729, 8_292_166_656)
    language_model = model.materialize_rotary(encoder.model.language_model, PRECISIONS["bf16_all"])
    assert [name for name, buffer in language_model.named_buffers() if buffer.is_meta] == []
    assert language_model.rotary_emb.inv_freq.dtype == torch.bfloat16


def test_flops_of_the_released_size():
    """The video part of GR1 by hand: 18 blocks on 588 tokens that read 512 text tokens, and the patch embedding."""
    tokens, width, text = 588, 2048, 512
    products = tokens * (6 * width * width + 8 * width * width) + 2 * text * 1024 * width
    attention = 2 * tokens * tokens * width + 2 * tokens * text * width
    by_hand = 2 * (18 * (products + attention) + tokens * 72 * width)
    counted = flops.released("gr1")
    assert counted["video"] == pytest.approx(by_hand, rel=1e-6)
    assert 1.4e12 < sum(counted.values()) < 1.7e12


def test_compiled_blocks(policy, kind):
    """The blocks are one graph without breaks for torch.compile, with the same result."""
    settings = policy.settings
    shapes = policy.model.noise_shapes(*policy.layout.image_shape[:2])
    noise = model.Noise.draw([1], shapes)
    text, latents = policy.model.text("pick it"), noise.posterior
    expected = policy.model.features(latents, noise, text)
    assert expected.shape == (1, {"gr1": 588, "libero": 784}[kind], settings.cross_dim)
    plain = policy.model.video.run_blocks
    try:
        policy.model.video.compile_blocks(backend="aot_eager")
        compiled = policy.model.features(latents, noise, text)
    finally:
        policy.model.video.run_blocks = plain
    torch.testing.assert_close(compiled, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("options", "said"), [
    ({"compile": 1, "device": "cpu"}, "compile and graph need a GPU"), ({"device": "gpu0"}, "device .* is 'gpu0'"),
    ({"device": "cuda:99"}, "device .* is 'cuda:99'"),
])
def test_devices_are_checked(make, options, said):
    """An option that this machine cannot honour is refused, not ignored."""
    with pytest.raises(InputError, match=said):
        make("gr1", **options).load()


def test_precision(make, kind):
    """The released precision: sigma and weights rounded to bfloat16, head in float32; the flag rounds two codes."""
    made = make(kind, dtype="bf16")
    made.load()
    parts = made.model
    assert parts.video.sigma == 0.99609375 and parts.video.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in parts.head.parameters()} == {torch.float32}
    rotary = parts.text_encoder.model.rotary_emb
    assert rotary.inv_freq.dtype == torch.float32 and PRECISIONS["bf16_all"].time_dtype == torch.bfloat16
    assert made.describe()["dtype"] == "bf16" and len(made.describe()["checkpoint"]["sha256"]) == 64


def test_synthetic(monkeypatch, kind):
    """Random weights without a folder: labelled, deterministic, text features of their own for each instruction."""
    import diffusers

    small = {"num_attention_heads": 2, "attention_head_dim": 24, "adaln_lora_dim": 8}
    monkeypatch.setattr(model, "TRUE_TRANSFORMER", {**TRUE_TRANSFORMER, **small})
    monkeypatch.setattr(model, "TRUE_HEAD", {**TRUE_HEAD, "width": 64, "heads": 4, "layers": 2, "hidden_size": 56,
                                             "output_dim": 40, "head_dim": 16, "cross_dim": 48})
    monkeypatch.setattr(diffusers, "AutoencoderKLWan", lambda whole=diffusers.AutoencoderKLWan: whole(base_dim=4))
    made = make_policy("dit4dit", load_suite(SUITES[kind]), {"checkpoint": f"synthetic:{kind}"})
    made.load()
    described = made.describe()
    assert described["note"].startswith("synthetic: random weights") and described["checkpoint"]["sha256"] is None
    seen = observations(kind, 1)
    first = made.act(seen)[0]
    assert np.isfinite(first).all() and first.shape == (made.settings.horizon, made.layout.action_size)
    made.load()
    np.testing.assert_array_equal(made.act(seen)[0], first)
    assert not np.array_equal(made.act([replace(seen[0], instruction="another one")])[0], first)


def test_channels_last(policy, kind):
    """The memory layout that convolutions have on a GPU gives the same latents."""
    image = torch.from_numpy(to_pixels(policy.layout.image(observations(kind, 1)[0].views)))[None]
    mean, _ = policy.model.frames.posterior(image)
    turned = copy.deepcopy(policy.model.frames).to(memory_format=torch.channels_last)
    torch.testing.assert_close(turned.posterior(image)[0], mean, atol=2e-5, rtol=0)
