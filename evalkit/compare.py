"""Is B better than A? Two runs task by task: paired where they ran the same episodes, else as independent samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evalkit.errors import InputError
from evalkit.pairing import (
    MISSING,
    Cell,
    FieldDifference,
    Pairing,
    Side,
    describe_side,
    doubts,
    fingerprint_differences,
    left_out,
    load_side,
    pair,
    pair_tasks,
)
from evalkit.records import ERROR, Run
from evalkit.registry import load_suite
from evalkit.stats import (
    UNDEFINED,
    Difference,
    boschloo,
    cochran_mantel_haenszel,
    holm,
    mcnemar,
    mean_difference,
    mean_rate,
    newcombe,
    paired_mean_difference,
    probability_better,
    two_sided_z,
)

BETTER, WORSE, NOTHING, TOO_FEW, CANNOT_TELL = (
    "better", "worse", "no difference shown", "too few episodes", "cannot tell")
AVERAGE, ALL_SUITES = "average", "all suites"
ERROR_RATE = 0.05

#: With so many episodes in each arm a test can always reach significance, whatever the number of tasks.
PLENTY = 20

#: Draws of the posterior a row: the probability's own error is below 0.4 points.
DRAWS = 20_000


@dataclass(frozen=True)
class Row:
    """A task, or the average over the tasks of a suite (`task` None) or of all suites. Rates are fractions.

    k, n: successes and measured episodes; in a paired row only episodes that both runs measured.
    errors, missing: planned episodes that ended in an error, or were not run. low, high: the rate if all of those had
    failed, or succeeded. only_a, only_b: discordant episodes, None in an unpaired row.
    difference: of rates, B - A, mean over tasks. p: of no difference; p_holm: adjusted for the rows of its kind.
    probability: that B's rate is higher (Beta posteriors, pairing not used). verdict: of B against A.
    """

    suite: str
    task: int | None
    name: str
    paired: bool
    k_a: int
    n_a: int
    rate_a: float
    low_a: float
    high_a: float
    errors_a: int
    missing_a: int
    k_b: int
    n_b: int
    rate_b: float
    low_b: float
    high_b: float
    errors_b: int
    missing_b: int
    only_a: int | None
    only_b: int | None
    difference: Difference
    p: float
    p_holm: float = math.nan
    probability: float = math.nan
    verdict: str = TOO_FEW

    @property
    def unmeasured(self) -> int:
        """Planned episodes of both runs without a measurement."""
        return self.errors_a + self.missing_a + self.errors_b + self.missing_b

    @property
    def detectable(self) -> float:
        """About the smallest difference that this comparison shows with 80 % power, from its interval's width."""
        half = (self.difference.high - self.difference.low) / 2
        return half * (two_sided_z() + two_sided_z(0.6)) / two_sided_z()


@dataclass(frozen=True)
class Comparison:
    """Two runs compared; plain data. only_a, only_b: ids of paired episodes at which only A, or only B, succeeded."""

    a: Side
    b: Side
    suites: tuple[str, ...]
    pairings: tuple[Pairing, ...]
    tasks: tuple[Row, ...]
    averages: tuple[Row, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    fingerprint_differences: tuple[FieldDifference, ...]
    warnings: tuple[str, ...]
    seed: int


def compare(run_a: Run, run_b: Run, seed: int = 0) -> Comparison:
    """Compare B with A on the suites, tasks and episodes that both planned. `seed` is of the posterior's draws.

    Errors and missing episodes are left out of the rates and bounded: where they could change a verdict it is
    ``cannot tell``. Raises InputError when a folder is not a run or the two have no suite or task in common.
    """
    a, b = load_side("A", run_a), load_side("B", run_b)
    suites = [suite for suite in a.planned if suite in b.planned]
    if not suites:
        raise InputError(f"{a.folder} ran {', '.join(a.planned)} and {b.folder} ran {', '.join(b.planned)}: runs of "
                         "different suites cannot be compared. Compare runs of the same suite.")
    differences = [item for suite in suites for item in fingerprint_differences(a, b, suite)]
    warnings = [f"only {ours.letter} ran {suite}: left out" for ours, theirs in ((a, b), (b, a))
                for suite in ours.planned if suite not in theirs.planned]
    pairings, cells = [], []
    for suite in suites:
        pairing = pair(a, b, suite)
        found = pair_tasks(a, b, suite, pairing.paired)
        warnings += left_out(a, b, suite, found)
        warnings += doubts(suite, pairing, [item for item in differences if item.suite == suite])
        if found:
            pairings.append(pairing)
            cells += found
    if not cells:
        raise InputError(f"{a.folder} and {b.folder} have no task in common: {'; '.join(warnings)}. Run both with the "
                         "same --tasks.")
    rows = _judged(cells, seed)
    discordant = [(key, first) for cell in cells if cell.paired for key, (first, last) in cell.pairs.items()
                  if first != last]
    return Comparison(
        describe_side(a), describe_side(b), tuple(pairing.suite for pairing in pairings), tuple(pairings),
        tuple(row for row in rows if row.task is not None), tuple(row for row in rows if row.task is None),
        tuple(key for key, a_succeeded in discordant if a_succeeded),
        tuple(key for key, a_succeeded in discordant if not a_succeeded), tuple(differences), tuple(warnings), seed)


def _judged(cells: Sequence[Cell], seed: int) -> list[Row]:
    """All rows with verdicts; measured episodes decide, the two extremes for unmeasured ones may withdraw a verdict."""
    rows = _rows(cells, seed)
    if not any(row.unmeasured for row in rows):
        return rows
    extremes = [_rows([cell.filled(*fill) for cell in cells], None) for fill in ((True, False), (False, True))]
    return [replace(row, verdict=CANNOT_TELL)
            if row.unmeasured and row.verdict != TOO_FEW and any(other.verdict != row.verdict for other in others)
            else row for row, *others in zip(rows, *extremes)]


def _rows(cells: Sequence[Cell], seed: int | None) -> list[Row]:
    """A row a task, then an average a suite, then one over all suites of one benchmark. No posterior without a seed."""
    tasks = _with_verdicts([_task_row(cell, seed) for cell in cells])
    suites = list(dict.fromkeys(row.suite for row in tasks))
    averages = _with_verdicts([_average_row(suite, [row for row in tasks if row.suite == suite], seed)
                               for suite in suites])
    if len(suites) > 1 and len({load_suite(suite).interpreter for suite in suites}) == 1:
        averages += _with_verdicts([_average_row(ALL_SUITES, tasks, seed)])
    return tasks + averages


def _task_row(cell: Cell, seed: int | None) -> Row:
    pairs = list(cell.pairs.values())
    a = [first for first, _ in pairs] if cell.paired else [value for value in cell.a.values() if value in (True, False)]
    b = [last for _, last in pairs] if cell.paired else [value for value in cell.b.values() if value in (True, False)]
    k_a, n_a, k_b, n_b = sum(a), len(a), sum(b), len(b)
    only_a, only_b = (sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)) if cell.paired \
        else (None, None)
    if not n_a or not n_b:
        p, difference = math.nan, UNDEFINED
    elif cell.paired:
        p, difference = mcnemar(only_a, only_b), paired_mean_difference([only_a], [only_b], [n_a])
    else:
        p = boschloo(k_a, n_a, k_b, n_b)
        se = mean_difference([k_a], [n_a], [k_b], [n_b]).se
        difference = Difference(k_b / n_b - k_a / n_a, *newcombe(k_a, n_a, k_b, n_b), se)
    return Row(cell.suite, cell.task, _label(cell.suite, cell.task), cell.paired, k_a, n_a, *_rates(cell.a, k_a, n_a),
               k_b, n_b, *_rates(cell.b, k_b, n_b), only_a, only_b, difference, p,
               probability=math.nan if seed is None else probability_better([k_a], [n_a], [k_b], [n_b], seed, DRAWS))


def _rates(outcomes: Mapping[str, bool | str], k: int, n: int) -> tuple[float, float, float, int, int]:
    """Rate, bounds over all planned episodes, errors, missing."""
    values = list(outcomes.values())
    errors, missing = values.count(ERROR), values.count(MISSING)
    successes = values.count(True)
    return (k / n if n else math.nan, successes / len(values), (successes + errors + missing) / len(values), errors,
            missing)


def _label(suite: str, task: int) -> str:
    tasks = load_suite(suite).tasks
    return tasks[task].label if task < len(tasks) else f"task {task}"


def _average_row(suite: str, tasks: Sequence[Row], seed: int | None) -> Row:
    def column(name: str) -> list:
        return [getattr(row, name) for row in tasks]

    counts = [column(name) for name in ("k_a", "n_a", "k_b", "n_b")]
    paired = all(column("paired"))
    only_a, only_b = (sum(column("only_a")), sum(column("only_b"))) if paired else (None, None)
    if paired:
        difference = paired_mean_difference(column("only_a"), column("only_b"), column("n_a"))
        p = math.nan if math.isnan(difference.value) else mcnemar(only_a, only_b)
    else:
        difference, p = mean_difference(*counts), cochran_mantel_haenszel(*counts)
    sums = {name: sum(column(name)) for name in ("k_a", "n_a", "errors_a", "missing_a", "k_b", "n_b", "errors_b",
                                                 "missing_b")}
    means = {name: float(np.mean(column(name))) for name in ("low_a", "high_a", "low_b", "high_b")}
    return Row(suite, None, AVERAGE, paired, **sums, **means, rate_a=mean_rate(*counts[:2]),
               rate_b=mean_rate(*counts[2:]), only_a=only_a, only_b=only_b, difference=difference, p=p,
               probability=math.nan if seed is None else probability_better(*counts, seed, DRAWS))


def _with_verdicts(rows: Sequence[Row]) -> list[Row]:
    """Rows of one kind with Holm's p over them, and verdicts."""
    adjusted = holm([row.p for row in rows])
    tests = sum(not math.isnan(p) for p in adjusted)
    return [replace(row, p_holm=p, verdict=_verdict(row, p, tests)) for row, p in zip(rows, adjusted)]


def _verdict(row: Row, p: float, tests: int) -> str:
    """Better or worse only where Holm's p is below 5 % and the interval excludes 0."""
    if math.isnan(p) or _smallest_p(row) * tests >= ERROR_RATE:
        return TOO_FEW
    if p < ERROR_RATE and row.difference.low > 0:
        return BETTER
    if p < ERROR_RATE and row.difference.high < 0:
        return WORSE
    return NOTHING


def _smallest_p(row: Row) -> float:
    """p if all episodes of A had failed and all of B succeeded; 0 where there are plenty."""
    if min(row.n_a, row.n_b) >= PLENTY:
        return 0.0
    return mcnemar(0, row.n_a) if row.paired else boschloo(0, row.n_a, row.n_b, row.n_b)
