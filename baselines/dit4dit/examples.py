"""Upstream's wire form of an observation, checked: what a server is asked, and what `act` makes of an Observation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from baselines.common.layouts import Layout
from baselines.dit4dit.config import Settings
from baselines.dit4dit.frames import to_pixels
from evalkit.episode import stable_seed
from evalkit.wire import MAX_PROMPT


@dataclass(frozen=True)
class Inputs:
    """One observation as the model takes it.

    pixels: (3, H, W) float32 in [-1, 1]. state: (1, state_dim) float32. seed: decides the noise.
    """

    pixels: np.ndarray
    state: np.ndarray
    instruction: str
    seed: int


def check_example(example: Mapping[str, Any], layout: Layout, settings: Settings, name: str) -> Inputs:
    """The Inputs of an example: a map with ``image``, ``lang``, ``state`` and optionally ``seed``; other keys are
    ignored, as upstream does. Raises ValueError, calling it `name`, where upstream would compute something else in
    silence."""
    if not isinstance(example, Mapping):
        raise ValueError(f"{name} is a {type(example).__name__}, expected a map with image, lang and state")
    missing = [key for key in ("image", "lang", "state") if key not in example]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}; needed: image, lang, state; optional: seed")
    if not isinstance(example["lang"], str):
        raise ValueError(f"{name}: lang is a {type(example['lang']).__name__}, expected one str")
    if len(example["lang"]) > MAX_PROMPT:
        raise ValueError(f"{name}: lang has {len(example['lang'])} characters; allowed: {MAX_PROMPT}")
    pixels = _pixels(example["image"], layout, name)
    state = np.asarray(example["state"], dtype=np.float32)
    if state.shape != (1, settings.state_dim) or not np.isfinite(state).all():
        raise ValueError(f"{name}: state has shape {state.shape}, expected (1, {settings.state_dim}) finite numbers: "
                         "sines and cosines of the raw state, padded with zeros")
    seed = example.get("seed")
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**63):
        raise ValueError(f"{name}: seed is {seed!r}; allowed: whole numbers from 0, below 2^63")
    return Inputs(pixels, state, example["lang"],
                  content_seed(pixels, state, example["lang"]) if seed is None else seed)


def _pixels(images: Any, layout: Layout, name: str) -> np.ndarray:
    views = " and ".join(layout.views)
    if not isinstance(images, (list, tuple)) or len(images) != 1:
        got = f"{len(images)} images" if isinstance(images, (list, tuple)) else f"a {type(images).__name__}"
        raise ValueError(f"{name}: image is {got}, expected a list of one image {layout.image_shape} that shows "
                         f"{views} side by side; upstream takes further images for future frames, not for views")
    try:
        pixels = to_pixels(images[0])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if pixels.shape[1:] != layout.image_shape[:2]:
        raise ValueError(f"{name}: the image has {pixels.shape[1]} x {pixels.shape[2]} pixels (height x width), "
                         f"expected {layout.image_shape[0]} x {layout.image_shape[1]}: {views}, each "
                         "resized to 224 x 224")
    return pixels


def content_seed(pixels: np.ndarray, state: np.ndarray, instruction: str) -> int:
    """A seed that equal requests share, for those that carry none."""
    digests = [hashlib.sha256(part).hexdigest() for part in (pixels.tobytes(), state.tobytes(), instruction.encode())]
    return stable_seed("request", *digests)
