"""Published rates that a report's forest plot shows beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from evalkit import published
from evalkit.errors import InputError

#: What is shown unless the caller says otherwise: the paper's own method in the paper's tables.
METHOD, PAPER = "DiT4DiT", "arXiv:2603.10448v2 Table"


@dataclass(frozen=True)
class Marker:
    """A published rate, a fraction, and the episodes behind it (None: not stated)."""

    rate: float
    n: int | None = None


@dataclass(frozen=True)
class Markers:
    """Published rates by a task's name as the table prints it, or a suite's name for its average.

    label: method and source, for the legend.
    """

    label: str = "published"
    rates: Mapping[str, Marker] = field(default_factory=dict)

    def get(self, *names: str) -> Marker | None:
        """The rate of the first of `names` that has one."""
        return next((self.rates[name] for name in names if name in self.rates), None)


def given(rates: Mapping[str, float], label: str = "published") -> Markers:
    """Markers from plain fractions. Raises InputError for a rate outside 0 to 1."""
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise InputError(f"published rate of {name!r} is {rate!r}; rates are fractions, 0 to 1")
    return Markers(label, {name: Marker(rate) for name, rate in rates.items()})


def of_paper(suites: Sequence[str]) -> Markers:
    """The paper's rates of `METHOD` for `suites`: rows of a suite's tasks, and averages under the suite's name."""
    try:
        rows = published.load(method=METHOD, metric=published.RATE, source=PAPER)
    except InputError:  # not run from a checkout: a report without published rates is still a report
        return Markers()
    found = {}
    for row in rows.itertuples():
        if row.benchmark in suites or row.suite_or_task in suites:
            name = row.benchmark if row.suite_or_task == published.AVERAGE else row.suite_or_task
            found[name] = Marker(row.value / 100, None if pd.isna(row.n) else int(row.n))
    return Markers(f"{METHOD}, {PAPER.removesuffix(' Table')}", found)
