"""Each two runs of a report, compared: what `evalkit.compare` finds, as the page shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

from evalkit.compare import Comparison, Row, compare
from evalkit.compare_text import headlines
from evalkit.errors import InputError
from evalkit.records import Run
from evalkit.stats import Difference

#: Below this a p value is printed as a bound.
SMALL = 1e-4


class Numbered(Protocol):
    """What is needed of a run of the page."""

    place: int
    run: Run
    episodes: Any


@dataclass(frozen=True)
class Pair:
    """Two runs by their places on the page. refusal: why they cannot be compared, instead of a comparison."""

    a: int
    b: int
    comparison: Comparison | None
    refusal: str = ""


def compare_all(runs: Sequence[Numbered]) -> list[Pair]:
    """Every two runs, the earlier one as A."""
    return [_compared(first, second) for first, second in combinations(runs, 2)]


def _compared(first: Numbered, second: Numbered) -> Pair:
    try:
        return Pair(first.place, second.place, compare(first.run, second.run))
    except InputError as error:
        return Pair(first.place, second.place, None, str(error))


def discordant(pair: Pair, runs: Sequence[Numbered]) -> dict[str, Any]:
    """Places of a pair's runs, and the rows of both runs' episodes at which only A, or only B, succeeded."""
    rows = [{name: row for row, name in enumerate(runs[place].episodes["id"])} for place in (pair.a, pair.b)]
    ids = (pair.comparison.only_a, pair.comparison.only_b) if pair.comparison else ((), ())
    only_a, only_b = ([[rows[0][name], rows[1][name]] for name in names] for names in ids)
    return {"a": pair.a, "b": pair.b, "only_a": only_a, "only_b": only_b}


def describe(pair: Pair) -> dict[str, Any]:
    """Texts and table rows of a pair for the page."""
    described = {"a": pair.a, "b": pair.b, "refusal": pair.refusal, "headlines": [], "pairings": [], "warnings": [],
                 "differences": [], "rows": []}
    found = pair.comparison
    if found is None:
        return described
    return described | {
        "headlines": headlines(found),
        "pairings": [f"{item.suite}: {'paired' if item.paired else 'unpaired'}: {item.reason}."
                     for item in found.pairings],
        "warnings": list(found.warnings),
        "differences": [f"{item.suite}: {item.field} is {item.a!r} in A, {item.b!r} in B"
                        for item in found.fingerprint_differences],
        "rows": [_row(row) for row in (*found.tasks, *found.averages)],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "suite": row.suite, "key": "" if row.task is None else f"{row.suite}/{row.task:02d}",
        "name": row.name if row.task is not None else f"{row.suite} average", "a": (row.k_a, row.n_a),
        "b": (row.k_b, row.n_b), "only_a": row.only_a, "only_b": row.only_b, "difference": _known(row.difference.value),
        "text": points(row.difference), "p": _known(row.p), "p_holm": _known(row.p_holm), "verdict": row.verdict,
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def points(difference: Difference) -> str:
    """A difference with its interval in percentage points."""
    value, low, high = difference.value, difference.low, difference.high
    if math.isnan(value):
        return "-"
    return f"{100 * value:+.1f}" + ("" if math.isnan(low) else f" [{100 * low:+.1f}, {100 * high:+.1f}]")


def p_text(p: float | None) -> str:
    """A p value with four decimals, ``-`` for None."""
    return "-" if p is None else f"<{SMALL:.4f}" if p < SMALL else f"{p:.4f}"
