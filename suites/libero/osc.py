"""Motor torques and finger commands of robosuite 1.4.0's OSC_POSE controller, in one compiled call a substep.

The linear algebra is upstream's own compiled functions (robosuite/utils/control_utils.py) on arrays of the same values
and the same memory layout: BLAS rounds differently in another layout. What lies between them is elementwise, with the
same operations in the same order as controllers/osc.py `run_controller`, so every bit agrees.

Import it only after `suites.libero.upstream.import_upstream`.
"""

from __future__ import annotations

import numba
import numpy as np
from robosuite.utils.control_utils import nullspace_torques, opspace_matrices, orientation_error


@numba.njit(cache=True)
def drive(position, rotation, goal_position, goal_rotation, jacobian, inertia, entries, qpos, qvel, bias, stiffness,
          damping, rest, motors, low, high, grip, grip_speed, fingers, middle, half):
    """Write the arm's clipped torques (N m) to `motors` (n,) and the gripper's commands to `fingers` (2,).

    The arm's n joints are the first of the model's. jacobian: (2, 3, nv) of the hand, linear and angular. inertia: the
    sparse one of mjData; entries: (n, n) where it holds the arm's. qvel: (nv,); qpos, bias, rest, low, high: (n,).
    position (3,), rotation (3, 3): the hand, and its goal_. stiffness, damping: (6,). grip: (2,) integrated gripper
    action in [-1, 1], moved on by grip_speed in place; fingers are commanded to middle + half * grip.
    """
    size = len(motors)
    # Columns taken by an index list are in Fortran order upstream.
    j_full = np.empty((size, 6)).T
    j_pos, j_ori = np.empty((size, 3)).T, np.empty((size, 3)).T
    mass = np.empty((size, size)).T
    for column in range(size):
        for row in range(3):
            j_pos[row, column] = j_full[row, column] = jacobian[0, row, column]
            j_ori[row, column] = j_full[row + 3, column] = jacobian[1, row, column]
        for row in range(size):
            mass[row, column] = inertia[entries[row, column]]

    velocity = np.empty(6)
    velocity[:3], velocity[3:] = np.dot(jacobian[0], qvel), np.dot(jacobian[1], qvel)
    error = np.empty(6)
    error[:3], error[3:] = goal_position - position, orientation_error(goal_rotation, rotation)
    wanted = error * stiffness + -velocity * damping
    _, lambda_pos, lambda_ori, nullspace = opspace_matrices(mass, j_full, j_pos, j_ori)
    wrench = np.empty(6)
    wrench[:3], wrench[3:] = np.dot(lambda_pos, wanted[:3]), np.dot(lambda_ori, wanted[3:])
    torques = np.dot(j_full.T, wrench) + bias
    torques += nullspace_torques(mass, nullspace, rest, qpos, qvel[:size])
    motors[:] = np.minimum(np.maximum(torques, low), high)
    grip[:] = np.minimum(np.maximum(grip + grip_speed, -1.0), 1.0)
    fingers[:] = middle + half * grip
