"""The constraint solver has MuJoCo's bits in every kind and state of constraint, on scenes rougher than LIBERO's."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.simulator


@pytest.mark.parametrize(("cone", "impratio", "tolerance"), [("elliptic", 20, 1e-8), ("elliptic", 1, 1e-14),
                                                             ("pyramidal", 1, 1e-8)])
def test_solver_has_mujocos_bits(cone, impratio, tolerance, make_env):
    import mujoco

    from suites.libero import proof, solver

    model, states = proof.rough_scene(cone, impratio, tolerance), set()
    assert solver.supports(model)
    assert proof.difference(model, 400, states) is None
    assert len(states) >= 11, "equality, friction both ways, limits, contacts; active and not"
    if cone == "elliptic":
        middle = int(mujoco.mjtConstraint.mjCNSTR_CONTACT_ELLIPTIC), int(mujoco.mjtConstraintState.mjCNSTRSTATE_CONE)
        assert middle in states


def test_a_solver_with_other_bits_is_not_used(make_env, monkeypatch):
    """As on a machine whose compiler rounds differently: the proof fails, and MuJoCo's own solver does the work."""
    from suites.libero import proof, solver

    def last_bit_off(model, data, at, problem, *rest):
        cost = right(model, data, at, problem, *rest)
        problem.qacc[0] *= 1 + 2**-52
        return cost

    right = solver.solve
    proof.holds.cache_clear()
    monkeypatch.setattr(solver, "solve", last_bit_off)
    assert not proof.holds()
    proof.holds.cache_clear()
    monkeypatch.undo()
    assert proof.holds()


def test_other_models_are_left_to_mujoco(make_env):
    """Those with another algorithm, storage or stage than `solve` has."""
    import mujoco

    from suites.libero import solver

    for option in ('solver="CG"', 'jacobian="sparse"', 'noslip_iterations="2"', 'integrator="implicitfast"'):
        assert not solver.supports(mujoco.MjModel.from_xml_string(f"<mujoco><option {option}/></mujoco>"))
