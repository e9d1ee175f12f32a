"""What goes into Qwen3-VL: pictures as patches, an instruction as tokens with places for them.

Written out rather than taken from transformers' processor, which needs torchvision, and whose torchvision-free image
processor ignores the folder's minimum of pixels (transformers 4.57).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from baselines.common.config import reading
from baselines.common.tokenizer import load_tokenizer
from evalkit.errors import InputError
from evalkit.parsing import parse_json, read_text

#: Pillow's number of the only filter that Qwen's processors use, bicubic.
BICUBIC = 3

#: Stands for one picture in a rendered chat (Qwen3-VL's vocabulary).
IMAGE_PAD = "<|image_pad|>"


def client_view(image: np.ndarray, suite: str, side: int = 224) -> np.ndarray:
    """A view (H, W, 3) uint8 as starVLA's evaluation clients send it, (side, side, 3): OpenCV's INTER_AREA for GR1,
    Pillow's bilinear for LIBERO (examples/Robocasa_tabletop and examples/LIBERO of starVLA 0ed0aad)."""
    if image.shape[:2] == (side, side):
        return image
    if suite == "robocasa_gr1":
        import cv2

        return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


def server_view(image: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """A view as starVLA's server passes it on: resized to `size` (height, width) by Pillow's bicubic where the
    configuration has one and it differs."""
    if size is None or image.shape[:2] == size:
        return image
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class ImageProcessor:
    """Qwen2-VL's image processing by the numbers of a preprocessor_config.json.

    min_pixels, max_pixels: what an image is enlarged or reduced to. patch, temporal_patch: sides of a patch. merge:
    patches that become one token along each side. mean, std: of a channel in [0, 1].
    """

    min_pixels: int = 65536
    max_pixels: int = 16777216
    patch: int = 16
    temporal_patch: int = 2
    merge: int = 2
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @classmethod
    def read(cls, folder: Path) -> ImageProcessor:
        """From `folder`/preprocessor_config.json. Raises InputError where it asks for what is not done here."""
        path = folder / "preprocessor_config.json"
        with reading(path):
            return cls._read(path)

    @classmethod
    def _read(cls, path: Path) -> ImageProcessor:
        found: dict[str, Any] = parse_json(read_text(path))
        wrong = [key for key in ("do_resize", "do_rescale", "do_normalize") if found.get(key) is False]
        wrong += [key for key in ("resample",) if found.get(key) not in (None, BICUBIC)]
        if wrong:
            raise InputError(f"{path}: " + ", ".join(f"{key} is {found[key]!r}" for key in wrong)
                             + "; supported: bicubic resizing, division by 255, normalisation")
        size = found.get("size") or {}
        numbers = {"min_pixels": found.get("min_pixels") or size.get("shortest_edge"),
                   "max_pixels": found.get("max_pixels") or size.get("longest_edge"),
                   "patch": found.get("patch_size"), "temporal_patch": found.get("temporal_patch_size"),
                   "merge": found.get("merge_size")}
        missing = [key for key, value in numbers.items() if value is None]
        if missing:
            raise InputError(f"{path} lacks {', '.join(missing)}; take the file of the VLM that was trained")
        channels = {key: tuple(found[f"image_{key}"]) for key in ("mean", "std") if found.get(f"image_{key}")}
        return cls(**numbers, **channels)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The size an image is resized to: sides that are multiples of `patch * merge`, within the limits of pixels,
        at about the same aspect (224 x 224 becomes 256 x 256 under Qwen3-VL's minimum of 65536)."""
        factor = self.patch * self.merge
        sides = [round(side / factor) * factor for side in (height, width)]
        if math.prod(sides) > self.max_pixels:
            scale = math.sqrt(height * width / self.max_pixels)
            sides = [max(factor, math.floor(side / scale / factor) * factor) for side in (height, width)]
        elif math.prod(sides) < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (height * width))
            sides = [math.ceil(side * scale / factor) * factor for side in (height, width)]
        return sides[0], sides[1]

    def grid(self, image: np.ndarray) -> tuple[int, int]:
        """Rows and columns of patches of an image (H, W, 3)."""
        height, width = self.size(*image.shape[:2])
        return height // self.patch, width // self.patch

    def resize(self, images: Sequence[np.ndarray]) -> Tensor:
        """Images (H, W, 3) uint8, all of one size -> (N, 3, H', W') uint8, in integers as torchvision does it."""
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        size = self.size(*stacked.shape[-2:])
        if size == tuple(stacked.shape[-2:]):
            return stacked
        return functional.interpolate(stacked, size, mode="bicubic", align_corners=False, antialias=True)

    def patches(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 on any device -> (N * patches, 3 * temporal_patch * patch * patch) float32, patches of a
        token side by side; a picture is repeated along time."""
        scaled = (images.float() - levels(self.mean, images.device)) / levels(self.std, images.device)
        count, channels, height, width = scaled.shape
        cell = self.patch * self.merge
        parts = scaled.view(count, channels, height // cell, self.merge, self.patch, width // cell, self.merge,
                            self.patch).permute(0, 2, 5, 3, 6, 1, 4, 7)
        repeated = parts.unsqueeze(6).expand(*parts.shape[:6], self.temporal_patch, *parts.shape[6:])
        return repeated.reshape(-1, channels * self.temporal_patch * self.patch ** 2)


@cache
def levels(channels: tuple[float, ...], device: torch.device) -> Tensor:
    """Numbers of each channel in [0, 1] as grey levels, (1, channels, 1, 1)."""
    return torch.tensor(channels, device=device).view(1, -1, 1, 1) * 255.0


class Text(Protocol):
    """Turns an instruction into token ids with `image_tokens[i]` places for picture i."""

    pad_id: int

    def ids(self, instruction: str, image_tokens: Sequence[int]) -> list[int]:
        """Token ids of the whole chat."""


class ChatText:
    """The chat that starVLA renders: one user turn, pictures first, then the prompt, then the start of an answer."""

    def __init__(self, folder: Path, prompt: str | None):
        self._tokenizer = load_tokenizer(folder)
        self._template = read_chat_template(folder) or self._tokenizer.chat_template
        self._prompt = prompt or "{instruction}"
        self.pad_id = self._tokenizer.pad_token_id
        if self._template is None:
            raise InputError(f"{folder} has no chat template: neither chat_template.jinja nor chat_template.json, and "
                             "none in tokenizer_config.json")

    def ids(self, instruction: str, image_tokens: Sequence[int]) -> list[int]:
        """See Text. Raises ValueError if the template has another number of places for pictures."""
        text = self._prompt.replace("{instruction}", instruction)
        content = [*({"type": "image"} for _ in image_tokens), {"type": "text", "text": text}]
        chat = self._tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False,
                                                   chat_template=self._template, add_generation_prompt=True)
        parts = chat.split(IMAGE_PAD)
        if len(parts) != len(image_tokens) + 1:
            raise ValueError(f"the chat has {len(parts) - 1} places for {len(image_tokens)} pictures: {chat!r}")
        filled = parts[0] + "".join(IMAGE_PAD * count + part for count, part in zip(image_tokens, parts[1:]))
        return self._tokenizer(filled)["input_ids"]


def read_chat_template(folder: Path) -> str | None:
    """The processor's chat template in `folder`, None when it has no file of its own."""
    plain, in_json = folder / "chat_template.jinja", folder / "chat_template.json"
    if plain.is_file():
        return plain.read_text()
    if not in_json.is_file():
        return None
    with reading(in_json):
        return parse_json(read_text(in_json))["chat_template"]
