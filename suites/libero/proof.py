"""Whether `solver` has MuJoCo's bits on this machine: compilers may round differently on another kind of CPU."""

from __future__ import annotations

import copy
from functools import cache

import mujoco
import numpy as np

from suites.libero import solver
from suites.libero.compiled import find_offsets

#: Balls, boxes and capsules thrown onto one another, with contacts of every dimension, a hinge with dry friction and
#: limits, a tendon with limits, and a pair tied together: rougher than LIBERO's scenes.
_SCENE = """<mujoco><option cone="{cone}" impratio="{impratio}" tolerance="{tolerance}"/>
<default><geom friction="0.8 0.02 0.01"/></default><worldbody><geom type="plane" size="9 9 1" condim="3"/>
{bodies}<body pos="0 0 0.5"><joint name="hinge" axis="0 1 0" frictionloss="0.3" limited="true" range="-20 20"/>
<joint name="slide" type="slide" axis="1 0 0" damping="0.1"/><geom type="capsule" size="0.05 0.3" mass="1"/></body>
</worldbody><tendon><fixed limited="true" range="-0.1 0.1" frictionloss="0.1"><joint joint="hinge" coef="1"/>
<joint joint="slide" coef="0.5"/></fixed></tendon>
<equality><connect body1="thing0" body2="thing1" anchor="0 0 0.1"/></equality>
<actuator><motor joint="slide" gear="20"/></actuator></mujoco>"""
_SHAPES = (("sphere", "0.1"), ("box", "0.1 0.08 0.06"), ("capsule", "0.06 0.1"))

#: What a call of the solver leaves in mjData.
OUTCOME = ("qacc", "qacc_warmstart", "qfrc_constraint", "efc_force", "efc_state", "efc_b", "solver_niter", "solver_nnz")

#: Steps that are compared before the solver is used; a scene has tumbled over itself by then.
STEPS = 60


@cache
def holds() -> bool:
    """Whether the solver agrees with MuJoCo's in this process, on both kinds of friction cones."""
    return all(difference(rough_scene(cone, impratio), STEPS) is None
               for cone, impratio in (("elliptic", 20), ("pyramidal", 1)))


def rough_scene(cone: str, impratio: float, tolerance: float = 1e-8) -> mujoco.MjModel:
    """Seven things and a hinged pole on a floor."""
    bodies = "".join(
        f'<body name="thing{number}" pos="{0.17 * (number % 3)} {0.1 * (number // 3)} {0.15 + 0.16 * (number % 4)}" '
        f'euler="{20 * number} {35 * number} 0"><freejoint/><geom type="{_SHAPES[number % 3][0]}" '
        f'size="{_SHAPES[number % 3][1]}" condim="{(1, 3, 4, 6)[number % 4]}"/></body>' for number in range(7))
    return mujoco.MjModel.from_xml_string(_SCENE.format(cone=cone, impratio=impratio, tolerance=tolerance,
                                                        bodies=bodies))


def difference(model: mujoco.MjModel, steps: int, states: set[tuple[int, int]] | None = None) -> str | None:
    """Where the solver and MuJoCo's first differ while `model` tumbles for `steps` steps; None: nowhere.

    As in a substep, two calls under one force and a third under another. states: collects (type, state) of the
    constraints that occurred.
    """
    ours = mujoco.MjData(model)
    problem, at, generator = solver.problem(model, ours), find_offsets(), np.random.default_rng(0)
    for step in range(steps):
        ours.qvel += generator.normal(size=model.nv) * (step % 50 == 0)
        mujoco.mj_step1(model, ours)
        theirs = copy.copy(ours)
        rows = solver.rows(ours._address, at, model.nv)
        kept, cost = np.full(len(rows.state), -1, np.int8), np.nan
        for call in range(3):
            force = generator.normal() if call == 2 else ours.ctrl[0]
            for data in (ours, theirs):
                data.ctrl[0] = force
                mujoco.mj_fwdActuation(model, data)
                mujoco.mj_fwdAcceleration(model, data)
            mujoco.mj_fwdConstraint(model, theirs)
            cost = solver.solve(model._address, ours._address, at, problem, rows, kept, np.nan if call != 1 else cost)
            for name in OUTCOME:
                if getattr(ours, name).tobytes() != getattr(theirs, name).tobytes():
                    return f"{name}, call {call} of step {step}"
        if states is not None:
            states.update(zip(ours.efc_type.tolist(), ours.efc_state.tolist()))
        mujoco.mj_Euler(model, ours)
    return None
