"""Measurements inside LIBERO's interpreter, in one process: upstream's bare loop, and evalkit's rollout beside it.

    python -m benchmarks.libero_bare steps ASSETS           seconds a control step, one JSON object
    python -m benchmarks.libero_bare memory ASSETS [blind]  MiB of one simulator process after an episode
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from baselines.random import Random
from evalkit.episode import Episode
from evalkit.registry import load_suite
from evalkit.rollout import run_episode
from evalkit.suite import EnvOptions
from evalkit.testing import random_actions
from suites.libero.env import LiberoEnv, make_upstream_env
from suites.libero.suite import WAIT_STEPS

#: One scene of each kind: table with fixtures, floor, living room, kitchen.
TASKS = (("libero_spatial", 0), ("libero_object", 0), ("libero_10", 0), ("libero_10", 3))
VIEWS = ("agentview", "wrist")
CHUNKS = (8, 16)
STEPS = 96  # divides by 8 and 16
RENDERED_STEPS = 24  # of the bare loop with cameras, which takes ten times as long a step
ROUNDS = 2


class Bare:
    """Upstream's own environment in upstream's own loop, every camera rendered in every step."""

    def __init__(self, suite: str, task: int, views: tuple[str, ...]):
        self.env = make_upstream_env(suite, load_suite(suite).tasks[task].name, views)
        self.actions = random_actions(load_suite(suite), RENDERED_STEPS if views else STEPS)

    def measure(self) -> float:
        """Seconds a step over one episode of random actions; the reset is not counted."""
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
        """One episode of `STEPS` steps: seconds a step without the reset but with its look, as each of the queries
        has one; of which rendering; seconds of the reset."""
        policy = Random(self.suite, chunk=chunk, views=1)
        episode = Episode(self.suite.name, self.task, 1, 7, STEPS)
        start = time.perf_counter()
        self.env.reset(episode)
        reset = time.perf_counter() - start
        start = time.perf_counter()
        record = run_episode(self.env, policy, episode)
        total = time.perf_counter() - start
        return {"step": (total - record.seconds_reset) / record.steps, "render": record.seconds_render / record.steps,
                "reset": reset}

    def overhead(self, chunk: int) -> float:
        """What the rollout adds to upstream's own step, as a part of it: that step, with the renders of a policy that
        looks once a chunk, timed inside the rollout."""
        ours, timed = self.env._control_step, TimedUpstreamStep(self.env.simulator.env)
        self.env._control_step = timed
        try:
            run_episode(self.env, Random(self.suite, chunk=chunk, views=1),
                        Episode(self.suite.name, self.task, 1, 7, STEPS))
            end = time.perf_counter()
        finally:
            self.env._control_step = ours
        (_, begun), steps = timed.calls[WAIT_STEPS - 1], timed.calls[WAIT_STEPS:]
        inside = sum(after - before for before, after in steps)
        return (end - begun) / inside - 1


class TimedUpstreamStep:
    """Upstream's own control step behind evalkit's environment; when each call began and ended."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls: list[tuple[float, float]] = []

    def __call__(self, action: np.ndarray, look: bool) -> tuple[dict[str, np.ndarray], bool]:
        start = time.perf_counter()
        seen, _, success, _ = self._inner.step(action)
        self.calls.append((start, time.perf_counter()))
        return seen, bool(success)


def measure_task(suite: str, task: int, assets: Path) -> dict[str, float]:
    """Best of `ROUNDS` rounds of each variant: on a shared machine the least disturbed one counts. Each has the
    process to itself while it is measured: two environments disturb each other."""
    best = {}
    for name, views in (("bare, both cameras every step", VIEWS), ("bare, no cameras", ())):
        bare = Bare(suite, task, views)
        best[name] = min(bare.measure() for _ in range(ROUNDS))
        bare.env.close()
    evalkit = Evalkit(suite, task, assets)
    for chunk in CHUNKS:
        rounds = [evalkit.measure(chunk) for _ in range(ROUNDS)]
        best[f"evalkit, chunk {chunk}"] = min(found["step"] for found in rounds)
        best[f"of which renders, chunk {chunk}"] = min(found["render"] for found in rounds)
        best[f"of which all else, chunk {chunk}"] = min(found["step"] - found["render"] for found in rounds)
        best["evalkit episode start with waits and first look"] = min(found["reset"] for found in rounds)
        best[f"evalkit overhead, chunk {chunk}"] = min(evalkit.overhead(chunk) for _ in range(ROUNDS))
    evalkit.env.close()
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
