"""From the ego camera's frame to the view that policies get: upstream's crops and resizes, exactly."""

from __future__ import annotations

import cv2
import numpy as np

from suites.robocasa_gr1.suite import EGO_FRAME, VIEW

#: Rows and columns that are kept, the size (width, height) they are squeezed into, and the black rows put above and
#: below (upstream's gymnasium_groot.py, process_img_cotrain).
ROWS_KEPT, COLUMNS_KEPT, SQUEEZED, BLACK_ROWS = slice(310, 770), slice(110, 1130), (720, 480), 120


def ego_view(frame: np.ndarray) -> np.ndarray:
    """The (256, 256, 3) uint8 view of an upright ego `frame` (800, 1280, 3). Raises ValueError on another size.

    Both resizes are bilinear without anti-aliasing: upstream passes INTER_AREA where OpenCV expects an output array,
    so its default holds, and the policies were trained on what comes out.
    """
    if frame.shape != (*EGO_FRAME, 3):
        raise ValueError(f"an ego frame is {(*EGO_FRAME, 3)}, got {frame.shape}")
    squeezed = cv2.resize(frame[ROWS_KEPT, COLUMNS_KEPT], SQUEEZED, interpolation=cv2.INTER_LINEAR)
    padded = np.pad(squeezed, ((BLACK_ROWS, BLACK_ROWS), (0, 0), (0, 0)))
    return cv2.resize(padded, VIEW[::-1], interpolation=cv2.INTER_LINEAR)
