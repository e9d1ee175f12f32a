"""MuJoCo's constraint solver as upstream calls it, three times a substep, without what repeats from call to call.

Until MuJoCo 3.3.6 each call leaves another warm start for the next, in its last bits, so none may be left out. But only
the applied forces change between the three: the Hessian over constraints that are in the same state, the most costly
thing that a call computes, is equal bit for bit and kept. Nor is anything computed here that a call would throw away:
the Hessian and the direction after its last iteration, products that the check of the warm start has already made.

The algorithm, its constants and the order of its operations are those of MuJoCo 3.2.3 (engine_forward.c
`mj_fwdConstraint`, engine_solver.c `mj_solNewton`: Newton's method on the primal problem, exact line search), and its
linear algebra is MuJoCo's own. tests/libero/test_steps.py compares the outcome bit for bit, and `proof` does before
any process uses it.
"""

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np
from numba import njit

from suites.libero import compiled
from suites.libero.compiled import floats, follow, integers

_EQUALITY = int(mujoco.mjtConstraint.mjCNSTR_EQUALITY)
_FRICTION = int(mujoco.mjtConstraint.mjCNSTR_FRICTION_DOF), int(mujoco.mjtConstraint.mjCNSTR_FRICTION_TENDON)
_ELLIPTIC = int(mujoco.mjtConstraint.mjCNSTR_CONTACT_ELLIPTIC)
_QUADRATIC = int(mujoco.mjtConstraintState.mjCNSTRSTATE_QUADRATIC)
_CONE = int(mujoco.mjtConstraintState.mjCNSTRSTATE_CONE)
_TINY = mujoco.mjMINVAL

_OPTIONS = {"cache": True, "error_model": "numpy", "nogil": True}
#: For functions that compiled code alone calls: no door for Python, which takes numba longer to build than the rest.
_INNER = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


class Problem(NamedTuple):
    """What stays in place from step to step: vectors of mjData (nv,), room for matrices (nv nv,), options."""

    qacc: np.ndarray
    qacc_warmstart: np.ndarray
    qacc_smooth: np.ndarray
    qfrc_smooth: np.ndarray
    qfrc_constraint: np.ndarray
    solver_niter: np.ndarray
    solver_nnz: np.ndarray
    direct: np.ndarray
    updated: np.ndarray
    coned: np.ndarray
    scale: float
    tolerance: float
    ls_tolerance: float
    iterations: int
    ls_iterations: int


class Rows(NamedTuple):
    """The n constraints of one substep as mjData holds them; contacts are one memory, read by 8 or by 4 bytes."""

    kind: np.ndarray
    contact: np.ndarray
    jacobian: np.ndarray
    stiffness: np.ndarray
    compliance: np.ndarray
    frictionloss: np.ndarray
    reference: np.ndarray
    smooth: np.ndarray
    state: np.ndarray
    contact_floats: np.ndarray
    contact_integers: np.ndarray


def supports(model: mujoco.MjModel) -> bool:
    """Whether `solve`, and Euler's integration after it, do all that MuJoCo would do with this model."""
    option, jacobian = model.opt, mujoco.mjtJacobian
    dense = option.jacobian == jacobian.mjJAC_DENSE or (option.jacobian == jacobian.mjJAC_AUTO and model.nv < 60)
    return (dense and option.solver == mujoco.mjtSolver.mjSOL_NEWTON and option.noslip_iterations == 0
            and option.integrator == mujoco.mjtIntegrator.mjINT_EULER
            and option.enableflags == 0 and not option.disableflags & mujoco.mjtDisableBit.mjDSBL_WARMSTART)


def problem(model: mujoco.MjModel, data: mujoco.MjData) -> Problem:
    """The Problem that `solve` is given for `data`."""
    vectors = [getattr(data, name) for name in Problem._fields[:7]]
    matrices = [np.zeros(model.nv * model.nv) for _ in range(3)]
    scale = 1 / (model.stat.meaninertia * max(1, model.nv))
    return Problem(*vectors, *matrices, scale, model.opt.tolerance, model.opt.ls_tolerance, model.opt.iterations,
                   model.opt.ls_iterations)


@njit(**_OPTIONS)
def rows(data, at, nv):
    """The Rows of the mjData at address `data`; at: compiled.Offsets."""
    n = integers(data + at.nefc, 1)[0]
    contacts = follow(data + at.contact)
    size = n * at.contact_size  # as many bytes as the contacts have, or more
    return Rows(
        integers(follow(data + at.efc_type), n), integers(follow(data + at.efc_id), n),
        floats(follow(data + at.efc_J), n * nv), floats(follow(data + at.efc_D), n),
        floats(follow(data + at.efc_R), n), floats(follow(data + at.efc_frictionloss), n),
        floats(follow(data + at.efc_aref), n), floats(follow(data + at.efc_b), n),
        integers(follow(data + at.efc_state), n), floats(contacts, size // 8), integers(contacts, size // 4))


@njit(**_OPTIONS)
def solve(model, data, at, p, r, kept, smooth_cost):
    """What mj_fwdConstraint does. p: Problem; r: Rows; kept: (n,) of which rows in the quadratic state `p.direct` is
    the Hessian, all negative if of none; smooth_cost: what the last call returned if no force has changed since, else
    NaN.
    """
    n, nv = len(r.state), len(p.qacc)
    p.solver_niter[:] = 0
    if n == 0:
        p.qfrc_constraint[:] = 0
        copy(p.qacc_smooth, p.qacc)
        copy(p.qacc_smooth, p.qacc_warmstart)
        return smooth_cost

    residual, momentum, gradient, search = np.empty(n), np.empty(nv), np.empty(nv), np.empty(nv)
    before, room = np.empty(n, np.int32), np.empty(max(n, nv))
    if np.isnan(smooth_cost):
        relative_acceleration(model, data, p.qacc_smooth, r, r.smooth)
        smooth_cost = update(model, data, r.smooth, 0)
    copy(p.qacc_warmstart, p.qacc)
    relative_acceleration(model, data, p.qacc, r, residual)
    cost, total = start(model, data, p, residual, momentum)
    if total > smooth_cost:
        copy(p.qacc_smooth, p.qacc)
        copy(r.smooth, residual)
        cost, _ = start(model, data, p, residual, momentum)
    set_gradient(p, momentum, gradient)

    iteration, is_direct = 0, True
    while iteration < p.iterations:
        if iteration == 0:
            factor_directly(model, data, p, r, kept, room)
        else:
            is_direct = factor_incrementally(model, data, p, r, kept, before, is_direct, room)
        hessian = p.direct if is_direct else p.updated
        if add_cones(at, p, r, hessian):
            hessian = p.coned
        compiled.mju_chol_solve(search.ctypes.data, hessian.ctypes.data, gradient.ctypes.data, nv)
        for i in range(nv):
            search[i] *= -1.0
        if not move(model, data, at, p, r, residual, momentum, search):
            break
        iteration += 1
        copy(r.state, before)
        cost_before = cost
        cost = update(model, data, residual, 1) + gauss(p, momentum)
        if p.scale * (cost_before - cost) < p.tolerance:
            break
        set_gradient(p, momentum, gradient)
        if p.scale * compiled.mju_norm(gradient.ctypes.data, nv) < p.tolerance:
            break

    p.solver_niter[0] = iteration
    p.solver_nnz[0] = nv * nv
    copy(p.qacc, p.qacc_warmstart)
    return smooth_cost


@njit(**_INNER)
def copy(source, target):
    """Element by element: for `target[:] = source` numba compiles an error message for 3 s."""
    for i in range(len(target)):
        target[i] = source[i]


@njit(**_INNER)
def relative_acceleration(model, data, qacc, r, residual):
    """Write J qacc - reference to `residual` (n,)."""
    compiled.mj_mul_jac_vec(model, data, residual.ctypes.data, qacc.ctypes.data)
    for i in range(len(residual)):
        residual[i] -= r.reference[i]


@njit(**_INNER)
def update(model, data, residual, with_cones):
    """Set forces and states of the constraints for `residual` (n,), cones' Hessians if wanted; their cost."""
    cost = np.empty(1)
    compiled.mj_constraint_update(model, data, residual.ctypes.data, cost.ctypes.data, with_cones)
    return cost[0]


@njit(**_INNER)
def gauss(p, momentum):
    """The cost of deviating from the unconstrained motion. momentum: M qacc (nv,)."""
    total = 0.0
    for i in range(len(momentum)):
        total += 0.5 * (momentum[i] - p.qfrc_smooth[i]) * (p.qacc[i] - p.qacc_smooth[i])
    return total


@njit(**_INNER)
def start(model, data, p, residual, momentum):
    """The cost of p.qacc, as the solver adds it up and as the choice of a warm start does; sets `momentum`."""
    compiled.mj_mul_m(model, data, momentum.ctypes.data, p.qacc.ctypes.data)
    cost = total = update(model, data, residual, 1)
    for i in range(len(momentum)):
        total += 0.5 * (momentum[i] - p.qfrc_smooth[i]) * (p.qacc[i] - p.qacc_smooth[i])
    return cost + gauss(p, momentum), total


@njit(**_INNER)
def set_gradient(p, momentum, gradient):
    for i in range(len(gradient)):
        gradient[i] = momentum[i] - p.qfrc_smooth[i] - p.qfrc_constraint[i]


@njit(**_INNER)
def factor_directly(model, data, p, r, kept, room):
    """Make `p.direct` the factor of the Hessian M + J' D J over the rows that are in the quadratic state now."""
    n, nv = len(r.state), len(p.qacc)
    changed = False
    for i in range(n):
        quadratic = r.state[i] == _QUADRATIC
        changed = changed or kept[i] != quadratic
        kept[i] = quadratic
    if not changed:
        return
    for i in range(n):
        room[i] = r.stiffness[i] if kept[i] else 0.0
    direct = p.direct.ctypes.data
    compiled.mju_sqr_mat_td(direct, r.jacobian.ctypes.data, room.ctypes.data, n, nv)
    compiled.mj_add_m_dense(model, data, direct)
    compiled.mju_chol_factor(direct, nv, _TINY)


@njit(**_INNER)
def factor_incrementally(model, data, p, r, kept, before, is_direct, room):
    """Move the factor on from the states `before`: into `p.updated`, or anew into `p.direct` when accuracy is lost.
    Whether it is in `p.direct`."""
    nv = len(p.qacc)
    for i in range(len(r.state)):
        quadratic = r.state[i] == _QUADRATIC
        if quadratic == (before[i] == _QUADRATIC):
            continue
        if is_direct:
            copy(p.direct, p.updated)
            is_direct = False
        scale = np.sqrt(r.stiffness[i])
        for k in range(nv):
            room[k] = r.jacobian[i * nv + k] * scale
        if compiled.mju_chol_update(p.updated.ctypes.data, room.ctypes.data, nv, quadratic) < nv:
            factor_directly(model, data, p, r, kept, room)
            return True
    return is_direct


@njit(**_INNER)
def add_cones(at, p, r, hessian):
    """Make `p.coned` the factor `hessian` and the Hessians of contacts in the middle zone of their friction cones;
    whether there are any."""
    nv, i, found = len(p.qacc), 0, False
    while i < len(r.state):
        if r.state[i] != _CONE:
            i += 1
            continue
        if not found:
            copy(hessian, p.coned)
            found = True
        contact = r.contact[i] * at.contact_size
        dim, first = r.contact_integers[(contact + at.contact_dim) // 4], (contact + at.contact_H) // 8
        local, products = np.empty(dim * dim), np.zeros((dim, nv))
        copy(r.contact_floats[first:], local)
        compiled.mju_chol_factor(local.ctypes.data, dim, _TINY)
        for row in range(dim):
            for column in range(row + 1):
                for k in range(nv):
                    products[column, k] += r.jacobian[(i + row) * nv + k] * local[row * dim + column]
        for row in range(dim):
            compiled.mju_chol_update(p.coned.ctypes.data, products[row].ctypes.data, nv, 1)
        i += dim
    return found


@njit(**_INNER)
def move(model, data, at, p, r, residual, momentum, search):
    """Move acceleration, momentum and residual along `search` (nv,) to the least cost; whether that is any move."""
    n, nv = len(residual), len(search)
    length = compiled.mju_norm(search.ctypes.data, nv)
    if length < _TINY:
        return False
    momentum_along, residual_along = np.empty(nv), np.empty(n)
    compiled.mj_mul_m(model, data, momentum_along.ctypes.data, search.ctypes.data)
    compiled.mj_mul_jac_vec(model, data, residual_along.ctypes.data, search.ctypes.data)
    tangent = (compiled.mju_dot(search.ctypes.data, momentum.ctypes.data, nv)
               - compiled.mju_dot(p.qfrc_smooth.ctypes.data, search.ctypes.data, nv))
    curvature = 0.5 * compiled.mju_dot(search.ctypes.data, momentum_along.ctypes.data, nv)
    line = Line(gauss(p, momentum), tangent, curvature, parabolas(at, r, residual, residual_along), residual,
                residual_along)
    step = line_search(at, r, line, p.tolerance * p.ls_tolerance * length / p.scale, p.ls_iterations)
    if step == 0.0:
        return False
    for i in range(nv):
        p.qacc[i] += search[i] * step
        momentum[i] += momentum_along[i] * step
    for i in range(n):
        residual[i] += residual_along[i] * step
    return True


class Line(NamedTuple):
    """Cost along a direction: cost, tangent and curvature of the smooth part; (n, 3) of the constraints (an elliptic
    contact has 9 numbers in its first rows); the residual and its change (n,)."""

    gauss: float
    tangent: float
    curvature: float
    parabolas: np.ndarray
    residual: np.ndarray
    along: np.ndarray


@njit(**_INNER)
def parabolas(at, r, residual, along):
    """(3 n,) for Line."""
    n, i = len(residual), 0
    found = np.empty(3 * n)
    while i < n:
        here = 3 * i
        weighted = r.stiffness[i] * residual[i]
        constant, linear = residual[i] * weighted, along[i] * weighted
        square = along[i] * r.stiffness[i] * along[i]
        dim = 1
        if r.kind[i] == _ELLIPTIC:
            contact = r.contact[i] * at.contact_size
            dim = r.contact_integers[(contact + at.contact_dim) // 4]
            mu, friction = r.contact_floats[(contact + at.contact_mu) // 8], (contact + at.contact_friction) // 8
            uu = uv = vv = 0.0
            for j in range(1, dim):
                weighted = r.stiffness[i + j] * residual[i + j]
                constant += residual[i + j] * weighted
                linear += along[i + j] * weighted
                square += along[i + j] * r.stiffness[i + j] * along[i + j]
                u = residual[i + j] * r.contact_floats[friction + j - 1]
                v = along[i + j] * r.contact_floats[friction + j - 1]
                uu += u * u
                uv += u * v
                vv += v * v
            found[here + 3], found[here + 4] = residual[i] * mu, along[i] * mu
            found[here + 5], found[here + 6], found[here + 7] = uu, uv, vv
            found[here + 8] = r.stiffness[i] / ((mu * mu) * (1 + (mu * mu)))
        found[here], found[here + 1], found[here + 2] = constant * 0.5, linear, square * 0.5
        i += dim
    return found


@njit(**_INNER)
def evaluate(at, r, line, step):
    """(step, cost, first derivative, second derivative) at `step` along the line."""
    constant, linear, square = line.gauss, line.tangent, line.curvature
    cost = slope = bend = 0.0
    n, i = len(line.residual), 0
    while i < n:
        here, dim, whole = 3 * i, 1, False
        if r.kind[i] == _EQUALITY:
            whole = True
        elif r.kind[i] == _FRICTION[0] or r.kind[i] == _FRICTION[1]:
            start, direction = line.residual[i], line.along[i]
            x, force = start + step * direction, r.frictionloss[i]
            bound = r.compliance[i] * force
            whole = -bound < x and x < bound
            if not whole and x <= -bound:
                constant += force * (-0.5 * bound - start)
                linear += -force * direction
            elif not whole:
                constant += force * (-0.5 * bound + start)
                linear += force * direction
        elif r.kind[i] == _ELLIPTIC:
            contact = r.contact[i] * at.contact_size
            dim = r.contact_integers[(contact + at.contact_dim) // 4]
            mu = r.contact_floats[(contact + at.contact_mu) // 8]
            whole, more_cost, more_slope, more_bend = cone(line.parabolas, here, mu, step)
            cost += more_cost
            slope += more_slope
            bend += more_bend
        else:
            whole = line.residual[i] + step * line.along[i] < 0
        if whole:
            constant += line.parabolas[here]
            linear += line.parabolas[here + 1]
            square += line.parabolas[here + 2]
        i += dim
    cost += step * step * square + step * linear + constant
    slope += 2 * step * square + linear
    bend += 2 * square
    return step, cost, slope, (_TINY if bend <= 0 else bend)


@njit(**_INNER)
def cone(parabolas, here, mu, step):
    """An elliptic contact at `step`: (is it its whole parabola, cost and two derivatives in the cone's middle zone)."""
    u0, v0, uu, uv = parabolas[here + 3], parabolas[here + 4], parabolas[here + 5], parabolas[here + 6]
    vv, stiffness = parabolas[here + 7], parabolas[here + 8]
    normal = u0 + step * v0
    square = uu + step * (2 * uv + step * vv)
    if square <= 0:
        return normal < 0, 0.0, 0.0, 0.0
    tangent = np.sqrt(square)
    if normal >= mu * tangent:
        return False, 0.0, 0.0, 0.0
    if mu * normal + tangent <= 0:
        return True, 0.0, 0.0, 0.0
    tangent1 = (uv + step * vv) / tangent
    tangent2 = vv / tangent - (uv + step * vv) * tangent1 / (tangent * tangent)
    inside, inside1 = normal - mu * tangent, v0 - mu * tangent1
    return (False, 0.5 * stiffness * inside * inside, stiffness * inside * inside1,
            stiffness * (inside1 * inside1 + inside * (-mu * tangent2)))


@njit(**_INNER)
def line_search(at, r, line, tolerance, evaluations):
    """The step of least cost along the line: Newton's method, then bisection between brackets. Points are tuples of
    `evaluate`."""
    origin = evaluate(at, r, line, 0.0)
    near = evaluate(at, r, line, newton(origin))
    if origin[1] < near[1]:
        near = origin
    if abs(near[2]) < tolerance:
        return near[0]
    direction = 1 if near[2] < 0 else -1
    count, far, moved = 2, near, False
    while near[2] * direction <= -tolerance and count < evaluations:
        far, moved = near, True
        near = evaluate(at, r, line, newton(near))
        count += 1
        if abs(near[2]) < tolerance:
            return near[0]
    if count >= evaluations or not moved:
        return near[0]

    beyond_near, beyond_far = evaluate(at, r, line, newton(near)), near
    count += 1
    while count < evaluations:
        middle = evaluate(at, r, line, 0.5 * (near[0] + far[0]))
        count += 1
        candidates = (beyond_near, beyond_far, middle)
        best = -1
        for k in range(3):
            if abs(candidates[k][2]) < tolerance and (best == -1 or candidates[k][1] < candidates[best][1]):
                best = k
        if best >= 0:
            return candidates[best][0]
        near, near_moved = bracket(near, candidates)
        if near_moved:
            beyond_near = evaluate(at, r, line, newton(near))
            count += 1
        far, far_moved = bracket(far, candidates)
        if far_moved:
            beyond_far = evaluate(at, r, line, newton(far))
            count += 1
        if not near_moved and not far_moved:
            return middle[0]
    if near[1] <= far[1] and near[1] < origin[1]:
        return near[0]
    if far[1] <= near[1] and far[1] < origin[1]:
        return far[0]
    return 0.0


@njit(**_INNER)
def newton(point):
    return point[0] - point[2] / point[3]


@njit(**_INNER)
def bracket(point, candidates):
    """The candidate nearest to the minimum on the side of `point`, if nearer than it; whether one is."""
    moved = False
    for candidate in candidates:
        if (point[2] < 0 and candidate[2] < 0 and point[2] < candidate[2]) or (
                point[2] > 0 and candidate[2] > 0 and point[2] > candidate[2]):
            point, moved = candidate, True
    return point, moved
