"""Painters: functions that draw a square picture with numpy, and the writing of pictures as PNG.

A painter is called with a generator and a size and returns (size, size, 3) colours 0..255, its first row on top.
Colours are given as 0..255 triples.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Colour = tuple[int, int, int]
Painter = Callable[[np.random.Generator, int], np.ndarray]


def generator(name: str) -> np.random.Generator:
    """The generator of the file or object `name`: the same in every run."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) colours, clipped to 0..255, into a file whose folder is made if absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # multiples of 4 grey levels: PNG then compresses noise to a third
    image = Image.fromarray((np.clip(pixels, 0, 255) // 4 * 4).astype(np.uint8))
    image.save(path, format="PNG", compress_level=6)


def plain(colour: Colour, grain: float = 2.0) -> Painter:
    """One colour with a little noise."""
    return lambda rng, size: colour + rng.normal(0, grain, (size, size, 1)) * np.ones(3)


def clouds(first: Colour, second: Colour, cells: Sequence[int] = (4, 8, 16)) -> Painter:
    """Soft spots between two colours."""
    return lambda rng, size: mix(first, second, noise(rng, size, cells))


def bands(*stripes: tuple[float, Colour], grain: float = 3.0) -> Painter:
    """Rings from the bottom up: (height at which it ends, colour)."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        _, y = axes(size)
        pixels = np.empty((size, size, 3))
        for end, colour in reversed(stripes):
            pixels[y <= end] = colour
        return pixels + rng.normal(0, grain, (size, size, 1))

    return paint


def streaks(first: Colour, second: Colour, count: int = 24) -> Painter:
    """Streaks along v, as on a melon's skin."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        across = resize(rng.random((1, count)), size)[:1]
        return mix(first, second, 0.7 * np.repeat(across, size, axis=0) + 0.3 * noise(rng, size, (6, 12)))

    return paint


def wood(light: Colour, dark: Colour, cells: int = 40) -> Painter:
    """Grain along u."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        grain = resize(rng.random((cells, 3)), size)
        bend = (0.1 * size * (noise(rng, size, (2, 4)) - 0.5)).astype(int)
        rows = (np.arange(size)[:, None] + bend) % size
        return mix(light, dark, 0.75 * grain[rows, np.arange(size)[None, :]] + 0.25 * noise(rng, size, (3, 6)))

    return paint


def planks(light: Colour, dark: Colour, count: int = 6) -> Painter:
    """Boards along u, each a little different, dark joints between them."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        pixels = wood(light, dark)(rng, size)
        edges = np.linspace(0, size, count + 1).astype(int)
        for start, end in itertools.pairwise(edges):
            pixels[start:end] = np.roll(pixels[start:end] + rng.normal(0, 8), rng.integers(size), axis=1)
            pixels[start:start + 2] = np.array(dark) * 0.7
            joint = rng.integers(size - 2)
            pixels[start:end, joint:joint + 2] = np.array(dark) * 0.7
        return pixels

    return paint


def tiles(face: Colour, joint: Colour, count: int = 4, veins: Colour | None = None) -> Painter:
    """Square tiles, each a little different, with veins if their colour is given."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = axes(size)
        shade = rng.normal(0, 6, (count, count))[(y * count).astype(int), (x * count).astype(int)]
        pixels = marble(face, veins)(rng, size) if veins else np.ones((size, size, 3)) * face
        pixels += (shade + 6 * (noise(rng, size, (8, 16)) - 0.5))[..., None]
        return np.where(((x * count % 1 < 0.035) | (y * count % 1 < 0.035))[..., None], joint, pixels)

    return paint


def diamonds(first: Colour, second: Colour, count: int = 4) -> Painter:
    """A chequerboard that stands on its corners."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = axes(size)
        odd = (np.floor((x + y) * count) + np.floor((x - y) * count)) % 2 > 0
        return np.where(odd[..., None], first, second) + rng.normal(0, 4, (size, size, 1))

    return paint


def flowers(ground: Colour, petal: Colour, count: int = 3) -> Painter:
    """Tiles with a flower of eight petals each."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = axes(size)
        u, v = x * count % 1 - 0.5, y * count % 1 - 0.5
        flower = np.hypot(u, v) < 0.22 + 0.14 * np.cos(8 * np.arctan2(v, u))
        pixels = tiles(ground, tuple(int(0.8 * value) for value in ground), count)(rng, size)
        return np.where(flower[..., None], petal, pixels)

    return paint


def bricks(face: Colour, joint: Colour, rows: int = 8) -> Painter:
    """Courses of bricks, every second one shifted by half a brick."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = axes(size)
        row = np.floor(y * rows).astype(int)
        along = x * rows / 2 + 0.5 * (row % 2)
        shade = rng.normal(0, 10, (rows, rows))[row, along.astype(int) % rows]
        pixels = np.array(face) + (shade + 14 * (noise(rng, size, (16, 32)) - 0.5))[..., None]
        return np.where(((y * rows % 1 < 0.10) | (along % 1 < 0.05))[..., None], joint, pixels)

    return paint


def marble(ground: Colour, veins: Colour) -> Painter:
    """Thin veins on a ground."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        vein = np.clip(1 - 9 * np.abs(2 * noise(rng, size, (3, 5, 9)) - 1), 0, 1)
        return mix(ground, veins, 0.7 * vein + 0.1 * noise(rng, size, (4, 8)))

    return paint


def granite(ground: Colour, specks: Colour) -> Painter:
    """Speckled stone."""
    return lambda rng, size: mix(ground, specks, np.clip(noise(rng, size, (32, 64)) * 2 - 0.7, 0, 1))


def brushed(colour: Colour) -> Painter:
    """Brushed metal."""
    return lambda rng, size: np.array(colour) + resize(rng.normal(0, 8, (size, 4)), size)[..., None] * np.ones(3)


def weave(light: Colour, dark: Colour, strands: int = 10) -> Painter:
    """Basket work: strands that cross over and under each other."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = axes(size)
        over = (np.floor(x * strands) + np.floor(y * strands)) % 2 == 0
        across = np.where(over, y * strands % 1, x * strands % 1)
        return mix(dark, light, np.sin(np.pi * across)) + rng.normal(0, 3, (size, size, 1))

    return paint


def kernels(light: Colour, dark: Colour, rows: int = 18, columns: int = 14) -> Painter:
    """Corn: rows of grains."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = axes(size)
        grain = np.sin(np.pi * (x * columns % 1)) * np.sin(np.pi * ((y * rows + 0.5 * np.floor(x * columns)) % 1))
        return mix(dark, light, np.sqrt(grain)) + rng.normal(0, 4, (size, size, 1))

    return paint


def label(ground: Colour, stripe: Colour, ink: Colour, low: float = 0.25, high: float = 0.75) -> Painter:
    """Packaging: a stripe across the middle with lines of print."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = axes(size)
        pixels = np.where(((low < y) & (y < high))[..., None], stripe, ground).astype(float)
        inside = (y - low) / (high - low)
        print_ = (inside > 0.2) & (inside < 0.8) & (inside * 6 % 1 < 0.45) & (x * 3 % 1 < 0.7)
        letters = resize(rng.random((6, 40)), size) > 0.4
        pixels[print_ & letters] = ink
        return pixels + rng.normal(0, 2, (size, size, 1))

    return paint


def framed(inner: Painter, border: Colour, width: float = 0.06) -> Painter:
    """A picture with a border."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = axes(size)
        edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y)) < width
        return np.where(edge[..., None], border, inner(rng, size))

    return paint


def capped(inner: Painter, colour: Colour, start: float = 0.9, ragged: float = 0.0) -> Painter:
    """A picture whose upper end, from v = `start`, is of another colour; `ragged`: depth of five points."""

    def paint(rng: np.random.Generator, size: int) -> np.ndarray:
        x, y = axes(size)
        cap = y > start + ragged * np.cos(10 * np.pi * x)
        return np.where(cap[..., None], colour + rng.normal(0, 6, (size, size, 1)), inner(rng, size))

    return paint


def axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """u and v, each (size, size), of a picture's pixels: u to the right, v upwards."""
    at = (np.arange(size) + 0.5) / size
    return np.meshgrid(at, at[::-1])


def mix(first: Colour, second: Colour, share: np.ndarray) -> np.ndarray:
    """(H, W, 3) colours from `first` at share 0 to `second` at share 1."""
    return np.array(first, float) + share[..., None] * (np.array(second, float) - np.array(first, float))


def noise(rng: np.random.Generator, size: int, cells: Sequence[int]) -> np.ndarray:
    """(size, size) in 0..1 without seams: a sum of smooth noises of `cells` cells."""
    total = sum(resize(rng.random((count, count)), size) / 2**octave for octave, count in enumerate(cells))
    return (total - total.min()) / (total.max() - total.min())


def resize(coarse: np.ndarray, size: int) -> np.ndarray:
    """Stretch a small (h, w) array to (size, size), smoothly and periodically."""
    for axis in (0, 1):
        count = coarse.shape[axis]
        at = np.arange(size) * count / size
        low, share = at.astype(int), at % 1
        share = (share * share * (3 - 2 * share)).reshape((-1, 1) if axis == 0 else (1, -1))
        near, far = np.take(coarse, low % count, axis), np.take(coarse, (low + 1) % count, axis)
        coarse = near + share * (far - near)
    return coarse
