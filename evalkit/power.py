"""How many episodes a question needs, and what a planned size can answer: the tables of `evalkit power`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from evalkit.errors import InputError, unknown
from evalkit.registry import load_suite
from evalkit.stats import CONFIDENCE, detectable_difference, episodes_needed

DIFFERENCES = (0.01, 0.02, 0.03, 0.05, 0.10)

#: Of the two outcomes of one episode; 0 is an unpaired comparison. Runs of one plan and fingerprint are paired.
CORRELATIONS = (0.0, 0.3, 0.5, 0.7)

POWER = 0.8

FORMATS = ("terminal", "markdown", "csv")


def power_table(tasks: int, rates: float | Sequence[float] = 0.5, differences: Sequence[float] = DIFFERENCES,
                correlations: Sequence[float] = CORRELATIONS, power: float = POWER) -> pd.DataFrame:
    """Episodes that each run needs to show a difference of mean rates over `tasks` tasks, at two-sided 5 %.

    Columns: difference (a fraction), correlation, episodes, per_task. rates: the expected mean rate, or one rate a
    task, which needs fewer episodes as tasks differ. Raises InputError on numbers outside their range.
    """
    rate, variance = _expected(tasks, rates)
    _check(differences, correlations, power)
    rows = []
    for difference in differences:
        for correlation in correlations:
            try:
                needed = episodes_needed(rate, _towards_half(rate) * difference, power, correlation, variance)
            except ValueError as error:
                raise InputError(f"a difference of {100 * difference:g} points from a rate of {100 * rate:g} % is not "
                                 "possible") from error
            rows.append({"difference": difference, "correlation": correlation, "episodes": needed,
                         "per_task": math.ceil(needed / tasks)})
    return pd.DataFrame(rows)


def detection_table(tasks: int, episodes_per_task: int, rates: float | Sequence[float] = 0.5,
                    correlations: Sequence[float] = CORRELATIONS, power: float = POWER) -> pd.DataFrame:
    """Smallest differences that two runs of `tasks` x `episodes_per_task` episodes show.

    Columns: correlation, suite, task (fractions: of the average, of one task at the mean rate; NaN where no difference
    can be shown). Raises InputError as `power_table`.
    """
    rate, variance = _expected(tasks, rates)
    _check((), correlations, power)
    if episodes_per_task < 1:
        raise InputError(f"{episodes_per_task} episodes a task is not possible: give 1 or more")
    return pd.DataFrame([{
        "correlation": correlation,
        "suite": detectable_difference(rate, tasks * episodes_per_task, power, correlation, variance),
        "task": detectable_difference(rate, episodes_per_task, power, correlation),
    } for correlation in correlations])


def render(suites: Sequence[str], rates: float | Sequence[float] = 0.5, episodes_per_task: int | None = None,
           differences: Sequence[float] = DIFFERENCES, correlations: Sequence[float] = CORRELATIONS,
           power: float = POWER, form: str = "terminal") -> str:
    """Both tables for the average over the tasks of `suites`, to be read (markdown, which a terminal shows as well); in
    CSV the first alone, raw. episodes_per_task: the planned size, by default the protocol's."""
    tasks = sum(len(load_suite(name).tasks) for name in suites)
    planned = load_suite(suites[0]).episodes_per_task if episodes_per_task is None else episodes_per_task
    needed = power_table(tasks, rates, differences, correlations, power)
    if form not in FORMATS:
        raise unknown("table format", form, FORMATS)
    if form == "csv":
        return needed.to_csv(index=False)
    found = detection_table(tasks, planned, rates, correlations, power)
    title = (f"{', '.join(suites)}: {tasks} tasks near {100 * np.mean(rates):.1f} %; two-sided "
             f"{100 * (1 - CONFIDENCE):.0f} %, power {100 * power:.0f} %, normal approximation")
    return (f"{title}\n\nEpisodes of each run, in all (each task):\n\n{_markdown(_readable_needs(needed))}\n\n"
            f"What {tasks} x {planned} episodes of each run show, in points:\n\n{_markdown(_readable_finds(found))}\n")


def _markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True, colalign=["right"] * len(table.columns))


def _readable_needs(table: pd.DataFrame) -> pd.DataFrame:
    cells = pd.DataFrame({
        "cell": [f"{total:,} ({each:,})" for total, each in zip(table["episodes"], table["per_task"])],
        "points": [f"{100 * difference:g}" for difference in table["difference"]],
        "column": table["correlation"].map(_column),
    })
    wide = cells.pivot(index="points", columns="column", values="cell")
    wide = wide.loc[cells["points"].unique(), cells["column"].unique()]
    return wide.rename_axis("points", axis=0).reset_index().rename_axis(None, axis=1)


def _readable_finds(table: pd.DataFrame) -> pd.DataFrame:
    def points(value: float) -> str:
        return "none" if math.isnan(value) else f"{100 * value:.1f}"

    return pd.DataFrame({"comparison": table["correlation"].map(_column), "average": table["suite"].map(points),
                         "one task": table["task"].map(points)})


def _column(correlation: float) -> str:
    return f"paired, correlation {correlation:g}" if correlation else "unpaired"


def _expected(tasks: int, rates: float | Sequence[float]) -> tuple[float, float | None]:
    """Mean rate, and mean p (1 - p) where each task's rate is given."""
    each = np.atleast_1d(np.asarray(rates, float))
    if tasks < 1 or len(each) not in (1, tasks) or np.isnan(each).any() or not ((each >= 0) & (each <= 1)).all():
        raise InputError(f"expected one rate, or one for each of {tasks} tasks, between 0 and 100 %; got "
                         f"{', '.join(f'{100 * one:g}' for one in each)} %")
    return float(each.mean()), float((each * (1 - each)).mean()) if len(each) > 1 else None


def _check(differences: Sequence[float], correlations: Sequence[float], power: float) -> None:
    if any(not 0 < difference <= 1 for difference in differences):
        raise InputError("differences are above 0 and at most 100 points, got "
                         f"{', '.join(f'{100 * one:g}' for one in differences)}")
    if any(not 0 <= correlation <= 1 for correlation in correlations):
        raise InputError(f"correlations are in [0, 1], got {list(correlations)}")
    if not 0.05 < power < 1:
        raise InputError(f"power is between 5 and 100 %, both excluded, got {100 * power:g} %")


def _towards_half(rate: float) -> int:
    """The direction in which a difference is harder to show."""
    return 1 if rate < 0.5 else -1
