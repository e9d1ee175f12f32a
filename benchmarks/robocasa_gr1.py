"""RoboCasa-GR1 beside a loop that draws every step: what resets, steps, pictures and episodes cost, and why.

    make bench-gr1, or python -m benchmarks.robocasa_gr1 [TASK ...]

On upstream's scenes that loop is upstream's own gym environment. They (on stand-in assets) need EVALKIT_ROBOCASA_SRC or
a reachable Git URL and are left out otherwise. Writes results/benchmarks/robocasa_gr1-<date>-<cores>cores.json and .md.
One process at a time, one GL thread.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.measured import header, in_interpreter, row, write
from evalkit.assets import resolve_assets
from evalkit.environments import ensure_environment, find_environment
from evalkit.errors import InputError
from evalkit.registry import load_suite

SUITE = load_suite("robocasa_gr1")

#: Pick-and-place, and one task with a drawer.
TASKS = ("FromTrayToPlate", "CanToDrawerClose")


def measure(python: Path, what: str, scenes: str, folder: Path, short: str) -> dict:
    """What benchmarks.robocasa_gr1_env finds for one task."""
    task = next(task.index for task in SUITE.tasks if task.short == short)
    return in_interpreter(python, "benchmarks.robocasa_gr1_env", what, scenes, str(folder), str(task))


def available_scenes(python: Path) -> dict[str, Path]:
    """Scenes that can be had here -> their folder."""
    found = {"builtin": resolve_assets(SUITE, "auto", [], python, "builtin").folder}
    try:
        found["upstream"] = resolve_assets(SUITE, "stand-in", [], python, "upstream").folder
    except InputError as error:
        print(f"notice: upstream's scenes are left out: {error}")
    return found


#: What is measured, each in a process of its own: (name in the results, of every task or of the first alone).
MEASURED = (("costs", True), ("parts", True), ("episode", False), ("memory", False))

PARTS = {"step": "A control step without pictures, part by part, ms (the less disturbed of two rounds of 24 steps):",
         "reset": "A reset with its first picture, part by part, ms (the less disturbed of two):"}


def report(found: dict) -> str:
    """The figures as markdown."""
    lines = [f"RoboCasa-GR1, {found['date']}, {found['machine']}, {found['cores']} cores, "
             f"{found['described']['renderer']}, mujoco {found['described']['mujoco']}; CPU seconds of one "
             "process with all its threads, one GL thread"]
    for scenes, measured in found["scenes"].items():
        loop = ("upstream's own gym environment, on stand-in assets" if scenes == "upstream" else
                "robosuite's controllers and the public wrapper's frame and views, on evalkit's scenes")
        costs = measured["costs"]
        lines += ["", f"{scenes} scenes; the loop that draws every step is {loop}; both execute the same actions in "
                      "turns from the same scene:", "", *header(costs)]
        for name in next(iter(costs.values())):
            lines.append(row(name, [_cell(name, task[name]) for task in costs.values()]))
        for what, title in PARTS.items() if "parts" in measured else ():
            parts = measured["parts"]
            lines += ["", title, "", *header(parts), *part_rows([task[what] for task in parts.values()])]
        for task, seconds in measured.get("episode", {}).items():
            lines += ["", f"One whole episode of 720 steps with 60 pictures by evalkit ({task}): {seconds:.1f} s."]
        for task, sizes in measured.get("memory", {}).items():
            grown = ", ".join(f"{mib:.0f} after {count}" for count, mib in sizes.items())
            lines += ["", f"Resident MiB over resets with a picture ({task}): {grown}."]
    return "\n".join([*lines, ""])


def part_rows(tasks: list[dict]) -> list[str]:
    """Rows of ``loop: part`` over tasks, with each loop's total."""
    rows = []
    for loop in tasks[0]:
        names = list(dict.fromkeys(name for task in tasks for name in task[loop]))
        rows += [row(f"{loop}: {name}", [f"{task[loop].get(name, 0.0):.2f}" for task in tasks]) for name in names]
        rows.append(row(f"{loop}: total", [f"{sum(task[loop].values()):.2f}" for task in tasks]))
    return rows


def _cell(name: str, value: float) -> str:
    if "turns" in name:
        return str(value)
    if "times faster" in name:
        return f"{value:.1f}x"
    return f"{value:.2f} s" if value >= 1 or "reset" in name or "episode" in name else f"{1000 * value:.1f} ms"


def main(tasks: Sequence[str], kinds: Sequence[str] = tuple(name for name, _ in MEASURED)) -> None:
    """Measure `kinds` of `tasks` and write the results."""
    python = ensure_environment(find_environment(SUITE.interpreter))
    found = {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "cores": os.cpu_count() or 1,
             "scenes": {}}
    jobs = [(scenes, folder, what, task) for scenes, folder in available_scenes(python).items()
            for what, every in MEASURED if what in kinds for task in (tasks if every else tasks[:1])]
    for scenes, folder, what, task in tqdm(jobs, unit="process"):
        measured = measure(python, what, scenes, folder, task)
        found["scenes"].setdefault(scenes, {}).setdefault(what, {})[task] = measured["found"]
        found["described"] = measured["described"]
    write("robocasa_gr1", found, report(found))


if __name__ == "__main__":
    main(sys.argv[1:] or TASKS)
