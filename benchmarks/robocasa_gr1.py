"""`make bench-gr1`: what a RoboCasa-GR1 reset, step, picture and episode cost, on built-in and on upstream's scenes.

Upstream's (on stand-in assets) need EVALKIT_ROBOCASA_SRC or a reachable Git URL and are left out otherwise. Writes
results/benchmarks/robocasa_gr1-<date>-<cores>cores.json and .md. One process at a time, one GL thread.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.measured import in_interpreter, write
from evalkit.assets import resolve_assets
from evalkit.environments import ensure_environment, find_environment
from evalkit.errors import InputError
from evalkit.registry import load_suite

SUITE = load_suite("robocasa_gr1")

#: Pick-and-place on a plate and on a shelf, and one task of each fixture.
TASKS = ("FromTrayToPlate", "FromTrayToTieredshelf", "CanToDrawerClose", "MilkToMicrowaveClose",
         "BottleToCabinetClose")


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


def report(found: dict) -> str:
    """The figures as markdown."""
    lines = [f"RoboCasa-GR1, {found['date']}, {found['machine']}, {found['cores']} cores, "
             f"{found['described']['renderer']}, mujoco {found['described']['mujoco']}; one process, one GL thread"]
    for scenes, tasks in found["costs"].items():
        assets = " (stand-in assets)" if scenes == "upstream" else ""
        lines += ["", f"{scenes} scenes{assets}:", "", f"| | {' | '.join(tasks)} |", "|---|" + "---:|" * len(tasks)]
        for name in next(iter(tasks.values())):
            lines.append(f"| {name} | " + " | ".join(_cell(name, task[name]) for task in tasks.values()) + " |")
        grown = ", ".join(f"{mib:.0f} after {count}" for count, mib in found["memory"][scenes].items())
        lines += ["", f"Resident MiB over resets with a picture ({TASKS[0]}): {grown}."]
    return "\n".join([*lines, ""])


def _cell(name: str, value: float) -> str:
    if name == "ratio":
        return f"{value:.1f}x"
    return f"{value:.2f} s" if value >= 1 or "reset" in name or "episode" in name else f"{1000 * value:.1f} ms"


def main() -> None:
    """Measure and write the results."""
    python = ensure_environment(find_environment(SUITE.interpreter))
    scenes, cores = available_scenes(python), os.cpu_count() or 1
    found = {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "cores": cores, "costs": {},
             "memory": {}}
    bar = tqdm(total=len(scenes) * (len(TASKS) + 1), unit="process")
    for kind, folder in scenes.items():
        found["costs"][kind] = {}
        for task in TASKS:
            measured = measure(python, "costs", kind, folder, task)
            found["costs"][kind][task], found["described"] = measured["found"], measured["described"]
            bar.update()
        found["memory"][kind] = measure(python, "memory", kind, folder, TASKS[0])["found"]
        bar.update()
    write("robocasa_gr1", found, report(found))


if __name__ == "__main__":
    main()
