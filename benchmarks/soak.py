"""`make soak`: thousands of short episodes through all workers. Does anything grow, or stay behind?

    python -m benchmarks.soak [EPISODES] [LIBERO_EPISODES]

The toy suite (the engine alone), then LIBERO on stand-ins or better (the simulator).
Writes results/benchmarks/soak-<date>-<cores>cores.json and .md.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from scipy.stats import theilslopes

from benchmarks.measured import write
from benchmarks.processes import family, leftovers
from evalkit.assets import resolve_assets
from evalkit.environments import ensure_environment, find_environment
from evalkit.episode import Episode
from evalkit.lock import began
from evalkit.records import Run
from evalkit.registry import load_suite
from evalkit.suite import EnvOptions
from evalkit.workers import Job, WorkerPool

#: Samples of a run; the first part is left out of slopes: imports, buffers that fill once.
SAMPLES, WARM = 50, 0.3

LIBERO, STEPS, ROUND = "libero_object", 8, 100


def soak(pool: WorkerPool, rounds: Sequence[Sequence[Episode]]) -> dict[str, Any]:
    """Run `rounds` and record them as a driver does: samples of all processes on the way, and what is left after it."""
    planned = [episode for played in rounds for episode in played]
    root, before, samples, every = os.getpid(), leftovers(), [], max(1, len(planned) // SAMPLES)
    outcomes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, closing(Run(Path(folder))) as run:
        before.add(folder)
        with pool:
            run.open({"config": {}, "fingerprints": {}, "planned": [episode.id for episode in planned]})
            results = chain.from_iterable(pool.run(played) for played in rounds)
            for count, result in enumerate(results, start=1):
                run.append(result.record)
                outcomes[result.record.outcome] = outcomes.get(result.record.outcome, 0) + 1
                if count % every == 0:
                    samples.append(sample(root, count))
    left = wait_for_the_end({process for taken in samples for process in taken["processes"] if process[0] != root})
    return {"episodes": len(planned), "outcomes": outcomes, "workers": pool.size, "samples": samples,
            "slopes": {kind: slope(samples, kind) for kind in samples[-1]["memory"]},
            "zombies": max(taken["zombies"] for taken in samples), "processes_left": len(left),
            "left": sorted(name for name in leftovers() - before if is_ours(name, samples))}


def sample(root: int, count: int) -> dict[str, Any]:
    """Memory (MiB) and handles by kind of process, now."""
    processes = family(root)
    memory: dict[str, float] = {}
    handles: dict[str, int] = {}
    for process in processes:
        memory[process.kind] = memory.get(process.kind, 0.0) + process.memory
        handles[process.kind] = handles.get(process.kind, 0) + process.handles
    return {"episodes": count, "memory": memory, "handles": handles, "zombies": sum(item.zombie for item in processes),
            "processes": [(process.pid, process.began) for process in processes]}


def slope(samples: Sequence[dict], kind: str) -> tuple[float, float, float]:
    """MiB a thousand episodes, with its 95 % interval (Theil and Sen): of the later samples."""
    later = samples[int(WARM * len(samples)):]
    found = theilslopes([taken["memory"].get(kind, 0.0) for taken in later],
                        [taken["episodes"] / 1000 for taken in later])
    return found.slope, found.low_slope, found.high_slope


def wait_for_the_end(processes: set[tuple[int, str]], seconds: float = 30.0) -> set[tuple[int, str]]:
    """Those of `processes` (number, beginning) that still run, or wait to be reaped, after so many seconds."""
    end = time.monotonic() + seconds
    while left := {(pid, since) for pid, since in processes if since and began(pid) == since}:
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    return left


def is_ours(name: str, samples: Sequence[dict]) -> bool:
    """Whether a name that came up while we ran is of our cluster: other people's work goes on beside it."""
    return any(str(pid) in name for taken in samples
               for pid in [os.getpid(), *(number for number, _ in taken["processes"])])


def toy(episodes: int, workers: int) -> tuple[WorkerPool, list[list[Episode]]]:
    """The engine alone: nothing to simulate."""
    planned = [Episode("toy", index % 3, index // 3, 7, 2) for index in range(episodes)]
    return WorkerPool(Job("random", {"chunk": 2, "views": 1}, EnvOptions(("top",))), ["toy"], workers), [planned]


def libero(episodes: int, workers: int) -> tuple[WorkerPool, list[list[Episode]], str]:
    """Short episodes on the ten tasks of a suite, both cameras, in rounds of `ROUND`: with every task a worker makes a
    new simulator, of which the first few take room that later ones use again. And the kind of its assets."""
    suite = load_suite(LIBERO)
    python = ensure_environment(find_environment(suite.interpreter))
    assets = resolve_assets(suite, "auto", list(range(10)), python)
    planned = [Episode(LIBERO, index % 10, index // 10 % suite.episodes_per_task, 7 + index // 500, STEPS)
               for index in range(episodes)]
    job = Job("random", {"chunk": STEPS, "views": 1}, EnvOptions(tuple(suite.views), "reference", assets=assets.folder))
    needs = suite.scenes["upstream"]
    rounds = [planned[start:start + ROUND] for start in range(0, episodes, ROUND)]
    return WorkerPool(job, [LIBERO], workers, python=python, needs=needs), rounds, assets.kind


def report(found: dict) -> str:
    """The figures as markdown."""
    lines = [f"Soak, {found['date']}, {found['machine']}, {found['cores']} cores"]
    for name, run in found["runs"].items():
        first, last = run["samples"][int(WARM * len(run["samples"]))], run["samples"][-1]
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(run["outcomes"].items()))
        lines += ["", f"{name}: {run['episodes']} episodes ({outcomes}), {run['workers']} workers", "",
                  f"| | MiB after {first['episodes']} | MiB after {last['episodes']} | MiB per 1,000 episodes "
                  "[95 %] | handles, from - to |", "|---|---:|---:|---:|---:|"]
        for kind, (value, low, high) in run["slopes"].items():
            handles = [taken["handles"].get(kind, 0) for taken in (first, last)]
            memory = [f"{taken['memory'].get(kind, 0):.1f}" for taken in (first, last)]
            lines.append(f"| {kind} | {memory[0]} | {memory[1]} | {value:+.1f} [{low:+.1f}, {high:+.1f}] | "
                         f"{handles[0]} - {handles[1]} |")
        lines += ["", f"Zombies at any sample: {run['zombies']}. Left at the end: processes: {run['processes_left']}; "
                      f"shared memory, temporary folders: {', '.join(run['left']) or 'nothing'}."]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and write the results."""
    episodes, on_libero = (int(text) for text in (*sys.argv[1:], *("2000", "2000")[len(sys.argv) - 1:]))
    os.environ.setdefault("LP_NUM_THREADS", "1")
    cores = os.cpu_count() or 1
    runs = {"toy": soak(*toy(episodes, cores))}
    if on_libero:
        pool, rounds, kind = libero(on_libero, cores)
        name = f"{LIBERO}, {STEPS} steps, both cameras, {kind} assets, all tasks anew every {ROUND} episodes"
        runs[name] = soak(pool, rounds)
    found = {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "cores": cores, "runs": runs}
    write("soak", found, report(found))


if __name__ == "__main__":
    main()
