"""The model: text encoder, frame encoder, video features and action head, filled from one checkpoint.

Modules are built on `meta` from the base folder's configs and get the checkpoint's tensors, which stay mapped from the
file until they are moved: host memory peaks near the checkpoint's size, and parts that acting does not need (image
tower, language head, VAE decoder, video blocks after the hooked one) are checked by name and shape but never read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.common.checkpoint import check_materialized, check_prefixes, load_strict, parameter_count, take
from baselines.common.head import ActionHead, HeadConfig
from baselines.dit4dit.config import Settings
from baselines.dit4dit.frames import FrameEncoder
from baselines.dit4dit.text import TextEncoder, Tokenizer
from baselines.dit4dit.video import LATENT_CHANNELS, VideoFeatures
from evalkit.episode import stable_seed
from evalkit.errors import InputError
from evalkit.parsing import parse_json, read_text

#: Where each part lies in a released checkpoint.
PARTS = {
    "text_encoder": "backbone_interface.extractor.text_encoder.",
    "transformer": "backbone_interface.extractor.transformer.",
    "vae": "backbone_interface.extractor.vae.",
    "head": "action_model.",
}

#: Free device memory from which the text encoder stays there: its 16.6 GB, the rest of the model's 4.6 GB, and room.
RESIDENT_BYTES = 28 * 2**30

#: Cosmos-Predict2.5-2B's transformer (its config.json), for models of true size without a checkpoint.
TRUE_TRANSFORMER = {
    "in_channels": 17, "out_channels": 16, "num_attention_heads": 16, "attention_head_dim": 128, "num_layers": 28,
    "mlp_ratio": 4.0, "text_embed_dim": 1024, "adaln_lora_dim": 256, "max_size": (128, 240, 240),
    "patch_size": (1, 2, 2), "rope_scale": (1.0, 3.0, 3.0), "concat_padding_mask": True, "extra_pos_embed_type": None,
}

#: Widths of the released head (DiT-B in upstream's table, the rest from the released config.yaml).
TRUE_HEAD = {"width": 768, "heads": 12, "head_dim": 64, "layers": 16, "hidden_size": 2560, "output_dim": 2560,
             "cross_dim": 2048, "max_positions": 1024}


@dataclass(frozen=True)
class Precision:
    """backbone: of everything but the head, which computes in float32 always. rounded_time: whether the head's time
    code and the text encoder's rotary frequencies are rounded to bfloat16 too, as by the server's ``--use_bf16``."""

    backbone: torch.dtype
    rounded_time: bool = False

    @property
    def time_dtype(self) -> torch.dtype:
        """What the head's time code is rounded to."""
        return torch.bfloat16 if self.rounded_time else torch.float32


#: Option `dtype` of the policy. bf16: the release without, bf16_all: with the server's flag.
PRECISIONS = {
    "fp32": Precision(torch.float32),
    "bf16": Precision(torch.bfloat16),
    "bf16_all": Precision(torch.bfloat16, rounded_time=True),
}


@dataclass(frozen=True)
class Noise:
    """The three draws of a query, float32, batched.

    posterior: (B, 16, h, w) of the observed frame. video: (B, 16, frames, h, w). action: (B, T, A).
    """

    posterior: Tensor
    video: Tensor
    action: Tensor

    @classmethod
    def draw(cls, seeds: Sequence[int], shapes: Mapping[str, tuple[int, ...]]) -> Noise:
        """Standard normal numbers, each draw of each seed from a generator of its own: the same in any batch, and those
        of `Observation.generator(purpose)` where the seed is its `query_seed`."""
        return cls(**{purpose: torch.from_numpy(np.stack([
            np.random.default_rng(stable_seed(seed, purpose)).standard_normal(shape, dtype=np.float32)
            for seed in seeds])) for purpose, shape in shapes.items()})

    def to(self, device: torch.device) -> Noise:
        """On a device."""
        return Noise(*(part.to(device, non_blocking=True) for part in (self.posterior, self.video, self.action)))


class Model(nn.Module):
    """Everything on its device. text_encoder: None for synthetic weights, whose text features are random numbers."""

    def __init__(self, settings: Settings, precision: Precision, device: torch.device, video: VideoFeatures,
                 frames: FrameEncoder, head: ActionHead, text_encoder: TextEncoder | None, parameters: int):
        super().__init__()
        self.settings, self.precision, self.device, self.parameters_stored = settings, precision, device, parameters
        self.video, self.frames, self.head = video.to(device), frames.to(device), head.float().to(device)
        self.text_encoder = text_encoder
        if device.type == "cuda":
            self.frames.to(memory_format=torch.channels_last)  # what cuDNN's bfloat16 convolutions compute in
        self.eval().requires_grad_(False)
        if device.type != "meta":
            for name, part in self.named_children():
                check_materialized(part, name)
        self._text_cache: dict[str, Tensor] = {}

    @torch.no_grad()
    def text(self, instruction: str, trace: dict[str, Any] | None = None) -> Tensor:
        """(1, L, D) projected text features on the device, computed once per instruction. With a `trace`, computed
        anew: it receives ``input_ids``, ``text_features`` and ``text_projected``."""
        if instruction not in self._text_cache or trace is not None:
            self._text_cache[instruction] = self._encode_text(instruction, {} if trace is None else trace)
        return self._text_cache[instruction]

    def _encode_text(self, instruction: str, trace: dict[str, Any]) -> Tensor:
        if self.text_encoder is None:
            shape = (1, self.settings.text_length, TRUE_TRANSFORMER["text_embed_dim"])
            generator = torch.Generator().manual_seed(stable_seed("synthetic text", instruction))
            return torch.randn(shape, generator=generator).to(self.device, self.video.dtype)
        ids = self.text_encoder.tokenizer.ids(instruction)
        features = self.text_encoder.features(ids)
        projected = self.video.project_text(features.to(self.video.dtype))
        trace.update(input_ids=ids, text_features=features, text_projected=projected)
        return projected

    def texts(self, instructions: Sequence[str]) -> Tensor:
        """(B, L, D)."""
        return torch.cat([self.text(instruction) for instruction in instructions])

    @torch.no_grad()
    def latents(self, pixels: Tensor, noise: Noise, trace: dict[str, Any] | None = None) -> Tensor:
        """pixels (B, 3, H, W) float32 in [-1, 1] -> latents of the observed frame (B, 16, h, w) float32."""
        return self.frames(pixels, noise.posterior, trace)

    @torch.no_grad()
    def features(self, latents: Tensor, noise: Noise, text: Tensor, trace: dict[str, Any] | None = None) -> Tensor:
        """(B, S, C): what the head attends to."""
        return self.video(latents, noise.video, text, trace)

    @torch.no_grad()
    def actions(self, features: Tensor, state: Tensor, noise: Noise, trace: dict[str, Any] | None = None) -> Tensor:
        """state (B, 1, state_dim) -> normalised chunk (B, T, A) float32. State and noise are rounded to the backbone's
        precision first, as upstream's are."""
        dtype = self.precision.backbone
        return self.head.sample(features, state.to(dtype), noise.action.to(dtype), trace=trace,
                                time_dtype=self.precision.time_dtype)

    def answer(self, pixels: Tensor, text: Tensor, state: Tensor, noise: Noise,
               stage: Callable[[str], AbstractContextManager[Any]] = nullcontext) -> Tensor:
        """Pixels to chunk; `stage` marks ``vae``, ``video`` and ``head``."""
        with stage("vae"):
            latents = self.latents(pixels, noise)
        with stage("video"):
            features = self.features(latents, noise, text)
        with stage("head"):
            return self.actions(features, state, noise)

    def noise_shapes(self, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Shape of each draw of one query for pixels of this size."""
        frames, *cells = self.settings.latent_shape(height, width)
        return {"posterior": (LATENT_CHANNELS, *cells), "video": (LATENT_CHANNELS, frames, *cells),
                "action": (self.settings.horizon, self.settings.action_dim)}


def load_model(tensors: Mapping[str, Tensor], base: Path, settings: Settings, precision: Precision,
               device: torch.device, source: Path | str, resident: bool | None = None) -> Model:
    """The model of a checkpoint's `tensors`. base: folder of Cosmos-Predict2.5-2B, of which only configs and tokenizer
    are read. resident: whether the text encoder stays on the device (None: where it fits).

    Raises InputError for keys too many, too few or of another shape, and for a base that does not fit config.yaml.
    """
    check_prefixes(tensors, PARTS.values(), source)
    parts = {name: take(tensors, prefix) for name, prefix in PARTS.items()}
    dtype = precision.backbone
    head_config = HeadConfig.from_tensors(parts["head"], heads=settings.heads, horizon=settings.horizon,
                                          noise_at_one=True, steps=settings.steps, buckets=settings.buckets)
    check_head(head_config, settings, source)
    with torch.device("meta"):
        transformer, vae, text = build_transformer(base, settings), build_vae(base), build_text_encoder(base)
        head = ActionHead(head_config)
    for name, module in (("transformer", transformer), ("vae", vae), ("text_encoder", text), ("head", head)):
        load_strict(module, parts[name], name=f"the {name.replace('_', ' ')}")

    language_model = materialize_rotary(text.model.language_model.to(dtype), precision)
    if resident is None:
        resident = device.type != "cuda" or torch.cuda.mem_get_info(device)[0] >= RESIDENT_BYTES
    tokenizer = Tokenizer(base / "tokenizer", settings.text_length)
    text_encoder = TextEncoder(language_model, tokenizer, device, resident)
    video = VideoFeatures(transformer, settings, read_sigma(base, dtype)).to(dtype)
    frames = FrameEncoder(first_half(vae).to(dtype))
    return Model(settings, precision, device, video, frames, head, text_encoder, parameter_count(tensors))


def check_head(head: HeadConfig, settings: Settings, source: Path | str) -> None:
    """Raise InputError where the head's tensors and config.yaml disagree."""
    for name in ("action_dim", "state_dim", "cross_dim"):
        if getattr(head, name) != getattr(settings, name):
            raise InputError(f"{source}: the action head's tensors have {name} {getattr(head, name)}, config.yaml says "
                             f"{getattr(settings, name)}; they are of different checkpoints")


def read_json(path: Path) -> dict[str, Any]:
    """A parsed config of the base folder. Raises InputError."""
    try:
        found = parse_json(read_text(path))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        return found
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}\nOption base_model must be the folder of "
                         "Cosmos-Predict2.5-2B in diffusers' layout (configs, tokenizer, scheduler; no weights)"
                         ) from error


def build_transformer(base: Path, settings: Settings) -> nn.Module:
    """diffusers' video transformer, whole. Raises InputError for a config that `VideoFeatures` does not compute."""
    from diffusers import CosmosTransformer3DModel

    path = base / "transformer" / "config.json"
    config = read_json(path)
    width = config.get("num_attention_heads", 0) * config.get("attention_head_dim", 0)
    wanted = {"concat_padding_mask": True, "extra_pos_embed_type": None, "use_crossattn_projection": True,
              "in_channels": LATENT_CHANNELS + 1, "patch_size": [1, 2, 2]}
    wrong = [f"{key} is {config.get(key)!r}, expected {value!r}" for key, value in wanted.items()
             if config.get(key) != value]
    if config.get("img_context_dim_in"):
        wrong.append("img_context_dim_in is set")
    if width != settings.cross_dim:
        wrong.append(f"its width is {width}, config.yaml's vl_hidden_dim is {settings.cross_dim}")
    if not 0 <= settings.extract_layer < config.get("num_layers", 0):
        wrong.append(f"it has {config.get('num_layers')} blocks, config.yaml's extract_layer is "
                     f"{settings.extract_layer}")
    if wrong:
        raise InputError(f"{path} is not the transformer of this checkpoint:\n  - " + "\n  - ".join(wrong))
    return CosmosTransformer3DModel.from_config(config)


def build_vae(base: Path) -> nn.Module:
    """diffusers' Wan VAE."""
    from diffusers import AutoencoderKLWan

    config = read_json(base / "vae" / "config.json")
    if config.get("is_residual") or config.get("patch_size") or config.get("z_dim", LATENT_CHANNELS) != LATENT_CHANNELS:
        raise InputError(f"{base / 'vae'} is not Wan 2.1's VAE: is_residual {config.get('is_residual')}, patch_size "
                         f"{config.get('patch_size')}, z_dim {config.get('z_dim')}; expected none, none, 16")
    return AutoencoderKLWan.from_config(config)


def first_half(vae: nn.Module) -> nn.Module:
    """The VAE without its decoder."""
    del vae.decoder, vae.post_quant_conv
    return vae


def build_text_encoder(base: Path) -> nn.Module:
    """transformers' Qwen2.5-VL, with image tower and language head: their keys are checked, their weights not read."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig.from_dict(read_json(base / "text_encoder" / "config.json"))
    config._attn_implementation = "sdpa"
    return Qwen2_5_VLForConditionalGeneration(config)


def materialize_rotary(language_model: nn.Module, precision: Precision) -> nn.Module:
    """The language model with its rotary frequencies, which no checkpoint holds, computed anew: float32, or rounded as
    the server's flag does."""
    for module in list(language_model.modules()):
        for name, child in list(module.named_children()):
            if name == "rotary_emb":
                rotary = type(child)(language_model.config)
                rotary.inv_freq = rotary.inv_freq.to(precision.time_dtype)
                setattr(module, name, rotary)
    return language_model


def read_sigma(base: Path, dtype: torch.dtype) -> float:
    """The noise level of the pipeline's first step of one, rounded to `dtype` as upstream rounds it: 200/201, which is
    0.99609375 in bfloat16."""
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler.from_config(read_json(base / "scheduler" / "scheduler_config.json"))
    scheduler.set_timesteps(1)
    return float(scheduler.sigmas[0].to(dtype))


def synthetic_model(settings: Settings, precision: Precision, device: torch.device) -> Model:
    """A model of the released sizes with random weights and random text features, built on the device: for measuring
    speed and memory without a checkpoint. Its actions mean nothing. On `meta` it has no weights: for counting."""
    from diffusers import AutoencoderKLWan, CosmosTransformer3DModel

    dtype = precision.backbone
    sizes = {**TRUE_TRANSFORMER, "num_layers": settings.extract_layer + 1}
    with torch.device("meta"):
        transformer = CosmosTransformer3DModel.from_config(sizes).to(dtype)
        vae = first_half(AutoencoderKLWan()).to(dtype)
        head = ActionHead(HeadConfig(action_dim=settings.action_dim, state_dim=settings.state_dim,
                                     horizon=settings.horizon, steps=settings.steps, buckets=settings.buckets,
                                     **TRUE_HEAD))
    modules = (transformer, vae, head)
    for module in modules:
        module.to_empty(device=device)
        if device.type != "meta":
            fill_randomly(module, torch.Generator(device).manual_seed(0))
    parameters = sum(parameter.numel() for module in modules for parameter in module.parameters())
    sigma = float(torch.tensor(200 / 201).to(dtype))
    video, frames = VideoFeatures(transformer, settings, sigma), FrameEncoder(vae)
    return Model(settings, precision, device, video, frames, head, text_encoder=None, parameters=parameters)


@torch.no_grad()
def fill_randomly(module: nn.Module, generator: torch.Generator) -> None:
    """Matrices with variance 1 / inputs, gains 1, biases 0."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1 and not name.endswith("gamma"):
            parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
