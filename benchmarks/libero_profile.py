"""`make bench-libero-profile`: where a LIBERO step, reset and episode spend their time, upstream's and evalkit's.

Writes results/benchmarks/libero-profile-<date>-<cores>cores.json and .md. One process a task, one GL thread.
"""

from __future__ import annotations

import os
import platform
import time

from tqdm import tqdm

from benchmarks.measured import header, in_interpreter, row, write
from evalkit.assets import resolve_assets
from evalkit.environments import ensure_environment, find_environment
from evalkit.registry import load_suite

#: One scene of each kind: table with fixtures, floor, living room, kitchen.
TASKS = (("libero_spatial", 0), ("libero_object", 0), ("libero_10", 0), ("libero_10", 3))


def report(found: dict) -> str:
    """The figures as markdown."""
    tasks = found["tasks"]
    lines = [f"LIBERO, {found['date']}, {found['machine']}, {found['cores']} cores, {found['described']['renderer']}, "
             f"mujoco {found['described']['mujoco']}, {found['assets']} assets; CPU time of one process, one GL thread",
             "",
             "A control step without pictures, ms; each row executes the same random actions on the same states, "
             f"{found['chunk']} in a row (means over {found['steps']} steps, each at its least disturbed of "
             f"{found['rounds']} rounds):", "",
             *header(tasks)]
    names = list(next(iter(tasks.values()))["step"])
    lines += [row(name, [f"{task['step'][name]:.2f}" for task in tasks.values()]) for name in names]
    for name in names[1:]:
        ratios = [task["step"][name] / task["step"]["25 x mj_step"] for task in tasks.values()]
        lines.append(row(f"{name} / 25 x mj_step", [f"{ratio:.2f}" for ratio in ratios]))
    gained = [task["step"]["upstream's step"] / task["step"]["evalkit's step"] for task in tasks.values()]
    lines.append(row("upstream's step / evalkit's", [f"{ratio:.2f}" for ratio in gained]))
    for title, key, unit in (("A control step part by part, ms (least disturbed round, with the timers' own cost):",
                              "step parts", 2),
                             ("A reset without cameras up to the first query, part by part, ms:",
                              "reset parts", 1),
                             (f"An episode of {found['episode_steps']} steps with both cameras, s; upstream's loop "
                              f"draws in every step, evalkit in every {found['chunk']}th:", "episode", 2)):
        lines += ["", title, "", *header(tasks)]
        for loop in ("upstream", "evalkit"):
            for part in next(iter(tasks.values()))[key][loop]:
                values = [task[key][loop].get(part, 0.0) for task in tasks.values()]
                lines.append(row(f"{loop}: {part}", [f"{value:.{unit}f}" for value in values]))
            if key != "episode":
                totals = [sum(task[key][loop].values()) for task in tasks.values()]
                lines.append(row(f"{loop}: total", [f"{value:.{unit}f}" for value in totals]))
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and write the results."""
    suite = load_suite(TASKS[0][0])
    python = ensure_environment(find_environment(suite.interpreter))
    assets = resolve_assets(suite, "auto", list(range(10)), python)
    tasks, found = {}, {}
    for name, task in tqdm(TASKS, unit="task"):
        found = in_interpreter(python, "benchmarks.libero_profile_env", str(assets.folder), name, str(task))
        tasks[f"{name}/{task:02d}"] = found.pop("task")
    found |= {"tasks": tasks, "date": time.strftime("%Y-%m-%d"), "machine": platform.machine(),
              "cores": os.cpu_count() or 1, "assets": assets.kind}
    write("libero-profile", found, report(found))


if __name__ == "__main__":
    main()
