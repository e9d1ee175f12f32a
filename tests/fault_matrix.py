"""The fault matrix: what each injected fault did to a run, noted by the tests that inject them.

``python -m tests.fault_matrix FOLDER FILE.md`` writes the table from what tests left in FOLDER (``make faults``).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalkit.records import Run

#: Folder for the rows; not set: none are kept.
VARIABLE = "EVALKIT_FAULTS"

HEAD = """# Faults, and what became of the records

Written by the tests of `make faults` on {date}. Each injects a fault into a run, continues the run by the same
command where it ended, and compares the final records with those of an undisturbed run: every episode once, bit for bit
in everything but timings and attempts.

| fault | simulator | what happened | records equal? |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One line of the table. order: of the file and line of its test, so that the table keeps the tests' order."""

    fault: str
    simulator: str
    happened: str
    equal: bool
    order: str


def measurements(folder: Path) -> dict[str, dict[str, Any]]:
    """Each episode's record without its circumstances."""
    return {name: record.measurement() for name, record in sorted(Run(folder).records().items())}


def compare(fault: str, folder: Path, expected: Mapping[str, Any], happened: str) -> None:
    """Note the row, and fail unless the run in `folder` holds the `expected` measurements, each once."""
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    measured = Counter(line["id"] for line in lines if line["outcome"] != "error")
    found = measurements(folder)
    equal = found == dict(expected) and set(measured.values()) == {1}
    attempts = Counter(record.attempt for record in Run(folder).records().values())
    counted = ", ".join(f"{count} at attempt {attempt}" for attempt, count in sorted(attempts.items()))
    note(fault, next(iter(expected)).split("/")[0], f"{happened}; episodes measured: {counted}", equal)
    assert found == dict(expected) and set(measured.values()) == {1}


def note(fault: str, simulator: str, happened: str, equal: bool) -> None:
    """Keep a row, if a folder for rows is named."""
    folder = os.environ.get(VARIABLE)
    if folder:
        test = os.environ["PYTEST_CURRENT_TEST"].split(" ")[0]
        row = Row(fault, simulator, happened, equal, test.partition("::")[0])
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{time.monotonic_ns():020d}.json").write_text(json.dumps(asdict(row)))


def table(rows: list[Row], date: str) -> str:
    """The page."""
    lines = [f"| {row.fault} | {row.simulator} | {' '.join(row.happened.split()).replace('|', '/')} | "
             f"{'yes' if row.equal else 'NO'} |" for row in rows]
    equal = sum(row.equal for row in rows)
    return HEAD.format(date=date) + "\n".join(lines) + f"\n\n{len(rows)} faults, {equal} times equal.\n"


def main(folder: str, file: str) -> int:
    """Write the page; 1 if it holds no row, or one that is not equal."""
    rows = [Row(**json.loads(path.read_text())) for path in sorted(Path(folder).glob("*.json"))]
    rows.sort(key=lambda row: row.order)
    Path(file).write_text(table(rows, time.strftime("%Y-%m-%d")))
    print(f"{file}: {len(rows)} faults")
    return 0 if rows and all(row.equal for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
