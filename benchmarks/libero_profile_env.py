"""Where a LIBERO step, reset and episode of one task spend their time, inside LIBERO's interpreter, in one process.

    python -m benchmarks.libero_profile_env ASSETS SUITE TASK

Upstream's own environment in its own loop, evalkit beside it, and the physics alone. Prints one JSON object last. All
times are CPU times of the process: other work on the machine disturbs them less than it does the wall clock.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from baselines.random import Random
from benchmarks.parts import Parts, least, seconds
from evalkit.episode import Episode
from evalkit.registry import load_suite
from evalkit.rollout import run_episode
from evalkit.suite import EnvOptions
from evalkit.testing import random_actions
from suites.libero import upstream
from suites.libero.env import LiberoEnv, make_upstream_env
from suites.libero.suite import WAIT_ACTION, WAIT_STEPS

VIEWS = ("agentview", "wrist")

#: Steps timed, rounds of all that is timed (the least disturbed one counts), steps with pictures of upstream's loop.
STEPS, ROUNDS, RENDERED_STEPS = 32, 3, 3

SUBSTEPS = "substeps"

#: The episode: a policy that looks once in `CHUNK` steps, and success is not waited for.
EPISODE_STEPS, CHUNK = 96, 8


def step_costs(env: LiberoEnv, script: Any, episode: Episode) -> dict[str, float]:
    """ms of a step: means over random actions of the least disturbed of `ROUNDS` rounds. In each one every variant
    executes the same actions on the same states, `CHUNK` of them in a row, as rollouts do."""
    import mujoco

    model, data = env.simulator.sim.model._model, env.simulator.sim.data._data
    spare, everything = mujoco.MjData(model), mujoco.mjtState.mjSTATE_INTEGRATION

    def state() -> np.ndarray:
        found = np.empty(mujoco.mj_stateSize(model, everything))
        mujoco.mj_getState(model, data, found, everything)
        return found

    def physics() -> None:
        for _ in range(25):
            mujoco.mj_step(model, spare)

    def solved_thrice() -> None:
        for _ in range(25):
            mujoco.mj_step1(model, spare)
            mujoco.mj_forwardSkip(model, spare, mujoco.mjtStage.mjSTAGE_VEL, 1)
            mujoco.mj_fwdConstraint(model, spare)
            mujoco.mj_step2(model, spare)

    def from_state(start: np.ndarray, run: Callable[[], None]) -> float:
        mujoco.mj_setState(model, spare, start, everything)
        return seconds(run)

    def one_turn(actions: list[np.ndarray]) -> list[dict[str, float]]:
        states, ours = zip(*((state(), seconds(env.step, action, False)) for action in actions))
        columns = {"25 x mj_step": [from_state(start, physics) for start in states],
                   "the same, solver passes as upstream": [from_state(start, solved_thrice) for start in states],
                   "upstream's step": [seconds(script.step, action) for action in actions], "evalkit's step": ours}
        if env.simulator.get_sim_state().tobytes() != script.get_sim_state().tobytes():
            raise RuntimeError(f"{episode.id}: evalkit's steps and upstream's end in different states")
        return [dict(zip(columns, row)) for row in zip(*columns.values())]

    def one_round() -> list[dict[str, float]]:
        env.reset(episode)
        begin(script, episode, env)
        actions = random_actions(env.suite, STEPS)
        return [row for first in range(0, STEPS, CHUNK) for row in one_turn(actions[first:first + CHUNK])]

    steps = list(zip(*(one_round() for _ in range(ROUNDS))))
    return {name: 1000 * statistics.fmean(min(row[name] for row in rounds) for rounds in steps)
            for name in steps[0][0]}


def begin(script: Any, episode: Episode, env: LiberoEnv) -> None:
    """Bring upstream's environment to where `env` is after its reset."""
    gripper = script.robots[0].gripper
    np.random.seed(episode.seed)
    script.env.hard_reset = False
    script.env.reset()
    gripper.current_action = np.zeros(gripper.dof)
    script.sim.model.body_pos[:] = env.simulator.sim.model.body_pos
    script.sim.model.body_quat[:] = env.simulator.sim.model.body_quat
    script.sim.data.qacc_warmstart[:] = script.sim.data.ctrl[:] = 0
    script.set_init_state(upstream.init_states(episode.suite, env.task.name)[episode.index])
    for _ in range(WAIT_STEPS):
        script.step(np.array(WAIT_ACTION))


def step_parts(env: LiberoEnv, script: Any, episode: Episode) -> dict[str, dict[str, float]]:
    """ms of a step in each part, least disturbed round; calls that are timed cost up to 1 us each. What evalkit's
    compiled loop over the substeps does is timed by itself, in the state after the steps."""
    from suites.libero import control

    inner = script.env
    theirs = [(inner.sim, "step", "mj_step"), (inner.sim, "forward", "2 mj_forward a substep"),
              (inner.robots[0], "control", "controller and gripper"),
              (inner, "_update_observables", "observables"), (inner, "_get_observations", "observables"),
              (inner, "_check_success", "success, twice")]
    ours = [(control, "simulate", SUBSTEPS), (control.Arm, "aim", "action taken up"),
            (env._control_step, "_goal", "success, once")]
    found = {"upstream": [], "evalkit": []}
    for _ in range(ROUNDS):
        env.reset(episode)
        begin(script, episode, env)
        turns, ours_turns = (iter(random_actions(env.suite, STEPS)) for _ in range(2))
        found["upstream"].append(Parts().of(lambda turns=turns: script.step(next(turns)), theirs, STEPS))
        found["evalkit"].append(Parts().of(lambda turns=ours_turns: env.step(next(turns), False), ours, STEPS))
    costs = {loop: least(runs) for loop, runs in found.items()}
    loop = {name: 1000 * min(seconds(run) for _ in range(10 * ROUNDS)) for name, run in compiled_parts(env).items()}
    loop["integration and all else in the loop"] = costs["evalkit"].pop(SUBSTEPS) - sum(loop.values())
    return costs | {"evalkit": loop | costs["evalkit"]}


def compiled_parts(env: LiberoEnv) -> dict[str, Callable[[], None]]:
    """What the compiled loop calls in the substeps of a control step, part by part, over and over in one state."""
    from numba import njit

    from suites.common.machine_code import mj_step1
    from suites.libero import compiled, solver
    from suites.libero.osc import drive

    arm = env._control_step._arm
    model, data, at, problem, solves, site, position, rotation = arm._simulator
    _, _, _, goal_position, goal_rotation, *arguments = arm._action
    arguments = position, rotation, goal_position, goal_rotation, *arguments
    if not solves:
        raise RuntimeError(f"{env.task.name}: its model is beyond evalkit's solver; take another task")

    @njit
    def stages(times):
        for _ in range(times):
            mj_step1(model, data)

    @njit
    def passes(times, problem, warm):
        rows = solver.rows(data, at, len(warm))
        for _ in range(times):
            problem.qacc_warmstart[:] = warm
            kept = np.full(len(rows.state), -1, np.int8)
            cost = np.nan
            for forces_as_before in (False, True, False):
                if not forces_as_before:
                    compiled.mj_fwd_actuation(model, data)
                    compiled.mj_fwd_acceleration(model, data)
                    cost = np.nan
                cost = solver.solve(model, data, at, problem, rows, kept, cost)

    @njit
    def controller(times, *arguments):
        for _ in range(times):
            compiled.mj_jac_site(model, data, arguments[4][0].ctypes.data, arguments[4][1].ctypes.data, site)
            drive(*arguments)

    warm = problem.qacc_warmstart.copy()
    parts = {"position and velocity stages": lambda: stages(arm.substeps),
             "3 solver passes a substep": lambda: passes(arm.substeps, problem, warm),
             "controller and gripper": lambda: controller(arm.substeps, *arguments)}
    for run in parts.values():
        run()
    return parts


def reset_parts(env: LiberoEnv, script: Any, episode: Episode) -> dict[str, dict[str, float]]:
    """ms of a reset without cameras up to the first query, part by part: upstream's as it comes, and evalkit's."""
    inner, init_state = script.env, upstream.init_states(episode.suite, env.task.name)[episode.index]
    ours = env.simulator.env

    def start_upstream() -> None:
        script.env.hard_reset = True
        script.reset()
        script.set_init_state(init_state)
        for _ in range(WAIT_STEPS):
            script.step(np.array(WAIT_ACTION))

    theirs = [(inner, "_load_model", "XML built"), (inner, "_destroy_sim", "simulation freed"),
              (inner, "_initialize_sim", "model compiled"), (inner, "_reset_internal", "controller, placement"),
              (inner, "_setup_observables", "observables"), (inner, "_get_observations", "observables"),
              (script, "set_init_state", "init state"), (inner, "step", "10 wait steps")]
    mine = [(ours, "_reset_internal", "controller, placement"), (ours, "_get_observations", "observables"),
            (env.simulator, "set_init_state", "init state"), (env, "_advance", "10 wait steps")]
    return {"upstream": least([Parts().of(start_upstream, theirs, 1) for _ in range(ROUNDS)]),
            "evalkit": least([Parts().of(lambda: env.reset(episode), mine, 1) for _ in range(ROUNDS)])}


def episode_costs(suite: str, task: int, assets: Path) -> dict[str, dict[str, float]]:
    """Seconds of an episode of `EPISODE_STEPS` steps with both cameras: upstream's loop (steps extrapolated from a
    few) and evalkit's rollout, from the reset on."""
    loaded = load_suite(suite)
    script = make_upstream_env(suite, loaded.tasks[task].name, VIEWS)
    reset = seconds(script.reset)
    step = statistics.median(seconds(script.step, action) for action in random_actions(loaded, RENDERED_STEPS))
    script.close()

    env = LiberoEnv(loaded, task, EnvOptions(VIEWS, "reference", assets=assets))
    policy, episode = Random(loaded, chunk=CHUNK, views=1), Episode(suite, task, 1, 7, EPISODE_STEPS)
    run_episode(env, policy, Episode(suite, task, 1, 7, CHUNK))
    start = time.perf_counter()
    record = run_episode(env, policy, episode, full_horizon=True)
    total = time.perf_counter() - start
    env.close()
    physics = record.seconds_physics
    return {"upstream": {"reset": reset, "10 wait steps": WAIT_STEPS * step, "steps": EPISODE_STEPS * step,
                         "total": reset + (WAIT_STEPS + EPISODE_STEPS) * step},
            "evalkit": {"reset with wait steps": record.seconds_reset, "steps": physics,
                        "pictures, of both": record.seconds_render, "policy": record.seconds_policy, "total": total}}


def measure(suite: str, task: int, assets: Path) -> dict[str, Any]:
    """All figures of one task."""
    env = LiberoEnv(load_suite(suite), task, EnvOptions((), "reference", assets=assets))
    script = make_upstream_env(suite, env.task.name, ())
    episode = Episode(suite, task, 1, 7, EPISODE_STEPS)
    found = {"step": step_costs(env, script, episode), "step parts": step_parts(env, script, episode),
             "reset parts": reset_parts(env, script, episode)}
    script.close()
    env.close()
    return found | {"episode": episode_costs(suite, task, assets)}


def main() -> None:
    """See the module's docstring."""
    assets, suite, task = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    LiberoEnv.start_process(EnvOptions(views=VIEWS, assets=assets))
    with mock.patch.object(time, "perf_counter", time.process_time):
        found = measure(suite, task, assets)
    print(json.dumps({"task": found, "steps": STEPS, "rounds": ROUNDS, "episode_steps": EPISODE_STEPS, "chunk": CHUNK,
                      "described": LiberoEnv.describe(EnvOptions(views=VIEWS, assets=assets))}))


if __name__ == "__main__":
    main()
