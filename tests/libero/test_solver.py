"""The constraint solver has MuJoCo's bits in every kind and state of constraint, on scenes rougher than LIBERO's."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytestmark = pytest.mark.simulator

#: Balls, boxes and capsules thrown onto one another, with contacts of every dimension, a hinge with dry friction and
#: limits, a tendon with limits, and a pair tied together.
SCENE = """<mujoco><option cone="{cone}" impratio="{impratio}" tolerance="{tolerance}"/>
<default><geom friction="0.8 0.02 0.01"/></default><worldbody><geom type="plane" size="9 9 1" condim="3"/>
{bodies}<body pos="0 0 0.5"><joint name="hinge" axis="0 1 0" frictionloss="0.3" limited="true" range="-20 20"/>
<joint name="slide" type="slide" axis="1 0 0" damping="0.1"/><geom type="capsule" size="0.05 0.3" mass="1"/></body>
</worldbody><tendon><fixed limited="true" range="-0.1 0.1" frictionloss="0.1"><joint joint="hinge" coef="1"/>
<joint joint="slide" coef="0.5"/></fixed></tendon>
<equality><connect body1="thing0" body2="thing1" anchor="0 0 0.1"/></equality>
<actuator><motor joint="slide" gear="20"/></actuator></mujoco>"""

OUTCOME = ("qacc", "qacc_warmstart", "qfrc_constraint", "efc_force", "efc_state", "efc_b", "solver_niter", "solver_nnz")


def scene(cone: str, impratio: float, tolerance: float):
    import mujoco

    kinds = [("sphere", "0.1"), ("box", "0.1 0.08 0.06"), ("capsule", "0.06 0.1")]
    bodies = "".join(
        f'<body name="thing{number}" pos="{0.17 * (number % 3)} {0.1 * (number // 3)} {0.15 + 0.16 * (number % 4)}" '
        f'euler="{20 * number} {35 * number} 0"><freejoint/><geom type="{kinds[number % 3][0]}" '
        f'size="{kinds[number % 3][1]}" condim="{(1, 3, 4, 6)[number % 4]}"/></body>' for number in range(7))
    text = SCENE.format(cone=cone, impratio=impratio, tolerance=tolerance, bodies=bodies)
    return mujoco.MjModel.from_xml_string(text)


def outcome(data) -> dict[str, bytes]:
    return {name: getattr(data, name).tobytes() for name in OUTCOME}


@pytest.mark.parametrize(("cone", "impratio", "tolerance"), [("elliptic", 20, 1e-8), ("elliptic", 1, 1e-14),
                                                             ("pyramidal", 1, 1e-8)])
def test_solver_has_mujocos_bits(cone, impratio, tolerance, make_env):
    """Two calls under one force and a third under another, as in a substep, over a tumbling scene."""
    import mujoco

    from suites.libero import solver
    from suites.libero.compiled import find_offsets

    model = scene(cone, impratio, tolerance)
    ours = mujoco.MjData(model)
    problem, at, generator, states = solver.problem(model, ours), find_offsets(), np.random.default_rng(0), set()
    assert solver.supports(model)
    for step in range(400):
        ours.qvel += generator.normal(size=model.nv) * (step % 50 == 0)
        mujoco.mj_step1(model, ours)
        theirs = copy.copy(ours)
        rows = solver.rows(ours._address, at, model.nv)
        kept, cost = np.full(len(rows.state), -1, np.int8), np.nan
        for call in range(3):
            ctrl = generator.normal() if call == 2 else ours.ctrl[0]
            for data in (ours, theirs):
                data.ctrl[0] = ctrl
                mujoco.mj_fwdActuation(model, data)
                mujoco.mj_fwdAcceleration(model, data)
            mujoco.mj_fwdConstraint(model, theirs)
            cost = solver.solve(model._address, ours._address, at, problem, rows, kept, np.nan if call != 1 else cost)
            assert outcome(ours) == outcome(theirs), f"call {call} of step {step}"
        states |= set(zip(ours.efc_type.tolist(), ours.efc_state.tolist()))
        mujoco.mj_Euler(model, ours)
    assert len(states) >= 11, "equality, friction both ways, limits, contacts; active and not"
    if cone == "elliptic":
        middle = int(mujoco.mjtConstraint.mjCNSTR_CONTACT_ELLIPTIC), int(mujoco.mjtConstraintState.mjCNSTRSTATE_CONE)
        assert middle in states


def test_other_models_are_left_to_mujoco(make_env):
    """Those with another algorithm, storage or stage than `solve` has."""
    import mujoco

    from suites.libero import solver

    for option in ('solver="CG"', 'jacobian="sparse"', 'noslip_iterations="2"'):
        assert not solver.supports(mujoco.MjModel.from_xml_string(f"<mujoco><option {option}/></mujoco>"))
