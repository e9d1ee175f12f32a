"""Published results as data: `results/published/*.csv`, filtered, recomputed and listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import pandas as pd

from evalkit.errors import InputError, unknown
from evalkit.grid import Field, Grid, render
from evalkit.paths import PROJECT

FOLDER = PROJECT / "results" / "published"
FILES = ("libero", "robocasa_gr1", "efficiency", "other")

#: Columns that `load` filters by, in the order in which they are applied.
FILTERS = ("benchmark", "method", "suite_or_task", "metric", "protocol", "source")

#: Metrics: the rate that the source prints, and means that we made from its rows.
RATE, RECOMPUTED = "success_rate", "success_rate_recomputed"
AVERAGE = "average"

#: Rows that an average is made of: LIBERO's suites and RoboCasa-GR1's tasks count once each, a family of GR1 tasks by
#: its tasks.
CELLS = {"libero": 4, "robocasa_gr1": 24}
FAMILY_TASKS = {"family:cabinet": 2, "family:drawer": 2, "family:microwave": 2, "family:novel": 18}
NOT_AVERAGED = (AVERAGE, "libero_90")

#: Identify one column of somebody's table.
KEYS = ["benchmark", "method", "protocol", "source"]


def load(benchmark: str | None = None, method: str | None = None, suite_or_task: str | None = None,
         metric: str | None = None, protocol: str | None = None, source: str | None = None) -> pd.DataFrame:
    """Published rows that match every filter given; `source` matches any part of the source's text.

    Columns as in the files (`results/published/README.md`) and `printed`, the value's text. value: percent for success
    rates; n: episodes behind it, <NA> where not stated. Raises InputError, naming what there is among the rows that the
    filters before it left, when a filter matches nothing.
    """
    rows = _read().copy()
    for column, wanted in zip(FILTERS, (benchmark, method, suite_or_task, metric, protocol, source)):
        if wanted is None:
            continue
        same = rows[column].str.contains(wanted, regex=False) if column == "source" else rows[column] == wanted
        if not same.any():
            raise unknown(f"published {column}", wanted, rows[column].unique())
        rows = rows[same]
    return rows.reset_index(drop=True)


@cache
def _read() -> pd.DataFrame:
    absent = [name for name in FILES if not (FOLDER / f"{name}.csv").exists()]
    if absent:
        raise InputError(f"{FOLDER} has no {', '.join(absent)}.csv. Published numbers are part of the repository: run "
                         "evalkit from a checkout.")
    rows = pd.concat([pd.read_csv(FOLDER / f"{name}.csv", dtype=str, keep_default_na=False) for name in FILES],
                     ignore_index=True)
    rows["printed"] = rows["value"]
    rows["value"] = rows["value"].astype(float)
    rows["n"] = pd.to_numeric(rows["n"].replace("", None)).astype("Int64")
    return rows


def averages() -> pd.DataFrame:
    """Every average whose cells are published: as printed, recomputed from the cells, and whether they agree.

    Columns: `KEYS`, printed ("" where none is), recomputed (percent, float), agreement: ``equal`` (correctly rounded),
    ``half up`` or ``half down`` (the mean lies exactly between two printable values), ``differs``, ``not printed``.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in load().to_dict("records"):
        if row["benchmark"] in CELLS:
            groups.setdefault(tuple(row[key] for key in KEYS), []).append(row)
    found = []
    for keys, rows in groups.items():
        exact = recompute([row for row in rows if row["suite_or_task"] not in NOT_AVERAGED])
        printed = [row["printed"] for row in rows if (row["suite_or_task"], row["metric"]) == (AVERAGE, RATE)]
        if exact is not None:
            found.append([*keys, *(printed or [""]), float(exact), _agreement(*(printed or [""]), exact)])
    return pd.DataFrame(found, columns=[*KEYS, "printed", "recomputed", "agreement"])


def recompute(cells: Sequence[Mapping[str, Any]]) -> Fraction | None:
    """Mean of a benchmark's published `cells` (rows of `load`) in percent, exactly; None unless all are there.

    A family's rate stands for the nearest count of its n episodes, and counts once for each of its tasks.
    """
    weights = [FAMILY_TASKS.get(cell["suite_or_task"], 1) for cell in cells]
    if not cells or sum(weights) != CELLS[cells[0]["benchmark"]]:
        return None
    return sum(weight * _rate(cell) for weight, cell in zip(weights, cells)) / sum(weights)


def _rate(cell: Mapping[str, Any]) -> Fraction:
    if cell["suite_or_task"] not in FAMILY_TASKS or pd.isna(cell["n"]):
        return Fraction(cell["printed"])
    return Fraction(100 * round(cell["value"] * cell["n"] / 100), cell["n"])


def _agreement(printed: str, exact: Fraction) -> str:
    if not printed:
        return "not printed"
    last_digit = Fraction(1, 10 ** len(printed.partition(".")[2]))
    off = (Fraction(printed) - exact) / last_digit
    if abs(off) == Fraction(1, 2):
        return "half up" if off > 0 else "half down"
    return "equal" if abs(off) < Fraction(1, 2) else "differs"


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each method, protocol and source of `rows`: how many rows, the printed average, its n, the date."""
    found = []
    for keys, group in rows.groupby(KEYS, sort=False):
        average = group[(group["suite_or_task"] == AVERAGE) & (group["metric"] == RATE)]
        printed, n = (average["printed"].iloc[0], average["n"].iloc[0]) if len(average) else ("", pd.NA)
        found.append([*keys[:3], len(group), printed, n, group["date"].iloc[0], keys[3]])
    columns = ["benchmark", "method", "protocol", "rows", "average", "n", "date", "source"]
    return pd.DataFrame(found, columns=columns)


def listing(rows: pd.DataFrame, form: str) -> str:
    """`rows` (of `load` or `summary`) in one of `grid.FORMATS`. CSV has every column; the others leave notes out, and
    name what all rows share once, above."""
    texts = rows.astype(object).where(rows.notna(), "").astype(str)
    if "printed" in texts:
        texts = texts.assign(value=texts["printed"]).drop(columns="printed")
    shown = texts.drop(columns="note", errors="ignore").replace("", "-")
    shared = [column for column in FILTERS if column in shown and len(shown) > 1 and shown[column].nunique() == 1]
    said = ", ".join(f"{column} {shown[column].iloc[0]}" for column in shared)
    name = f"Published results: {said}" if said else "Published results"
    shown = shown.drop(columns=shared)
    words = [place for place, column in enumerate(shown) if column not in ("value", "n", "rows", "average")]
    fields = [[Field(text) for text in row] for row in shown.itertuples(index=False)]
    return render(Grid(name, f"{name}.", [list(shown.columns)], fields, [], data=texts, texts=frozenset(words),
                       long=True), form)
