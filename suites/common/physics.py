"""Parts of MuJoCo's physics that nobody needs, left out for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mujoco


@contextlib.contextmanager
def disabled(model: mujoco.MjModel, part: mujoco.mjtDisableBit) -> Iterator[None]:
    """Within it, MuJoCo leaves out `part` of the computation on `model`."""
    before = model.opt.disableflags
    model.opt.disableflags = before | part
    try:
        yield
    finally:
        model.opt.disableflags = before
