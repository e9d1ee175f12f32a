"""Textures drawn with numpy, written as PNG: floors and walls under upstream's file names, woods, a painting.

Every picture has its own fixed seed (its place in the table): the files are the same at each generation.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 256  # pixels; a multiple of the tile and plank counts below


@dataclasses.dataclass(frozen=True)
class Picture:
    """One texture: how it is painted and the colours, 0..255, that the painter uses."""

    paint: Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
    first: tuple[int, int, int]
    second: tuple[int, int, int]


def write_textures(folder: Path) -> None:
    """Write every picture of PICTURES into `folder` (created if absent)."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, picture) in enumerate(PICTURES.items()):
        rng = np.random.default_rng(seed)
        pixels = picture.paint(rng, np.array(picture.first, float), np.array(picture.second, float))
        # multiples of 4 grey levels: PNG then compresses noise to a third
        image = Image.fromarray((np.clip(pixels, 0, 255) // 4 * 4).astype(np.uint8))
        image.save(folder / name, format="PNG", compress_level=9)


def plaster(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Soft clouds between two colours, which meet themselves at the borders."""
    return _mix(first, second, _clouds(rng, (4, 8, 16)))


def tiles(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Square tiles of `first` with joints of `second`, each tile a little different."""
    count, step = 4, SIZE // 4
    shade = np.kron(rng.normal(0, 5, (count, count)), np.ones((step, step)))
    pixels = first + (shade + 8 * (_clouds(rng, (8, 16)) - 0.5))[..., None]
    at = np.arange(SIZE) % step
    joint = (at < 2)[:, None] | (at < 2)[None, :]
    return np.where(joint[..., None], second, pixels)


def planks(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Floor boards of `first` that run along one axis, joints and grain towards `second`."""
    count, step = 8, SIZE // 8
    pixels = wood(rng, first, second)
    for row in range(count):
        band = slice(row * step, (row + 1) * step)
        pixels[band] += rng.normal(0, 7)
        pixels[band] = np.roll(pixels[band], int(rng.integers(SIZE)), axis=1)
        pixels[row * step, :] = second
        pixels[band, int(rng.integers(SIZE))] = second
    return pixels


def wood(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Grain along the picture's width, from `first` to `second`."""
    grain = _resize(rng.random((SIZE // 2, 3)))
    bend = 6 * (_clouds(rng, (2, 4)) - 0.5)
    rows = (np.arange(SIZE)[:, None] + bend * 4).astype(int) % SIZE
    return _mix(first, second, 0.75 * grain[rows, np.arange(SIZE)[None, :]] + 0.25 * _clouds(rng, (3, 6)))


def marble(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Thin veins of `second` on `first`."""
    veins = np.abs(_clouds(rng, (3, 5, 9)) - 0.5) * 2
    return _mix(first, second, np.clip(1 - veins * 9, 0, 1) * 0.7)


def weave(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Basket work: strands that cross over and under each other, one square of 32 pixels a strand."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    over = (x // 32 + y // 32) % 2 == 0
    across = np.where(over, y % 32, x % 32)
    return _mix(second, first, np.sin(np.pi * (across + 0.5) / 32)) + rng.normal(0, 2, (SIZE, SIZE, 1))


def painting(rng: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A wall picture: two hills and a sun on a sky."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    pixels = _mix(first, np.array([250.0, 235, 205]), y)
    pixels[(x - 0.7) ** 2 + (y - 0.25) ** 2 < 0.008] = (240, 190, 70)
    pixels[y > 0.62 + 0.13 * np.sin(7 * x)] = second
    pixels[y > 0.78 + 0.10 * np.sin(5 * x + 2)] = second * 0.6
    return pixels + rng.normal(0, 1, (SIZE, SIZE, 1))


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(H, W, 3) colours from `first` at share 0 to `second` at share 1."""
    return first + share[..., None] * (second - first)


def _clouds(rng: np.random.Generator, cells: tuple[int, ...]) -> np.ndarray:
    """(SIZE, SIZE) noise in 0..1 without seams: a sum of smooth noises of `cells` cells."""
    total = np.zeros((SIZE, SIZE))
    for octave, n in enumerate(cells):
        total += _resize(rng.random((n, n))) / 2**octave
    return (total - total.min()) / (total.max() - total.min())


def _resize(coarse: np.ndarray) -> np.ndarray:
    """Stretch a small array to (SIZE, SIZE), smoothly and periodically."""
    for axis in (0, 1):
        n = coarse.shape[axis]
        at = np.arange(SIZE) * n / SIZE
        low, share = at.astype(int), at % 1
        share = share * share * (3 - 2 * share)
        shape = (-1, 1) if axis == 0 else (1, -1)
        near, far = np.take(coarse, low % n, axis), np.take(coarse, (low + 1) % n, axis)
        coarse = near + share.reshape(shape) * (far - near)
    return coarse


#: File name -> picture. Floors and walls have the names that upstream's arena styles choose from.
PICTURES: dict[str, Picture] = {
    # floors
    "dark_floor_texture.png": Picture(tiles, (70, 68, 66), (40, 40, 40)),
    "rustic_floor.png": Picture(planks, (142, 104, 70), (84, 58, 38)),
    "light-gray-floor-tile.png": Picture(planks, (176, 174, 170), (140, 138, 135)),
    "white_marble_floor.png": Picture(marble, (226, 224, 220), (150, 150, 152)),
    "seamless_wood_planks_floor.png": Picture(planks, (120, 80, 55), (74, 46, 32)),
    "brown_ceramic_tile.png": Picture(tiles, (150, 108, 78), (92, 70, 54)),
    "gray_ceramic_tile.png": Picture(tiles, (146, 148, 150), (96, 98, 100)),
    "tile_grigia_caldera_porcelain_floor.png": Picture(tiles, (120, 116, 112), (84, 82, 80)),
    # walls
    "light_blue_wall.png": Picture(plaster, (176, 202, 222), (160, 190, 214)),
    "dark_blue_wall.png": Picture(plaster, (52, 72, 108), (42, 60, 94)),
    "dark_gray_plaster.png": Picture(plaster, (92, 92, 92), (76, 76, 76)),
    "gray_plaster.png": Picture(plaster, (184, 184, 182), (166, 166, 164)),
    "dark_green_plaster_wall.png": Picture(plaster, (56, 84, 66), (46, 70, 54)),
    "light-gray-plaster.png": Picture(plaster, (236, 236, 232), (220, 220, 216)),
    "ceramic.png": Picture(tiles, (222, 222, 218), (176, 176, 172)),
    "white_wall.png": Picture(plaster, (254, 254, 252), (244, 244, 240)),
    "yellow_linen_wall_texture.png": Picture(weave, (250, 232, 182), (236, 216, 164)),
    # furniture
    "table_wood.png": Picture(wood, (214, 194, 168), (186, 160, 128)),
    "pale_wood.png": Picture(wood, (218, 186, 140), (180, 138, 92)),
    "tray_wood.png": Picture(wood, (146, 100, 60), (100, 64, 36)),
    "red_wood.png": Picture(wood, (112, 44, 30), (74, 26, 18)),
    "black_wood.png": Picture(wood, (58, 50, 46), (30, 26, 24)),
    "white_wood.png": Picture(wood, (232, 232, 230), (204, 204, 202)),
    "walnut.png": Picture(wood, (98, 62, 44), (58, 34, 24)),
    "desk_wood.png": Picture(wood, (150, 108, 60), (112, 76, 40)),
    "black_marble.png": Picture(marble, (30, 30, 32), (130, 130, 132)),
    "weave.png": Picture(weave, (178, 152, 108), (112, 88, 56)),
    "painting.png": Picture(painting, (120, 170, 205), (92, 130, 84)),
}
