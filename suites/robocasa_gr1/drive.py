"""Physics substeps and what the controllers do between them, in one compiled call: Python is not entered in between."""

from __future__ import annotations

import numpy as np
from numba import njit

from suites.common.machine_code import mj_step1, mj_step2


@njit(cache=True)
def advance(simulation, substeps, gains, goal, state, joints, dofs, motors, blocks, ctrl):
    """Simulate `substeps` times, with torques that drive `joints` (n,) towards `goal` (n,), radians.

    simulation: addresses (model, data). gains: (stiffness, damping). state: MuJoCo's qpos, qvel, qfrc_bias and qM.
    dofs, motors: (n,) where the joints' velocities and torques are. blocks: for each group of joints, in their order,
    the places in qM of its block of the mass matrix, (size, size) in Fortran order: BLAS rounds differently in another
    layout. Torques go to `ctrl`. The same operations in the same order as robosuite's, so every bit agrees.
    """
    qpos, qvel, bias, mass = state
    wanted = np.empty(len(goal))
    for _ in range(substeps):
        mj_step1(simulation[0], simulation[1])
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
        mj_step2(simulation[0], simulation[1])
