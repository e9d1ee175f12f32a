"""What every benchmark does: measure in a suite's interpreter, write the figures."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalkit.environments import PROCESS_VARIABLES
from evalkit.paths import PROJECT


def in_interpreter(python: Path, module: str, *arguments: str) -> Any:
    """The JSON that ``python -m module arguments`` prints last; one GL thread, variables as in a rollout worker."""
    done = subprocess.run([str(python), "-m", module, *arguments], cwd=PROJECT, check=True, stdout=subprocess.PIPE,
                          text=True, env={**os.environ, **PROCESS_VARIABLES, "LP_NUM_THREADS": "1"})
    return json.loads(done.stdout.strip().splitlines()[-1])


def write(name: str, found: Mapping[str, Any], report: str) -> None:
    """Print `report`, and keep it and `found` as results/benchmarks/<name>-<date>-<cores>cores.md and .json."""
    path = PROJECT / "results" / "benchmarks" / f"{name}-{found['date']}-{found['cores']}cores"
    path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    path.with_suffix(".md").write_text(report)
    print(report)


def header(columns: Iterable[str]) -> list[str]:
    """The first two lines of a markdown table whose first column has no name."""
    columns = list(columns)
    return [row("", columns), "|---|" + "---:|" * len(columns)]


def row(name: str, cells: Iterable[str]) -> str:
    """A line of a markdown table."""
    return f"| {name} | " + " | ".join(cells) + " |"
