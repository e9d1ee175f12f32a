"""Physics substeps and what the controllers do between them, in one compiled call.

Each substep is MuJoCo's own `mj_step1` and `mj_step2`, called by their addresses in the library that Python's mujoco
has loaded; Python itself is not entered in between. An error in MuJoCo itself (its arena full, say) therefore ends the
process instead of raising; what simulates runs in a worker whose death is an error of its episode.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import mujoco
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic


@cache
def stage(name: str) -> int:
    """Address of MuJoCo's function ``name(model, data)``."""
    (library,) = Path(mujoco.__file__).parent.glob("libmujoco.so*")
    return ctypes.cast(getattr(ctypes.CDLL(str(library)), name), ctypes.c_void_p).value


@intrinsic
def _call(typing, function, model, data):
    """Call the C function at the address `function` with two addresses; it returns nothing."""

    def generate(context, builder, signature, arguments):
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word, word])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@njit(cache=True)
def advance(stages, simulation, substeps, gains, goal, state, joints, dofs, motors, blocks, ctrl):
    """Simulate `substeps` times, with torques that drive `joints` (n,) towards `goal` (n,), radians.

    stages, simulation: addresses (step1, step2) and (model, data). gains: (stiffness, damping). state: MuJoCo's qpos,
    qvel, qfrc_bias and qM. dofs, motors: (n,) where the joints' velocities and torques are. blocks: for each group of
    joints, in their order, the places in qM of its block of the mass matrix, (size, size) in Fortran order: BLAS rounds
    differently in another layout. Torques go to `ctrl`. The same operations in the same order as robosuite's, so every
    bit agrees.
    """
    qpos, qvel, bias, mass = state
    wanted = np.empty(len(goal))
    for _ in range(substeps):
        _call(stages[0], simulation[0], simulation[1])
        for index in range(len(goal)):
            wanted[index] = (goal[index] - qpos[joints[index]]) * gains[0] - qvel[dofs[index]] * gains[1]
        start = 0
        for places in blocks:
            size = len(places)
            block = np.empty((size, size)).T
            for column in range(size):
                for row in range(size):
                    block[row, column] = mass[places[row, column]]
            torque = np.dot(block, wanted[start:start + size])
            for index in range(size):
                ctrl[motors[start + index]] = torque[index] + bias[dofs[start + index]]
            start += size
        _call(stages[1], simulation[0], simulation[1])
