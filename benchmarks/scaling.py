"""`make bench-scaling`: LIBERO episodes through Ray for 1, 2 ... workers, and on paper for 64 and 512.

Measures in one run: throughput for each number of workers up to the cores (16 at most); simulators while a policy
thinks; and what each part of the engine costs alone. From these costs it simulates the paper's 2,000 LIBERO episodes
for more workers, and says what saturates first. Writes results/benchmarks/scaling-<date>-<cores>cores.json and .md.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measured import write
from benchmarks.queueing import Costs, simulate
from benchmarks.scaling_parts import broker_costs, call_seconds, question_bytes, record_seconds
from evalkit import cluster
from evalkit.assets import resolve_assets
from evalkit.config import make_config
from evalkit.environments import ensure_environment, find_environment
from evalkit.episode import Episode
from evalkit.hosts import Replicas, Served
from evalkit.plan import make_plan
from evalkit.records import Record
from evalkit.registry import load_suite, make_policy
from evalkit.suite import EnvOptions
from evalkit.workers import Job, WorkerPool

SUITE, CHUNK, STEPS, EPISODES = "libero_spatial", 8, 64, 3

#: Workers on paper.
ON_PAPER = (1, 16, 64, 512)

#: A policy that answers a batch after so many seconds, whatever its size; workers a core beside it.
THINKING, CROWDS = 0.15, (1, 2)

#: Observations a second that one GPU answers, and where the number comes from.
POLICIES = (("0.5 s a chunk, one at a time", 2.0), ("pi0.5, batch 1 (vla-eval's table)", 84.0),
            ("DB-CogACT, batch 16 on an H100 (vla-eval's table)", 468.0))

#: Bits a second of a usual network between nodes.
NETWORK = 10e9

#: Memory of one worker with cameras, GiB: what workers are admitted by.
MEMORY = load_suite(SUITE).scenes["upstream"].memory_gb


def options(assets: Path) -> EnvOptions:
    return EnvOptions(tuple(load_suite(SUITE).views), "reference", assets=assets)


def plan(workers: int) -> list[Episode]:
    """A task for each worker; its first episode builds the simulator and is not timed."""
    return [Episode(SUITE, task % 10, index + 10 * (task // 10), 7, STEPS)
            for task in range(workers) for index in range(EPISODES + 1)]


def roll_out(pool: WorkerPool, planned: Sequence[Episode]) -> list[Record]:
    records = []
    for result in pool.run(planned):
        if result.record.outcome == "error":
            raise RuntimeError(result.record.traceback)
        records.append(result.record)
    return records


def throughput(python: Path, assets: Path, workers: int) -> dict:
    """Figures of `workers` workers with a policy that looks at both views at every query and costs nothing itself."""
    job = Job("random", {"chunk": CHUNK, "views": 1}, options(assets))
    with WorkerPool(job, [SUITE], workers, python=python) as pool:
        records = roll_out(pool, plan(workers))
    first = [min((record for record in records if record.worker == worker), key=lambda record: record.started)
             for worker in {record.worker for record in records}]
    warm = [record for record in records if record not in first]
    start = max(record.ended for record in first)
    inside = [record for record in warm if record.started >= start - 0.5]
    if len(inside) < workers:
        raise RuntimeError("the workers started too far apart to be timed together: is the machine busy otherwise?")
    span = max(record.ended for record in inside) - min(record.started for record in inside)
    return {
        "steps_per_second": sum(record.steps for record in inside) / span, "episodes": len(inside),
        "seconds_episode": statistics.mean(record.ended - record.started for record in inside),
        "seconds_reset": statistics.mean(record.seconds_reset for record in inside),
        "seconds_step": sum(r.seconds_physics for r in inside) / sum(r.steps for r in inside),
        "seconds_look": sum(r.seconds_render for r in inside) / sum(r.policy_calls for r in inside),
        "seconds_build": statistics.median(record.ended - record.started - phases(record) for record in first),
        "seconds_unaccounted": statistics.mean(record.ended - record.started - phases(record) for record in inside),
    }


def phases(record: Record) -> float:
    return record.seconds_reset + record.seconds_physics + record.seconds_render + record.seconds_policy


def overlap(python: Path, assets: Path, workers: int, folder: Path) -> dict:
    """Steps a second and mean batch size of `workers` workers before one replica that thinks `THINKING` s a batch."""
    log = folder / f"batches-{workers}"
    choices = {"seconds": THINKING, "log": str(log)}
    spec = make_policy("benchmarks.thinking:Thinking", load_suite(SUITE), choices).spec
    job = Job("benchmarks.thinking:Thinking", choices, options(assets), specs={SUITE: spec})
    host = Replicas(Served(job.policy, choices, job.specs), count=1, size=64, patience=0.002)
    with WorkerPool(job, [SUITE], workers, most=workers, python=python, host=host) as pool:
        records = roll_out(pool, plan(workers))
    start = sorted(record.ended for record in records)[workers - 1]
    warm = [record for record in records if record.started >= start - 0.5]
    span = max(record.ended for record in warm) - min(record.started for record in warm)
    batches = [int(line) for line in log.read_text().split()][workers * 2:]
    return {"workers": workers, "steps_per_second": sum(record.steps for record in warm) / span,
            "batch": statistics.mean(batches), "batches": len(batches)}


def on_paper(workers: int, found: dict) -> dict:
    """The paper's 2,000 LIBERO episodes, none of which succeeds before its horizon, on `workers` workers."""
    one, driver = found["workers"]["1"], found["parts"]["driver"]
    planned = make_plan(make_config({"suites": "libero", "policy": "noop", "episodes": "50"}))
    a_step = one["seconds_step"] + one["seconds_look"] / CHUNK
    ran = simulate(planned, workers, Costs(one["seconds_build"], driver,
                                           lambda episode: one["seconds_reset"] + a_step * episode.max_steps))
    questions = workers * ran.efficiency / (CHUNK * a_step)
    size = found["parts"]["question_bytes"]
    return {
        "seconds": ran.seconds, "efficiency": ran.efficiency, "tail": ran.idle, "builds": ran.builds,
        "driver": len(planned) * driver / ran.seconds, "questions_per_second": questions,
        "broker": questions * found["parts"]["broker"]["core_seconds"], "network": 8 * questions * size / NETWORK,
        "memory_gib": workers * MEMORY,
        "gpus": {name: math.ceil(questions / rate) for name, rate in POLICIES},
    }


def measure(python: Path, assets: Path) -> dict:
    """All figures of one run."""
    cores = os.cpu_count() or 1
    found: dict = {"cores": cores, "workers": {}, "overlap": []}
    for workers in sorted({1, *(size for size in (2, 4, 8, 16) if size <= cores)}):
        found["workers"][str(workers)] = throughput(python, assets, workers)
    with tempfile.TemporaryDirectory() as folder:
        found["overlap"] = [overlap(python, assets, cores * crowd, Path(folder)) for crowd in CROWDS]
    cluster.connect(None, cores)
    try:
        question = question_bytes(SUITE)
        calls = {str(waiting): call_seconds(waiting) for waiting in (0, 63, 511)}
        found["parts"] = {"call": calls, "record": record_seconds(), "question_bytes": len(question),
                          "broker": broker_costs(question, 8), "broker_small": broker_costs(b"x" * 500, 8)}
    finally:
        cluster.disconnect()
    found["parts"]["driver"] = found["parts"]["record"] + found["parts"]["call"]["511"]
    found["paper"] = {str(workers): on_paper(workers, found) for workers in ON_PAPER}
    return found


def report(found: dict) -> str:
    """The figures as markdown."""
    parts, one = found["parts"], found["workers"]["1"]
    lines = [f"Scaling, {found['date']}, {found['machine']}, {found['cores']} cores, {SUITE}, {found['assets']} "
             f"assets, chunk {CHUNK}, both views at each query, software rendering", "",
             "Through Ray, a policy that costs nothing, after each worker's first episode:", "",
             "| workers | control steps/s | ratio | s an episode of " f"{STEPS} steps | n episodes |",
             "|---:|---:|---:|---:|---:|"]
    for workers, row in found["workers"].items():
        lines.append(f"| {workers} | {row['steps_per_second']:.1f} | "
                     f"{row['steps_per_second'] / one['steps_per_second']:.2f}x | {row['seconds_episode']:.2f} | "
                     f"{row['episodes']} |")
    lines += ["", f"A policy in one replica that thinks {1000 * THINKING:.0f} ms a batch, whatever its size:", "",
              "| workers | control steps/s | observations a batch | n batches |", "|---:|---:|---:|---:|"]
    lines += [f"| {row['workers']} | {row['steps_per_second']:.1f} | {row['batch']:.2f} | {row['batches']} |"
              for row in found["overlap"]]
    lines += ["", "What each part costs alone:", "", "| part | ms |", "|---|---:|"]
    named = {"reset with its waits": one["seconds_reset"], "simulator built": one["seconds_build"],
             "control step": one["seconds_step"], "look at both views": one["seconds_look"],
             "all else of an episode (Ray, hashes)": one["seconds_unaccounted"],
             "record on the disk (driver)": parts["record"]}
    named |= {f"actor call, {waiting} others on their way (driver)": seconds
              for waiting, seconds in parts["call"].items()}
    lines += [f"| {name} | {1000 * seconds:.2f} |" for name, seconds in named.items()]
    broker, small = parts["broker"], parts["broker_small"]
    lines += ["", f"One broker uses {1000 * broker['core_seconds']:.2f} ms of a core for an observation of "
                  f"{parts['question_bytes'] / 1e3:.0f} kB, {1000 * small['core_seconds']:.2f} ms for one of 0.5 kB. "
                  f"From 8 askers that share these {found['cores']} cores with it {broker['rate']:.0f} and "
                  f"{small['rate']:.0f} observations/s came through.", "",
              "On paper, from these costs: LIBERO's 40 tasks x 50 episodes, every one to its horizon, a core a worker:",
              "", "| | " + " | ".join(f"{workers} workers" for workers in found["paper"]) + " |",
              "|---|" + "---:|" * len(found["paper"])]
    rows = {"hours": lambda row: f"{row['seconds'] / 3600:.2g}",
            "worker-time in episodes": lambda row: f"{100 * row['efficiency']:.0f} %",
            "idle tail": lambda row: f"{100 * row['tail']:.1f} %",
            "simulators built": lambda row: f"{row['builds']}",
            "driver busy": lambda row: f"{100 * row['driver']:.1f} %",
            "observations/s": lambda row: f"{row['questions_per_second']:.0f}",
            "broker's load": lambda row: f"{100 * row['broker']:.0f} %",
            "load of a 10 Gbit/s link to it": lambda row: f"{100 * row['network']:.0f} %",
            "memory, GiB": lambda row: f"{row['memory_gib']:.0f}"}
    rows |= {f"GPUs: {name}": (lambda row, name=name: f"{row['gpus'][name]}") for name, _ in POLICIES}
    lines += [f"| {name} | " + " | ".join(text(row) for row in found["paper"].values()) + " |"
              for name, text in rows.items()]
    return "\n".join([*lines, "", *advice(found), ""])


def advice(found: dict) -> list[str]:
    """What saturates first, and what to buy."""
    largest = found["paper"][str(max(ON_PAPER))]
    loads = {"the broker": largest["broker"], "a 10 Gbit/s link to the broker": largest["network"],
             "the driver": largest["driver"]}
    name, load = max(loads.items(), key=lambda item: item[1])
    workers = max(ON_PAPER) / load
    return [f"What saturates first, beside GPUs: {name}, at about {workers:.0f} workers of this speed when the policy "
            f"acts in replicas; the driver would carry {max(ON_PAPER) / largest['driver']:.0f}.",
            f"What to buy: cores first, one a worker with {MEMORY:g} GiB; then GPUs by the observations/s above. "
            f"Beyond the limit of {name}: longer chunks, or several runs over parts of the episodes (`--episodes "
            "A:B`), which `evalkit merge` makes one."]


def main() -> None:
    """Measure and write the results."""
    suite = load_suite(SUITE)
    python = ensure_environment(find_environment(suite.interpreter))
    assets = resolve_assets(suite, "auto", list(range(10)), python)
    os.environ["LP_NUM_THREADS"] = "1"
    found = measure(python, assets.folder)
    found |= {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "assets": assets.kind}
    write("scaling", found, report(found))


if __name__ == "__main__":
    main()
