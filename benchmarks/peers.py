"""`make bench-peers`: LIBERO side by side with what people use, as ratios from one run on one machine.

The same episodes (ten tasks of libero_spatial, 100 steps, the same actions, both cameras at 256 x 256, one GL thread a
process) in (a) a plain sequential script in the style of the paper's release, (b) vla-eval from its package, without
Docker, where it can be installed, and (c) evalkit: its rollout in one process, and through Ray with one worker and
with one a core. By default the peers play three tasks, or two, which takes ten minutes on a quiet machine of two cores;
`--tasks 10 --few 10` lets them play all. Writes results/benchmarks/peers-<date>-<cores>cores.json and .md; after Ctrl-C
they hold what has been measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.measured import write
from benchmarks.peers_dummy import HORIZON, phase_seconds
from benchmarks.peers_report import report, worker_name
from evalkit.assets import resolve_assets
from evalkit.environments import PROCESS_VARIABLES, Environment, ensure_environment, find_environment
from evalkit.episode import Episode
from evalkit.errors import InputError
from evalkit.paths import PROJECT, cache_folder
from evalkit.records import write_atomically
from evalkit.registry import load_suite
from evalkit.suite import EnvOptions
from evalkit.workers import Job, WorkerPool

SUITE = load_suite("libero_spatial")
SEED = 7
CHUNKS = (16, 8)

#: The order in which the peers take tasks, so that a few of them are spread over the suite.
ORDER = (0, 4, 8, 2, 6, 1, 3, 5, 7, 9)

#: Seconds that a process of a peer may take for one episode, its start included.
PATIENCE = 240.0

Row = dict[str, Any]


def process(python: Path, module: str, *arguments: str, seen: Callable[[float, str], None], patience: float) -> float:
    """Run ``python -m module arguments``; its wall-clock seconds. Every line of its output goes to `seen` as it comes,
    with the seconds since the start. Raises RuntimeError with its last lines if it fails or takes too long."""
    lines: list[str] = []
    start = time.perf_counter()
    running = subprocess.Popen([str(python), "-m", module, *arguments], cwd=PROJECT, stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=variables())
    late = threading.Timer(patience, running.kill)
    late.start()
    try:
        for line in running.stdout:
            lines.append(line.rstrip())
            seen(time.perf_counter() - start, lines[-1])
        status = running.wait()
    except BaseException:
        running.kill()
        raise
    finally:
        late.cancel()
    if status != 0:
        raise RuntimeError(f"{module} ended with status {status}:\n" + "\n".join(lines[-12:]))
    return time.perf_counter() - start


def variables() -> dict[str, str]:
    """Environment variables of every process: as in a rollout worker, one GL thread."""
    return {**os.environ, **PROCESS_VARIABLES, "LP_NUM_THREADS": "1"}


def cpu_seconds(process: int) -> float:
    """CPU time of a running process, all threads (/proc/PID/stat, utime and stime)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def parsed(line: str) -> Mapping[str, Any] | None:
    """The JSON object in `line`, if it is one."""
    return json.loads(line) if line.startswith('{"') and line.endswith("}") else None


def libero_process(python: Path, what: str, assets: Path, chunk: int, tasks: Sequence[int], bar: tqdm) -> Row:
    """One process of benchmarks.peers_libero: seconds of its start, wall-clock, its episodes."""
    found: Row = {"episodes": []}

    def seen(after: float, line: str) -> None:
        row = parsed(line)
        if row and "ready" in row:
            found["start"], found["described"] = after - row["probed"], row["ready"]
        elif row:
            found["episodes"].append(row)
            bar.update()

    found["wall"] = process(python, "benchmarks.peers_libero", what, str(assets), str(chunk),
                            ",".join(map(str, tasks)), seen=seen, patience=PATIENCE * len(tasks))
    return found


def side_by_side(python: Path, what: str, assets: Path, chunk: int, tasks: Sequence[int], count: int,
                 bar: tqdm) -> Row:
    """`count` processes at once, each with the same `tasks`."""
    with ThreadPoolExecutor(count) as threads:
        found = list(threads.map(lambda _: libero_process(python, what, assets, chunk, tasks, bar), range(count)))
    return {"processes": count, "chunk": chunk, "start": statistics.fmean(row["start"] for row in found),
            "wall": max(row["wall"] for row in found), "described": found[0]["described"],
            "episodes": [episode for row in found for episode in row["episodes"]]}


def compile_first(python: Path, assets: Path) -> None:
    """Play a task, unmeasured: in a new environment numba compiles at first use, and keeps what it compiled."""
    process(python, "benchmarks.peers_libero", "evalkit", str(assets), "16", "0", seen=lambda after, line: None,
            patience=2 * PATIENCE)


# (b)

def vla_eval_python() -> Path:
    """The interpreter that holds vla-eval beside the suite's own pins; built by uv first if need be."""
    pins = [SUITE.requirements, Path(__file__).with_name("vla-eval-requirements.txt")]
    combined = cache_folder() / "vla-eval-requirements.txt"
    combined.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(combined, "".join(path.read_text() for path in pins))
    return ensure_environment(Environment("vla-eval", combined))


@contextmanager
def dummy_server(python: Path, chunk: int) -> Iterator[tuple[str, int, float]]:
    """vla-eval's policy server with the dummy: its address, its process, and the seconds until it was ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen([str(python), "-m", "benchmarks.peers_vla_eval", "serve", "--address", address,
                                   "--args.chunk_size", str(chunk)], cwd=PROJECT, env=variables(), stdout=log,
                                  stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            while not healthy(address):
                if server.poll() is not None or time.perf_counter() - start > 60:
                    log.seek(0)
                    raise RuntimeError(f"vla-eval's server did not start:\n{log.read()[-1500:].decode()}")
                time.sleep(0.1)
            yield f"ws://{address}", server.pid, time.perf_counter() - start
        finally:
            server.terminate()
            server.wait()


def healthy(address: str) -> bool:
    """Whether vla-eval's server at `address` is ready."""
    try:
        with urllib.request.urlopen(f"http://{address}/health", timeout=1):
            return True
    except OSError:
        return False


def vla_eval(python: Path, assets: Path, chunk: int, tasks: Sequence[int], bar: tqdm) -> Row:
    """vla-eval over `tasks`, one episode each, with its own benchmark class, runner, recording and server."""
    said: list[Mapping[str, Any]] = []
    found: Row = {"processes": 1, "chunk": chunk}

    def seen(after: float, line: str) -> None:
        row = parsed(line)
        if row and "ready" in row:
            found["start"] = after - row["probed"]
        elif row:
            said.append(row)
        elif "(steps=" in line:
            bar.update()

    with tempfile.TemporaryDirectory() as folder, dummy_server(python, chunk) as (url, server, server_start):
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps({
            "server": {"url": url}, "output_dir": f"{folder}/results",
            "benchmarks": [{
                "benchmark": "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark", "episodes_per_task": 1,
                "max_steps": HORIZON, "tasks": [SUITE.tasks[task].instruction for task in tasks],
                "params": {"suite": SUITE.name, "seed": SEED, "send_wrist_image": True, "send_state": True}}]}))
        served = cpu_seconds(server)
        found["wall"] = process(python, "benchmarks.peers_vla_eval", "run", str(assets), "run", "--config",
                                str(config), "--no-docker", seen=seen, patience=PATIENCE * len(tasks))
        served = cpu_seconds(server) - served
        episodes = sorted(vla_eval_episodes(Path(folder) / "results"), key=lambda row: row["task"])
    *builds, end = said
    if [row["task"] for row in episodes] != sorted(tasks) or len(builds) != len(tasks):
        raise RuntimeError(f"vla-eval measured tasks {[row['task'] for row in episodes]} of {sorted(tasks)}")
    found["start"] += server_start
    afterwards = [build["busy before"] for build in builds[1:]] + [end["busy at the end"]]
    for row, build, after in zip(episodes, builds, afterwards):  # tasks are built in their order
        row |= {"build": build["build"], "seconds": row["seconds"] - build["build"],
                "cpu": after - build["busy after"] + served / len(tasks)}
    return {**found, "episodes": episodes}


def vla_eval_episodes(folder: Path) -> list[Row]:
    """What vla-eval wrote about its episodes. Raises RuntimeError if one of them ended in an error."""
    (aggregate,) = (json.loads(path.read_text()) for path in folder.glob("*_aggregate.json"))
    rows = []
    for episode in (episode for task in aggregate["tasks"] for episode in task["episodes"]):
        if "failure_reason" in episode:
            raise RuntimeError(f"vla-eval's episode failed: {episode['failure_reason']} {episode['failure_detail']}")
        (steps,) = folder.rglob(f"task{episode['task_idx']:04d}_ep*.jsonl")
        state = json.loads(steps.read_text().splitlines()[-1])["state"]
        rows.append({"task": episode["task_id"], "index": 0, "seconds": episode["elapsed_sec"],
                     "steps": episode["steps"], "pose": state[:3] + state[6:]})
    return rows


# (c)

def evalkit_pool(python: Path, assets: Path, chunk: int, tasks: Sequence[int], workers: int, bar: tqdm) -> Row:
    """A few episodes of each of `tasks` through WorkerPool and Ray.

    The seconds of one after a worker's first of a task go from the result before to its own, so with all that Ray and
    the driver do.
    """
    episodes = [Episode(SUITE.name, task, index, SEED, HORIZON) for task in tasks
                for index in range(episodes_a_task(len(tasks), workers))]
    with tempfile.NamedTemporaryFile("r", prefix="evalkit-begun-") as begun:
        options = EnvOptions(tuple(SUITE.views), "reference", assets=assets)
        job = Job("benchmarks.peers_dummy:Dummy", {"length": chunk, "begun": begun.name}, options)
        start, rows, began = time.time(), [], {}
        with WorkerPool(job, [SUITE.name], workers, python=python) as pool:
            ready, driver = time.time(), time.process_time()
            for result in pool.run(episodes):
                if result.record.outcome == "error":
                    raise RuntimeError(result.record.traceback)
                rows.append({"task": result.record.task, "index": result.record.index, "steps": result.record.steps,
                             "phases": phase_seconds(result.record), "final_sha": result.record.final_sha,
                             "end": time.time()})
                began.update({(int(task), int(index)): (float(at), int(worker))
                              for task, index, at, worker in map(str.split, begun)})
                rows[-1]["begin"], rows[-1]["worker"] = began[result.record.task, result.record.index]
                rows[-1]["busy"] = cpu_seconds(rows[-1]["worker"])
                bar.update()
            driver = (time.process_time() - driver) / len(episodes)
        wall = time.time() - start
    return {"processes": workers, "chunk": chunk, "start": ready - start, "wall": wall,
            "episodes": timed(rows, ready, driver)}


def episodes_a_task(tasks: int, workers: int) -> int:
    """So many that every worker plays a task again whose environment it has: three a worker, two a task at least."""
    return max(2, math.ceil(3 * workers / tasks))


def timed(rows: list[Row], ready: float, driver: float) -> list[Row]:
    """`rows` with `build` and `seconds`, and with `cpu` (the worker's and its part of the driver's) where no
    environment was built."""
    for worker in {row["worker"] for row in rows}:
        before, held, busy = ready, None, 0.0
        for row in sorted((row for row in rows if row["worker"] == worker), key=lambda row: row["begin"]):
            warm = held == row["task"]
            row["build"] = 0.0 if warm else max(row["begin"] - before, 0.0)
            row["seconds"] = row["end"] - (before if warm else row["begin"])
            if warm:
                row["cpu"] = row["busy"] - busy + driver
            before, held, busy = row["end"], row["task"], row["busy"]
    return sorted(({key: value for key, value in row.items() if key not in ("begin", "end", "worker", "busy")}
                   for row in rows), key=lambda row: (row["task"], row["index"]))


def check_equal(variants: Mapping[str, Row]) -> int:
    """How many episodes ended where another's of the same task and init state did: script and evalkit bit for bit,
    vla-eval in the gripper's pose, which it records. Raises RuntimeError if one did not: then the figures are not of
    the same work."""
    firsts: dict[tuple[int, int, str], tuple[str, Any]] = {}
    equal = 0
    for name, variant in variants.items():
        for row in variant["episodes"]:
            for key in ("bits", "final_sha", "pose"):
                if key not in row:
                    continue
                first, end = firsts.setdefault((row["task"], row["index"], key), (name, row[key]))
                if row[key] != end:
                    raise RuntimeError(f"{name}, task {row['task']}: the episode ended at {row[key]}, that of {first} "
                                       f"at {end}")
                equal += first != name
    return equal


def plan(python: Path, vla_python: Path | None, assets: Path, tasks: Sequence[int],
         few: Sequence[int]) -> dict[str, tuple[int, Callable[[tqdm], Row]]]:
    """What is measured, in this order: name, number of episodes, and how."""
    cores, planned = os.cpu_count() or 1, {}
    for chunk, played in zip(CHUNKS, (tasks, few)):
        planned[f"evalkit, chunk {chunk}"] = 2 * len(tasks), partial(
            side_by_side, python, "evalkit", assets, chunk, tasks, 1)
        planned[f"script, chunk {chunk}"] = len(played), partial(
            side_by_side, python, "script", assets, chunk, played, 1)
        if vla_python:
            planned[f"vla-eval, chunk {chunk}"] = len(played), partial(vla_eval, vla_python, assets, chunk, played)
    for count, those in {1: tasks, cores: range(len(SUITE.tasks))}.items():
        for chunk in CHUNKS:
            planned[f"{worker_name(count)}, chunk {chunk}"] = len(those) * episodes_a_task(len(those), count), partial(
                evalkit_pool, python, assets, chunk, those, count)
    if cores > 1:
        planned[f"script, {cores} processes"] = cores * len(few), partial(
            side_by_side, python, "script", assets, CHUNKS[0], few, cores)
    return planned


def measure(python: Path, assets: Path, tasks: Sequence[int], few: Sequence[int]) -> dict[str, Any]:
    """All variants, by name; and what is left out and why. Ctrl-C leaves the rest out."""
    found: dict[str, Any] = {"variants": {}, "left_out": []}
    try:
        vla_python = vla_eval_python()
    except InputError as error:
        found["left_out"].append(f"vla-eval could not be installed: {error}")
        vla_python = None
    planned = plan(python, vla_python, assets, tasks, few)
    with tqdm(total=sum(count for count, _ in planned.values()), unit="episode", dynamic_ncols=True) as bar:
        try:
            for interpreter in filter(None, (python, vla_python)):
                compile_first(interpreter, assets)
            for name, (_, run) in planned.items():
                bar.set_description(name)
                try:
                    found["variants"][name] = run(bar)
                except RuntimeError as error:
                    if not name.startswith("vla-eval"):
                        raise
                    found["left_out"].append(f"{name}: {error}")
        except KeyboardInterrupt:
            found["left_out"].append(f"all but {len(found['variants'])} of {len(planned)} parts: interrupted")
    for reason in found["left_out"]:
        print(f"notice: left out: {reason}", file=sys.stderr)
    return found


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=3, choices=range(1, 11), metavar="1..10",
                        help="tasks that the peers play at chunk 16 (default: %(default)s)")
    parser.add_argument("--few", type=int, default=2, choices=range(1, 11), metavar="1..10",
                        help="tasks that they play at chunk 8 and in several processes (default: %(default)s)")
    options = parser.parse_args()
    python = ensure_environment(find_environment(SUITE.interpreter))
    assets = resolve_assets(SUITE, "auto", list(range(10)), python)
    os.environ["LP_NUM_THREADS"] = "1"  # of rollout workers; else they share the cores
    start = time.perf_counter()
    found = measure(python, assets.folder, ORDER[:options.tasks], ORDER[:options.few])
    if not found["variants"]:
        sys.exit("interrupted before anything was measured")
    found |= {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "cores": os.cpu_count() or 1,
              "assets": assets.kind, "horizon": HORIZON, "suite": SUITE.name, "tasks": len(SUITE.tasks),
              "described": next(iter(found["variants"].values()))["described"],
              "equal": check_equal(found["variants"]), "took": time.perf_counter() - start}
    write("peers", found, report(found))


if __name__ == "__main__":
    main()
