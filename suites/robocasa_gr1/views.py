"""From the ego camera's frame to the view that policies get: upstream's crops and resizes, exactly."""

from __future__ import annotations

import cv2
import numpy as np

from suites.robocasa_gr1.suite import VIEW

#: Rows and columns that are kept, the size (width, height) they are squeezed into, and the black rows put above and
#: below (upstream's gymnasium_groot.py, process_img_cotrain).
ROWS_KEPT, COLUMNS_KEPT, SQUEEZED, BLACK_ROWS = slice(310, 770), slice(110, 1130), (720, 480), 120


#: Height and width of the part that is kept.
KEPT = (ROWS_KEPT.stop - ROWS_KEPT.start, COLUMNS_KEPT.stop - COLUMNS_KEPT.start)


def ego_view(part: np.ndarray) -> np.ndarray:
    """The (256, 256, 3) uint8 view of the `part` (460, 1020, 3) that is kept of an upright ego frame (800, 1280, 3).

    Both resizes are bilinear without anti-aliasing: upstream passes INTER_AREA where OpenCV expects an output array,
    so its default holds, and the policies were trained on what comes out. Raises ValueError on another size.
    """
    if part.shape != (*KEPT, 3):
        raise ValueError(f"the part of an ego frame that is kept is {(*KEPT, 3)}, got {part.shape}")
    squeezed = cv2.resize(part, SQUEEZED, interpolation=cv2.INTER_LINEAR)
    padded = np.pad(squeezed, ((BLACK_ROWS, BLACK_ROWS), (0, 0), (0, 0)))
    return cv2.resize(padded, VIEW[::-1], interpolation=cv2.INTER_LINEAR)
