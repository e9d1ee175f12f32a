"""Floating-point operations of one query, counted by running the model without numbers.

    python -m baselines.dit4dit.flops [gr1|libero]

Multiply and add count as two; matrix products, convolutions and attention count, the rest does not. The text encoder
runs once per instruction and is left out.
"""

from __future__ import annotations

import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines.common.layouts import LAYOUTS
from baselines.dit4dit.config import RELEASED
from baselines.dit4dit.model import PRECISIONS, TRUE_TRANSFORMER, Model, Noise, synthetic_model


def count(model: Model, height: int, width: int, text_dim: int) -> dict[str, float]:
    """FLOPs of one query by part: ``vae``, ``video``, ``head``. The model may lie on `meta`."""
    settings, device, dtype = model.settings, model.device, model.video.dtype
    noise = Noise(**{name: torch.zeros(1, *shape, device=device)
                     for name, shape in model.noise_shapes(height, width).items()})
    pixels = torch.zeros(1, 3, height, width, device=device)
    text = torch.zeros(1, settings.text_length, text_dim, device=device, dtype=dtype)
    state = torch.zeros(1, 1, settings.state_dim, device=device)
    latents = torch.zeros_like(noise.posterior)
    model.features(latents, noise, text)  # what depends on the timestep alone is computed once, not per query
    features, flops = torch.zeros(()), {}
    for part in ("vae", "video", "head"):
        with FlopCounterMode(display=False) as counter:
            if part == "vae":
                model.latents(pixels, noise)
            elif part == "video":
                features = model.features(latents, noise, text)
            else:
                model.actions(features, state, noise)
        flops[part] = float(counter.get_total_flops())
    return flops


def released(name: str) -> dict[str, float]:
    """`count` of a released size, ``gr1`` or ``libero``."""
    layout = next(layout for layout in LAYOUTS if layout.name == name)
    model = synthetic_model(RELEASED[name], PRECISIONS["bf16"], torch.device("meta"))
    return count(model, *layout.image_shape[:2], TRUE_TRANSFORMER["text_embed_dim"])


if __name__ == "__main__":
    for chosen in sys.argv[1:] or RELEASED:
        parts = released(chosen)
        listed = ", ".join(f"{part} {value / 1e9:.1f}" for part, value in parts.items())
        print(f"{chosen}: {sum(parts.values()) / 1e12:.3f} TFLOP a query (GFLOP: {listed})")
