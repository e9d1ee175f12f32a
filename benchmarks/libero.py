"""`make bench`: LIBERO's control steps per second, bare and through evalkit, as ratios from one run.

(a) upstream's bare loop with both cameras rendered every step; (b) the same without cameras; (c) evalkit, one worker,
a policy that looks once a chunk of 8 or 16; (d) evalkit with a worker on every core. Writes
results/benchmarks/libero-<date>-<node>.json and .md. One GL thread a process.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path

from benchmarks.measured import in_interpreter, write
from evalkit.assets import resolve_assets
from evalkit.environments import ensure_environment, find_environment
from evalkit.episode import Episode
from evalkit.registry import load_suite
from evalkit.suite import EnvOptions
from evalkit.workers import Job, WorkerPool

#: (d): episodes of 96 steps over every task of one suite.
SUITE, STEPS, EPISODES = "libero_spatial", 96, 4

BARE = "benchmarks.libero_bare"


def steps_per_second(python: Path, assets: Path, workers: int, chunk: int) -> float:
    """Control steps a second of `workers` workers, from the first result to the last: start-up is left out."""
    views = tuple(load_suite(SUITE).views)
    job = Job("random", {"chunk": chunk, "views": 1}, EnvOptions(views, "reference", assets=assets))
    episodes = [Episode(SUITE, task, index, 7, STEPS) for task in range(workers) for index in range(EPISODES + 1)]
    with WorkerPool(job, [SUITE], workers, python=python) as pool:
        finished = []
        for result in pool.run(episodes):
            if result.record.outcome == "error":
                raise RuntimeError(result.record.traceback)
            finished.append((time.perf_counter(), result.record.steps))
    warm = finished[workers:]  # each worker's first episode builds its simulator
    return sum(steps for _, steps in warm) / (finished[-1][0] - finished[workers - 1][0])


def report(found: dict) -> str:
    """The figures as markdown."""
    names = list(next(iter(found["tasks"].values())))
    lines = [f"LIBERO, {found['date']}, {found['machine']}, {found['cores']} cores, {found['described']['renderer']}, "
             f"mujoco {found['described']['mujoco']}, {found['assets']} assets", "",
             "One process, one GL thread, "
             "each variant by itself, best of two rounds of 96 random actions (24 where cameras render every step). "
             "Overhead: what evalkit's rollout adds to upstream's own step and its renders, timed in the rollout:", "",
             "| | " + " | ".join(found["tasks"]) + " |", "|---|" + "---:|" * len(found["tasks"])]
    for name in names:
        cells = [f"{100 * task[name]:+.1f} %" if "overhead" in name else f"{1000 * task[name]:.1f} ms"
                 for task in found["tasks"].values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for chunk in (8, 16):
        ratios = [f"{task['bare, both cameras every step'] / task[f'evalkit, chunk {chunk}']:.1f}x"
                  for task in found["tasks"].values()]
        lines.append(f"| speed-up over the bare loop with cameras, chunk {chunk} | " + " | ".join(ratios) + " |")
    lines += ["", f"{SUITE} through Ray, chunk 8, both views at each query:", "",
              "| workers | control steps/s | ratio |", "|---:|---:|---:|"]
    one = found["workers"]["1"]
    lines += [f"| {workers} | {rate:.1f} | {rate / one:.2f}x |" for workers, rate in found["workers"].items()]
    lines += ["", f"Memory of one simulator process (PSS): {found['memory']['cameras']:.0f} MiB with cameras, "
                  f"{found['memory']['blind']:.0f} MiB without.", ""]
    return "\n".join(lines)


def main() -> None:
    """Measure and write the results."""
    suite = load_suite(SUITE)
    python = ensure_environment(find_environment(suite.interpreter))
    assets = resolve_assets(suite, "auto", list(range(10)), python)
    found = in_interpreter(python, BARE, "steps", str(assets.folder))
    cores = os.cpu_count() or 1
    os.environ["LP_NUM_THREADS"] = "1"
    found |= {
        "date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "cores": cores, "assets": assets.kind,
        "workers": {str(size): steps_per_second(python, assets.folder, size, chunk=8) for size in sorted({1, cores})},
        "memory": {"cameras": in_interpreter(python, BARE, "memory", str(assets.folder)),
                   "blind": in_interpreter(python, BARE, "memory", str(assets.folder), "blind")},
    }
    overheads = [task[name] for task in found["tasks"].values() for name in task if "overhead" in name]
    found["median_overhead"] = statistics.median(overheads)
    write("libero", found, report(found))


if __name__ == "__main__":
    main()
