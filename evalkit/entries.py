"""The entries of a paper's table: published results and measured runs as cells under the same keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from evalkit import published
from evalkit.assets import REAL
from evalkit.errors import InputError
from evalkit.published import AVERAGE, RATE
from evalkit.records import Run
from evalkit.registry import load_suite, suite_groups
from evalkit.stats import effective_size, wilson
from evalkit.tables import policy_name, task_table
from evalkit.texts import plain

#: Where the paper prints its tables, by the `benchmark` of the published rows.
SOURCES = {"libero": "arXiv:2603.10448v2 Table 1", "robocasa_gr1": "arXiv:2603.10448v2 Table 2",
           "deployment": "arXiv:2603.10448v2 Table 3"}


@dataclass(frozen=True)
class Cell:
    """The rate behind one number: of a task, or the mean over tasks that count once each.

    rate: fraction, NaN unless every task has a measured episode. successes, n: counts (n = 0: none, or not stated).
    size: episodes that would give one task's rate this precision. tasks, of: tasks measured, tasks there are. planned:
    episodes of the whole protocol. printed: text of a published value.
    """

    rate: float = math.nan
    successes: int = 0
    n: int = 0
    size: float = 0.0
    errors: int = 0
    missing: int = 0
    tasks: int = 0
    of: int = 1
    planned: int = 0
    printed: str = ""

    @property
    def known(self) -> bool:
        """Whether the rate and the number of episodes behind it are known."""
        return self.size > 0 and not math.isnan(self.rate)

    @property
    def whole(self) -> bool:
        """Whether all episodes of the protocol were measured; a published value counts as such."""
        return not math.isnan(self.rate) and self.n >= self.planned

    @property
    def effective(self) -> tuple[float, float]:
        """Successes and episodes of one task with this rate and precision; (0, 0) where not known."""
        return (min(self.rate * self.size, self.size), self.size) if self.known else (0.0, 0.0)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson with the effective size; NaN where the rate or its n is not known."""
        return wilson(*self.effective)


def mean_cell(cells: Sequence[Cell]) -> Cell:
    """The mean of `cells`, each counting once: no rate unless all have one, no size unless all have one."""
    sized = all(cell.size > 0 for cell in cells)
    sums = {name: sum(getattr(cell, name) for cell in cells)
            for name in ("successes", "n", "errors", "missing", "tasks", "of", "planned")}
    return Cell(rate=sum(cell.rate for cell in cells) / len(cells),
                size=effective_size([cell.size for cell in cells]) if sized else 0.0, **sums)


@dataclass(frozen=True)
class Layout:
    """The keys of a table in the paper's order, with their headings; groups: further means over some of them."""

    benchmark: str
    suites: tuple[str, ...]
    unit: str
    headings: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def blocks(self) -> list[tuple[str, ...]]:
        """Keys whose comparisons are adjusted together: the paper's, the groups, the average."""
        return [block for block in (tuple(self.headings), tuple(self.groups), (AVERAGE,)) if block]

    @property
    def keys(self) -> list[str]:
        """All keys in order, the average last."""
        return [key for block in self.blocks for key in block]

    def parts(self, key: str) -> tuple[str, ...]:
        """The keys that `key` is the mean of; itself where it is none."""
        return tuple(self.headings) if key == AVERAGE else self.groups.get(key, (key,))

    def heading(self, key: str) -> str:
        """What is printed for `key`."""
        return {AVERAGE: "Average", **self.headings}.get(key, key)

    def suites_of(self, run: Run) -> list[str]:
        """Suites of the run that the table has."""
        return [name for name in run_info(run)["config"]["suites"] if name in self.suites]


def libero_layout() -> Layout:
    """The paper's Table 1: four suites."""
    suites = suite_groups()["libero"]
    return Layout("libero", suites, "suite", dict(zip(suites, ("Spatial", "Object", "Goal", "Long"))))


def gr1_layout(groups: bool = False) -> Layout:
    """The paper's Table 2: 24 tasks, and on request the means over their families."""
    tasks = load_suite("robocasa_gr1").tasks
    families = {name: tuple(task.label for task in tasks if task.group == name)
                for name in dict.fromkeys(task.group for task in tasks)}
    return Layout("robocasa_gr1", ("robocasa_gr1",), "task", {task.label: task.label for task in tasks},
                  families if groups else {})


@dataclass(frozen=True)
class Entry:
    """One method of a table: its cells by key, on what they rest (`evidence`) and where they are from (`source`).

    run: the measured run, None for published results. comparable: whether its assets allow a comparison with those.
    """

    label: str
    evidence: str
    cells: Mapping[str, Cell]
    source: str
    run: Run | None = None
    comparable: bool = True


def paper_entries(layout: Layout) -> list[Entry]:
    """The paper's methods in its order."""
    source = SOURCES[layout.benchmark]
    rows = published.load(benchmark=layout.benchmark, source=source)
    return [published_entry(layout, method, protocol, source)
            for method, protocol in rows[["method", "protocol"]].drop_duplicates().itertuples(index=False)]


def published_entry(layout: Layout, method: str, protocol: str, source: str | None = None) -> Entry:
    """One published result; `source` is any part of the source's text.

    Statistics of a mean follow from its cells where those are published, its text is the printed one. Raises InputError
    when nothing, or more than one source, fits.
    """
    rows = published.load(benchmark=layout.benchmark, method=method, protocol=protocol, source=source)
    sources = rows["source"].unique()
    if len(sources) > 1:
        listed = "\n".join(f"  {text}" for text in sources)
        raise InputError(f"{method} under {protocol} is published by several sources:\n{listed}\n"
                         "Name one, by any part that only it has.")
    rows = rows.sort_values("metric").drop_duplicates("suite_or_task")  # success_rate before success_rate_recomputed
    given = {row.suite_or_task: _published_cell(row) for row in rows.itertuples()}
    cells = {key: given.get(key, Cell()) for key in layout.headings}
    for key in (*layout.groups, AVERAGE):
        mean = mean_cell([cells[part] for part in layout.parts(key)])
        stated = given.get(key if key == AVERAGE else f"family:{key.lower()}", Cell())
        cells[key] = stated if math.isnan(mean.rate) else replace(mean, printed=stated.printed)
    return Entry(method, f"published, {_stated(cells, layout)}", cells, sources[0])


def _stated(cells: Mapping[str, Cell], layout: Layout) -> str:
    """What is known of n: the fewest episodes behind one of the headings, or those behind the average alone."""
    sizes = [cells[key].n for key in layout.headings if cells[key].tasks]
    fewest = min(sizes, default=cells[AVERAGE].n)
    return f"n={fewest}{'' if sizes else ' in all'}" if fewest else "n not stated"


def _published_cell(row: Any) -> Cell:
    n = 0 if pd.isna(row.n) else int(row.n)
    return Cell(row.value / 100, round(row.value * n / 100), n, float(n), tasks=1,
                printed=row.printed if row.metric == RATE else "")


def run_entry(run: Run, layout: Layout, number: int, errors_as: str = "") -> Entry:
    """A run's cells. errors_as: count errors as ``success`` or ``failure``, to see what they could change."""
    info, table = run_info(run), task_table(run)
    rows = {(row["suite"], row["task"]): row for row in table.to_dict("records") if not pd.isna(row["task"])}
    kinds = {info["fingerprints"][suite]["parts"].get("asset_kind") for suite in layout.suites_of(run)
             if suite in info["fingerprints"]}
    cells: dict[str, Cell] = {}
    for suite in map(load_suite, layout.suites):
        tasks = {task.label: _task_cell(rows.get((suite.name, task.index)), suite.episodes_per_task, errors_as)
                 for task in suite.tasks}
        cells |= {suite.name: mean_cell(list(tasks.values()))} if suite.name in layout.headings else tasks
    for key in (*layout.groups, AVERAGE):
        cells[key] = mean_cell([cells[part] for part in layout.parts(key)])
    comparable = kinds <= {REAL}
    return Entry(plain(f"{policy_name(info)} (run {number})"), "measured" if comparable else "NOT COMPARABLE", cells,
                 plain(str(run.folder)), run, comparable)


def _task_cell(row: Mapping[str, Any] | None, planned: int, errors_as: str) -> Cell:
    if row is None:
        return Cell(planned=planned)
    counted = row["errors"] if errors_as else 0
    successes, n = row["successes"] + (counted if errors_as == "success" else 0), row["n"] + counted
    return Cell(successes / n if n else math.nan, successes, n, float(n), row["errors"], row["missing"],
                tasks=int(n > 0), planned=planned)


def run_info(run: Run) -> dict[str, Any]:
    """run.json. Raises InputError, naming what is wrong, where it lacks what the tables need."""
    info = run.info
    try:
        for key in ("suites", "policy", "episodes", "seed_policy", "seed"):
            info["config"][key]
        for episode in info["planned"]:
            suite, task, index = episode.split("/")
            load_suite(suite).tasks[int(task)], int(index)
        for fingerprint in info["fingerprints"].values():
            fingerprint["parts"].get("asset_kind")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"{run.folder / 'run.json'} was edited, or made by another version of evalkit "
                         f"({type(error).__name__}: {error}). Run the evaluation again.") from error
    return info
