"""What `evalkit doctor` checks of LIBERO: the traps that move success rates without an error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evalkit.assets import Assets
from evalkit.doctor.findings import Finding, ok, problem
from evalkit.doctor.preflight import Scene, first_scene, judge_scene, read_golden
from evalkit.registry import load_suite
from evalkit.suite import EnvOptions
from suites.libero.upstream import init_states

#: Mean grey of the agentview's lowest `FLOOR_ROWS` rows in the first frame of libero_object task 0, where nothing but
#: floor is seen, by kind of assets (measured, MuJoCo 3.2.3). MuJoCo 3.3.3 and newer read the sRGB chunk of the floor's
#: PNG and darken the picture by 37; renderers differ by less than 2.
FLOOR_ROWS, FLOOR_TOLERANCE = 16, 12.0
FLOOR_GREY = {"real": 180.0, "altered": 180.0, "stand-in": 141.0}

#: The bowl on the ramekin (libero_spatial task 5): after the wait steps it lies where its init state puts it, moved by
#: no more than this to the side and tipped by no more. MuJoCo 3.4.0 and newer find boxes twice as deep in each other:
#: there it has fallen off in 50 of 50 init states, up to 3.3.7 in none.
SETTLE_TASK, SETTLE_BOWL = 5, "akita_black_bowl_1"
SETTLE_METRES, SETTLE_DEGREES = 0.03, 20.0


def check(assets: Assets, options: EnvOptions, renderer: str) -> Iterator[Finding]:
    """See `evalkit.doctor.preflight`."""
    suite = load_suite("libero_object")
    scene = first_scene(suite, 0, options)
    yield judge_scene(scene, read_golden(suite), assets, renderer)
    if scene.views:
        yield judge_floor(float(scene.views["agentview"][-FLOOR_ROWS:].mean()), assets.kind)
    scene.env.close()
    settled = first_scene(load_suite("libero_spatial"), SETTLE_TASK,
                          EnvOptions((), options.seed_policy, options.scenes, options.assets))
    yield judge_settling(*displacement(settled))
    settled.env.close()


def judge_floor(grey: float, kind: str) -> Finding:
    """grey: mean of the floor's pixels, 0 to 255."""
    expected = FLOOR_GREY[kind]
    found = f"mean grey {grey:.0f}, expected {expected:.0f} within {FLOOR_TOLERANCE:.0f} on {kind} assets"
    if abs(grey - expected) <= FLOOR_TOLERANCE:
        return ok("floor", found)
    return problem("floor", found + "; MuJoCo 3.3.3 and newer draw it darker by 37",
                   "rebuild the environment with its pinned MuJoCo, and check the assets")


def judge_settling(metres: float, degrees: float) -> Finding:
    """How far the bowl has moved to the side and tipped."""
    found = f"libero_spatial task {SETTLE_TASK}: the bowl moved {100 * metres:.1f} cm and tipped {degrees:.0f} degrees"
    if metres <= SETTLE_METRES and degrees <= SETTLE_DEGREES:
        return ok("settling", f"{found} (allowed {100 * SETTLE_METRES:.0f} cm, {SETTLE_DEGREES:.0f} degrees)")
    return problem("settling", f"{found}: it has fallen off the ramekin before the policy's first look, as with MuJoCo "
                   "3.4.0 and newer", "rebuild the environment with its pinned MuJoCo")


def displacement(scene: Scene) -> tuple[float, float]:
    """(metres to the side, degrees of tilt) of the bowl between its init state and the first observation."""
    upstream = scene.env.simulator
    model, data = upstream.sim.model, upstream.sim.data
    address = model.jnt_qposadr[model.body_jntadr[upstream.env.obj_body_id[SETTLE_BOWL]]]
    state = init_states(scene.env.suite.name, scene.env.task.name)[0]
    before = state[1 + address:8 + address]  # the state's first number is the time
    after = data.qpos[address:address + 7]
    turned = 2 * np.degrees(np.arccos(min(1.0, abs(float(np.dot(before[3:], after[3:]))))))
    return float(np.linalg.norm(after[:2] - before[:2])), float(turned)
