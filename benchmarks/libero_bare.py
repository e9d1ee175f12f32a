"""Measurements inside LIBERO's interpreter, in one process: upstream's bare loop, and evalkit's rollout beside it.

    python -m benchmarks.libero_bare steps ASSETS           seconds a control step, one JSON object
    python -m benchmarks.libero_bare memory ASSETS [blind]  MiB of one simulator process after an episode
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tqdm import tqdm

from baselines.random import Random
from evalkit.episode import Episode
from evalkit.registry import load_suite
from evalkit.rollout import run_episode
from evalkit.suite import EnvOptions
from evalkit.testing import random_actions
from suites.libero.env import LiberoEnv, make_upstream_env

#: One scene of each kind: table with fixtures, floor, living room, kitchen.
TASKS = (("libero_spatial", 0), ("libero_object", 0), ("libero_10", 0), ("libero_10", 3))
VIEWS = ("agentview", "wrist")
CHUNKS = (8, 16)
STEPS = 96  # divides by 8 and 16
RENDERED_STEPS = 24  # of the bare loop with cameras, which takes ten times as long a step
ROUNDS = 4


class Bare:
    """Upstream's own environment in upstream's own loop, every camera rendered in every step."""

    def __init__(self, suite: str, task: int, views: tuple[str, ...]):
        self.env = make_upstream_env(suite, load_suite(suite).tasks[task].name, views)
        self.actions = random_actions(load_suite(suite), RENDERED_STEPS if views else STEPS)

    def seconds_per_step(self) -> float:
        """One episode of random actions; the reset is not counted."""
        self.env.reset()
        self.env.step(self.actions[0])
        start = time.perf_counter()
        for action in self.actions:
            self.env.step(action)
        return (time.perf_counter() - start) / len(self.actions)


class Evalkit:
    """evalkit's rollout with the random policy, which looks at both views at every query."""

    def __init__(self, suite: str, task: int, assets: Path):
        self.suite, self.task = load_suite(suite), task
        self.env = LiberoEnv(self.suite, task, EnvOptions(VIEWS, "reference", assets=assets))

    def measure(self, chunk: int) -> dict[str, float]:
        """One episode of `STEPS` steps: seconds a step without the reset, of which rendering; seconds of the reset."""
        policy = Random(self.suite, chunk=chunk, views=1)
        episode = Episode(self.suite.name, self.task, 1, 7, STEPS)
        start, rendered = time.perf_counter(), self.env.render_seconds
        self.env.reset(episode)
        reset, rendered_in_reset = time.perf_counter() - start, self.env.render_seconds - rendered
        start = time.perf_counter()
        record = run_episode(self.env, policy, episode)
        total = time.perf_counter() - start
        return {"step": (total - record.seconds_reset - rendered_in_reset) / record.steps,
                "render": (record.seconds_render - rendered_in_reset) / record.steps, "reset": reset}


def measure_task(suite: str, task: int, assets: Path) -> dict[str, float]:
    """Best of `ROUNDS` rounds in which every variant runs once: on a shared machine the least disturbed one counts.

    Overhead: evalkit's seconds a step over those of the bare loop without cameras plus evalkit's renders.
    """
    with_cameras, without = Bare(suite, task, VIEWS), Bare(suite, task, ())
    evalkit = Evalkit(suite, task, assets)
    rounds = []
    for _ in range(ROUNDS):
        row = {"bare, both cameras every step": with_cameras.seconds_per_step(),
               "bare, no cameras": without.seconds_per_step()}
        for chunk in CHUNKS:
            found = evalkit.measure(chunk)
            row[f"evalkit, chunk {chunk}"] = found["step"]
            row[f"of which renders, chunk {chunk}"] = found["render"]
            row[f"of which all else, chunk {chunk}"] = found["step"] - found["render"]
            row["evalkit episode start with waits and first look"] = found["reset"]
        rounds.append(row)
    for environment in (with_cameras.env, without.env, evalkit.env):
        environment.close()  # else EGL complains at the interpreter's end
    best = {name: min(row[name] for row in rounds) for name in rounds[0]}
    for chunk in CHUNKS:
        renders, rest = best[f"of which renders, chunk {chunk}"], best[f"of which all else, chunk {chunk}"]
        best[f"evalkit overhead, chunk {chunk}"] = (rest + renders) / (best["bare, no cameras"] + renders) - 1
    return best


def pss_mib() -> float:
    """Proportional set size of this process in MiB: shared pages count once over all processes."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel does not report Pss")


def memory(assets: Path, views: tuple[str, ...]) -> float:
    """MiB of a process that has played one episode."""
    suite = load_suite("libero_spatial")
    env = LiberoEnv(suite, 0, EnvOptions(views, "reference", assets=assets))
    run_episode(env, Random(suite, views=int(bool(views))), Episode(suite.name, 0, 0, 7, 16))
    used = pss_mib()
    env.close()
    return used


def main() -> None:
    """See the module's docstring."""
    what, assets = sys.argv[1], Path(sys.argv[2])
    views = () if "blind" in sys.argv else VIEWS
    LiberoEnv.start_process(EnvOptions(views=views, assets=assets))
    if what == "memory":
        print(json.dumps(memory(assets, views)))
        return
    tasks = {f"{suite}/{task:02d}": measure_task(suite, task, assets) for suite, task in tqdm(TASKS, unit="task")}
    print(json.dumps({"tasks": tasks, "described": LiberoEnv.describe(EnvOptions(views=views, assets=assets))}))


if __name__ == "__main__":
    main()
