"""Measurements inside RoboCasa-GR1's interpreter: one task on one kind of scenes in one process.

    python -m benchmarks.robocasa_gr1_env costs SCENES FOLDER TASK    seconds of reset, step, picture, episode
    python -m benchmarks.robocasa_gr1_env memory SCENES FOLDER TASK   MiB over 100 resets

Prints one JSON object last.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from baselines.random import Random
from evalkit.episode import Episode
from evalkit.registry import load_suite
from evalkit.rollout import run_episode
from evalkit.suite import EnvOptions
from suites.robocasa_gr1.env import RoboCasaGR1Env

SUITE = load_suite("robocasa_gr1")
VIEWS = ("ego_view",)
RESETS, STEPS, LOOKS, MEMORY_RESETS = 8, 96, 12, 100

#: Actions executed for one query, as the DiT4DiT script does.
EXECUTED = 12


def episode(task: int, index: int, steps: int = SUITE.max_steps) -> Episode:
    return Episode(SUITE.name, task, index, 7, steps)


def costs(env: RoboCasaGR1Env, task: int, make_seconds: float) -> dict[str, float]:
    """Medians over resets and steps; actions hold the pose with a random part of up to 0.2 rad."""
    policy = Random(SUITE, chunk=EXECUTED)
    resets, first_look = [], []
    for index in range(RESETS):
        start, rendered = time.perf_counter(), env.render_seconds
        env.reset(episode(task, index))
        first_look.append(env.render_seconds - rendered)
        resets.append(time.perf_counter() - start - first_look[-1])
    steps = [seconds(env.step, action, False) for action in actions(env, policy, STEPS)]
    looks = [seconds(env.step, action, True) for action in actions(env, policy, LOOKS)]
    bare = [seconds(bare_steps, env) for _ in range(STEPS)]
    step, look = statistics.median(steps), statistics.median(looks)
    return {"make": make_seconds, "first reset": resets[0], "reset": statistics.median(resets[1:]),
            "step": step, "of which 25 x mj_step": statistics.median(bare), "step with a picture": look,
            "picture": look - step, "first picture after a reset": statistics.median(first_look),
            **whole_episode(env, task)}


def whole_episode(env: RoboCasaGR1Env, task: int) -> dict[str, float]:
    """A full episode of 720 steps that is looked at every 12 steps; the same with a picture at every step, reckoned."""
    start = time.perf_counter()
    record = run_episode(env, Random(SUITE, chunk=EXECUTED, views=1), episode(task, 1), full_horizon=True)
    total = time.perf_counter() - start
    pictures = 1 + SUITE.max_steps // EXECUTED
    every = total + record.seconds_render * (SUITE.max_steps + 1) / pictures - record.seconds_render
    return {"episode, 12 executed steps": total, "episode with a picture at every step (reckoned)": every,
            "ratio": every / total}


def actions(env: RoboCasaGR1Env, policy: Random, count: int) -> list[np.ndarray]:
    observation = env.observe()
    return [action for _ in range(0, count, EXECUTED) for action in policy.act([observation])[0]][:count]


def bare_steps(env: RoboCasaGR1Env) -> None:
    """The physics of one control step and nothing else, on the state as it is."""
    import mujoco  # late: it picks its GL backend when it is imported

    for _ in range(25):
        mujoco.mj_step(env.simulator.model, env.simulator.data)


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def rss_mib() -> float:
    """Resident memory of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel does not report VmRSS")


def memory(env: RoboCasaGR1Env, task: int) -> dict[str, float]:
    """Resident MiB after some of the resets, each with a picture."""
    found = {}
    for count in tqdm(range(1, MEMORY_RESETS + 1), unit="reset"):
        env.reset(episode(task, count % SUITE.episodes_per_task))
        if count in (1, 10, 50, MEMORY_RESETS):
            found[str(count)] = rss_mib()
    return found


def main() -> None:
    """See the module's docstring."""
    what, scenes, folder, task = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    options = EnvOptions(VIEWS, "reference", scenes, folder)
    RoboCasaGR1Env.start_process(options)
    start = time.perf_counter()
    env = RoboCasaGR1Env(SUITE, task, options)
    made = time.perf_counter() - start
    found = memory(env, task) if what == "memory" else costs(env, task, made)
    env.close()
    print(json.dumps({"found": found, "described": RoboCasaGR1Env.describe(options)}))


if __name__ == "__main__":
    main()
