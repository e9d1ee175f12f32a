"""The ego view's crops and resizes."""

from __future__ import annotations

import numpy as np
import pytest

from suites.robocasa_gr1.views import COLUMNS_KEPT, ROWS_KEPT, ego_view


def bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize by its definition (pixel centres, edges repeated, no anti-aliasing), in float."""
    def taps(size: int, target: int):
        position = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
        low = np.minimum(position.astype(int), size - 2)
        return low, position - low

    rows, down = taps(image.shape[0], height)
    columns, right = taps(image.shape[1], width)
    image = image.astype(float)
    across = image[:, columns] * (1 - right)[:, None] + image[:, columns + 1] * right[:, None]
    return across[rows] * (1 - down)[:, None, None] + across[rows + 1] * down[:, None, None]


def test_pipeline():
    """Rows 310:770 and columns 110:1130, to 720 x 480, 120 black rows on both sides, to 256 x 256; both bilinear."""
    frame = np.random.default_rng(0).integers(0, 256, (800, 1280, 3), dtype=np.uint8)
    squeezed = np.rint(bilinear(frame[310:770, 110:1130], 480, 720))
    padded = np.zeros((720, 720, 3))
    padded[120:600] = squeezed
    view = ego_view(frame[ROWS_KEPT, COLUMNS_KEPT])
    assert view.shape == (256, 256, 3) and view.dtype == np.uint8
    assert np.abs(view - bilinear(padded, 256, 256)).max() <= 2  # OpenCV's fixed-point weights
    assert not view[:42].any() and not view[214:].any() and view[43:213].any(axis=(1, 2)).all()


def test_golden():
    """The bytes of one view (upstream's own function gives the same), so that no other OpenCV changes them unseen."""
    import hashlib

    rows, columns, colours = np.ogrid[:800, :1280, :3]
    frame = ((rows * 7 + columns * 3 + colours * 50 + rows * columns // 97) % 256).astype(np.uint8)
    assert hashlib.sha256(ego_view(frame[ROWS_KEPT, COLUMNS_KEPT]).tobytes()).hexdigest()[:16] == "37e684be705642c1"


def test_other_sizes_are_refused():
    """A whole frame is not what is kept of it."""
    with pytest.raises(ValueError, match="460, 1020"):
        ego_view(np.zeros((800, 1280, 3), np.uint8))
