"""Where a LIBERO step, reset and episode spend their time, inside LIBERO's interpreter, in one process.

    python -m benchmarks.libero_profile_env ASSETS

Upstream's own environment in its own loop, evalkit beside it, and the physics alone. Prints one JSON object last.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

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

#: One scene of each kind: table with fixtures, floor, living room, kitchen.
TASKS = (("libero_spatial", 0), ("libero_object", 0), ("libero_10", 0), ("libero_10", 3))
VIEWS = ("agentview", "wrist")

#: Steps timed, rounds of all that is timed (the least disturbed one counts), steps with pictures of upstream's loop.
STEPS, ROUNDS, RENDERED_STEPS = 60, 4, 8

#: The episode: a policy that looks once in `CHUNK` steps, and success is not waited for.
EPISODE_STEPS, CHUNK = 96, 8


def step_costs(env: LiberoEnv, script: Any, episode: Episode) -> dict[str, float]:
    """ms of a step: means over random actions of the least disturbed of `ROUNDS` rounds. In each one every variant
    executes the same actions on the same states in turn."""
    import mujoco

    model, data = env.simulator.sim.model._model, env.simulator.sim.data._data
    spare, everything = mujoco.MjData(model), mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, everything))

    def physics() -> None:
        for _ in range(25):
            mujoco.mj_step(model, spare)

    def solved_thrice() -> None:
        for _ in range(25):
            mujoco.mj_step1(model, spare)
            mujoco.mj_forwardSkip(model, spare, mujoco.mjtStage.mjSTAGE_VEL, 1)
            mujoco.mj_fwdConstraint(model, spare)
            mujoco.mj_step2(model, spare)

    def one_round() -> list[dict[str, float]]:
        env.reset(episode)
        begin(script, episode, env)
        rows = []
        for action in random_actions(env.suite, STEPS):
            row = {}
            for name, run in (("25 x mj_step", physics), ("the same, solver passes as upstream", solved_thrice)):
                mujoco.mj_getState(model, data, state, everything)
                mujoco.mj_setState(model, spare, state, everything)
                row[name] = seconds(run)
            row["upstream's step"] = seconds(script.step, action)
            row["evalkit's step"] = seconds(env.step, action, False)
            rows.append(row)
        if env.simulator.get_sim_state().tobytes() != script.get_sim_state().tobytes():
            raise RuntimeError(f"{episode.id}: evalkit's steps and upstream's end in different states")
        return rows

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
    """ms of a step in each part, least disturbed round; calls that are timed cost up to 1 us each."""
    import mujoco

    from suites.libero import control

    inner = script.env
    theirs = [(inner.sim, "step", "mj_step"), (inner.sim, "forward", "2 mj_forward a substep"),
              (inner.robots[0], "control", "controller and gripper"),
              (inner, "_update_observables", "observables"), (inner, "_get_observations", "observables"),
              (inner, "_check_success", "success, twice")]
    ours = [(mujoco, "mj_step1", "position and velocity stages, integration"),
            (mujoco, "mj_step2", "position and velocity stages, integration"),
            (mujoco, "mj_forwardSkip", "2 more solver passes a substep"),
            (mujoco, "mj_fwdConstraint", "2 more solver passes a substep"),
            (mujoco, "mj_jacSite", "controller and gripper"), (mujoco, "mj_fullM", "controller and gripper"),
            (control, "drive", "controller and gripper"), (control.ControlStep, "_read", "observables"),
            (env.simulator.env, "_check_success", "success, once")]
    found = {"upstream": [], "evalkit": []}
    for _ in range(ROUNDS):
        env.reset(episode)
        begin(script, episode, env)
        turns, ours_turns = (iter(random_actions(env.suite, STEPS)) for _ in range(2))
        found["upstream"].append(Parts().of(lambda turns=turns: script.step(next(turns)), theirs, STEPS))
        found["evalkit"].append(Parts().of(lambda turns=ours_turns: env.step(next(turns), False), ours, STEPS))
    return {loop: least(runs) for loop, runs in found.items()}


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
    script.reset()
    reset = seconds(script.reset)
    step = statistics.median(seconds(script.step, action) for action in random_actions(loaded, RENDERED_STEPS))
    script.close()

    env = LiberoEnv(loaded, task, EnvOptions(VIEWS, "reference", assets=assets))
    policy, episode = Random(loaded, chunk=CHUNK, views=1), Episode(suite, task, 1, 7, EPISODE_STEPS)
    run_episode(env, policy, episode, full_horizon=True)
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
    assets = Path(sys.argv[1])
    LiberoEnv.start_process(EnvOptions(views=VIEWS, assets=assets))
    tasks = {f"{suite}/{task:02d}": measure(suite, task, assets) for suite, task in tqdm(TASKS, unit="task")}
    print(json.dumps({"tasks": tasks, "episode_steps": EPISODE_STEPS, "chunk": CHUNK,
                      "described": LiberoEnv.describe(EnvOptions(views=VIEWS, assets=assets))}))


if __name__ == "__main__":
    main()
