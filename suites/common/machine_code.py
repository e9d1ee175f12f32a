"""MuJoCo's C functions for code that numba compiles.

They are those of the very library that the mujoco package has loaded, so their bits are its bits. An error that MuJoCo
calls fatal (its memory is exhausted, say) ends the process here, where the package would raise: rollout workers report
a dead process as an error and try the episode again.
"""

from __future__ import annotations

from pathlib import Path

import llvmlite.binding
import mujoco
from numba import types

llvmlite.binding.load_library_permanently(str(next(Path(mujoco.__file__).parent.glob("libmujoco.so*"))))

#: Of mjModel, mjData and arrays.
ADDRESS = types.intp


def function(name: str, *arguments: types.Type, returns: types.Type = types.void) -> types.ExternalFunction:
    """MuJoCo's `name`; mjModel, mjData and arrays are addresses."""
    return types.ExternalFunction(name, returns(*arguments))


mj_step1, mj_step2 = function("mj_step1", ADDRESS, ADDRESS), function("mj_step2", ADDRESS, ADDRESS)
