"""A comparison as text: terminal, markdown, CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, fields

import pandas as pd

from evalkit.compare import ALL_SUITES, AVERAGE, NOTHING, Comparison, Row
from evalkit.errors import unknown
from evalkit.pairing import Side
from evalkit.texts import plain

FORMATS = ("terminal", "markdown", "csv")


def render(comparison: Comparison, form: str) -> str:
    """The comparison as `terminal`, `markdown` or `csv` (raw numbers, rows only). Raises InputError on another form."""
    if form not in FORMATS:
        raise unknown("comparison format", form, FORMATS)
    if form == "csv":
        return rows_table(comparison).to_csv(index=False)
    if form == "markdown":
        readable = _readable(comparison)
        grid = readable.to_markdown(index=False, disable_numparse=True,
                                    colalign=["left", "left", *["right"] * (len(readable.columns) - 3), "left"])
    else:
        grid = _terminal(_readable(comparison))
    parts = [_title(comparison), *headlines(comparison), grid.strip("\n"), _legend(comparison), *_details(comparison)]
    return "\n\n".join(parts) + "\n"


def rows_table(comparison: Comparison) -> pd.DataFrame:
    """All rows, tasks and then averages, with raw numbers; the difference as difference, low, high, se."""
    names = [item.name for item in fields(Row) if item.name != "difference"]
    rows = [{**{name: getattr(row, name) for name in names[:names.index("p")]}, "difference": row.difference.value,
             **{key: value for key, value in asdict(row.difference).items() if key != "value"},
             **{name: getattr(row, name) for name in names[names.index("p"):]}}
            for row in (*comparison.tasks, *comparison.averages)]
    return pd.DataFrame(rows).astype({"task": "Int64", "only_a": "Int64", "only_b": "Int64"})


def _title(comparison: Comparison) -> str:
    def side(letter: str, run: Side) -> str:
        options = "".join(f", {key}={value}" for key, value in run.policy_options.items())
        notes = "".join(f" [{note}]" for note in run.notes)
        return plain(f"- {letter}: {run.name} (policy {run.policy}{options}){notes}")

    return f"{side('A', comparison.a)}\n{side('B', comparison.b)}"


def headlines(comparison: Comparison) -> list[str]:
    """A sentence for each average: both rates with their n, the difference with its interval, tests, verdict on B."""
    return [_headline(row, sum(row.suite in (task.suite, ALL_SUITES) for task in comparison.tasks))
            for row in comparison.averages]


def _headline(row: Row, tasks: int) -> str:
    over = f"{row.suite}, {tasks} task{'s' * (tasks != 1)}"
    if math.isnan(row.difference.value):
        return f"{over}: no average, a task has no measured episode in a run ({row.k_a}/{row.n_a} against " \
               f"{row.k_b}/{row.n_b})"
    test = f"McNemar mid-p, {row.only_a} only A / {row.only_b} only B" if row.paired else "Cochran-Mantel-Haenszel"
    adjusted = f", Holm {_p(row.p_holm)}" if row.p_holm != row.p else ""
    detectable = f" (this size shows about {100 * row.detectable:.1f} points)" if row.verdict == NOTHING else ""
    return (f"{over}: A {100 * row.rate_a:.1f} % ({row.k_a}/{row.n_a}), B {100 * row.rate_b:.1f} % "
            f"({row.k_b}/{row.n_b}); B - A {_points(row.difference.value)} points "
            f"[{_points(row.difference.low)}, {_points(row.difference.high)}], p {_p(row.p)} ({test}){adjusted}, "
            f"P(B > A) {_chance(row.probability)}: {row.verdict}{detectable}")


def _points(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.1f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "<.0001" if value < 1e-4 else f"{value:.4f}"


def _chance(value: float) -> str:
    """Two decimals; never certain."""
    if math.isnan(value):
        return "-"
    return "<0.01" if value < 0.005 else ">0.99" if value > 0.995 else f"{value:.2f}"


def _readable(comparison: Comparison) -> pd.DataFrame:
    """The rows to be read: task, name, k/n of both, discordant episodes, difference, p values, verdict."""
    rows = [row for suite in (*comparison.suites, ALL_SUITES)
            for row in (*comparison.tasks, *comparison.averages) if row.suite == suite]
    several = len(comparison.suites) > 1
    table = pd.DataFrame({
        "task": ["" if row.task is None else f"{row.suite}/{row.task:02d}" if several else f"{row.task:02d}"
                 for row in rows],
        "name": [row.name if row.task is not None else f"{row.suite} {AVERAGE}" for row in rows],
        "A": [f"{row.k_a}/{row.n_a}" for row in rows], "B": [f"{row.k_b}/{row.n_b}" for row in rows],
        "only A/B": ["-" if row.only_a is None else f"{row.only_a}/{row.only_b}" for row in rows],
        "lost A/B": [f"{row.errors_a + row.missing_a}/{row.errors_b + row.missing_b}" for row in rows],
        "B-A": [_points(row.difference.value) for row in rows],
        "95% interval": ["-" if math.isnan(row.difference.low) else
                         f"{_points(row.difference.low)}, {_points(row.difference.high)}" for row in rows],
        "p": [_p(row.p) for row in rows], "Holm p": [_p(row.p_holm) for row in rows],
        "P(B>A)": [_chance(row.probability) for row in rows],
        "B is": [row.verdict for row in rows],
    })
    unused = [*(["only A/B"] if all(row.only_a is None for row in rows) else []),
              *([] if any(row.unmeasured for row in rows) else ["lost A/B"])]
    return table.drop(columns=unused)


def _legend(comparison: Comparison) -> str:
    paired = [pairing.paired for pairing in comparison.pairings]
    tests = [*(["paired: McNemar mid-p, interval of the paired difference"] if any(paired) else []),
             *(["unpaired: Boschloo and Newcombe for a task, Cochran-Mantel-Haenszel and the stratified difference for "
                "an average"] if not all(paired) else [])]
    return (f"Points, B - A; {'; '.join(tests)}. Holm p: over the {len(comparison.tasks)} tasks, and over the suites' "
            "averages. P(B>A): Beta posteriors, pairing not used, "
            f"seed {comparison.seed}. Better and worse need Holm p < 0.05 and an interval without 0.")


def _details(comparison: Comparison) -> list[str]:
    """Paragraphs below the table: pairing, incomplete runs, warnings, fingerprints, discordant episodes."""
    sections = {
        "Pairing:": [f"{item.suite}: {'paired' if item.paired else 'unpaired'}: {item.reason}."
                     for item in comparison.pairings],
        "INCOMPLETE:": [line for row in comparison.averages for line in _incomplete(row)],
        "WARNING:": [f"{warning}." for warning in comparison.warnings],
        "Fingerprints differ:": [f"{item.suite}: {item.field}: {item.a!r} in A, {item.b!r} in B"
                                 for item in comparison.fingerprint_differences],
        f"Only A succeeded ({len(comparison.only_a)}):": _by_task(comparison.only_a),
        f"Only B succeeded ({len(comparison.only_b)}):": _by_task(comparison.only_b),
    }
    return [f"{heading}\n\n" + "\n".join(f"- {plain(line)}" for line in lines)
            for heading, lines in sections.items() if lines]


def _by_task(ids: Sequence[str]) -> list[str]:
    """Episode ids, a line a task."""
    tasks: dict[str, list[str]] = {}
    for key in ids:
        tasks.setdefault(key.rpartition("/")[0], []).append(key)
    return [" ".join(members) for members in tasks.values()]


def _incomplete(row: Row) -> list[str]:
    return [f"{row.suite}, {side}: {errors} episodes ended in errors and {missing} were not run; neither "
            f"counts as a failure. The average is between {100 * low:.1f} and {100 * high:.1f} % whatever they are."
            for side, errors, missing, low, high in (
                ("A", row.errors_a, row.missing_a, row.low_a, row.high_a),
                ("B", row.errors_b, row.missing_b, row.low_b, row.high_b)) if errors + missing]


def _terminal(readable: pd.DataFrame) -> str:
    """The table for a terminal: in a narrow window names are cut and verdicts wrapped, numbers never."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)
    wide = console.width >= 120
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1 if wide else 0), collapse_padding=True, pad_edge=False,
                 header_style="bold")
    shown = [column for column in readable.columns if wide or column != "P(B>A)"]
    for column in shown:
        if column == "name":
            grid.add_column(column, overflow="ellipsis")  # rich narrows only columns that may wrap; names are one word
        elif column == "B is":
            grid.add_column(column, no_wrap=wide, min_width=len("difference"))
        else:
            grid.add_column(column, justify="left" if column == "task" else "right", no_wrap=True)
    for _, row in readable.iterrows():
        average = row["task"] == ""
        grid.add_row(*row[shown], style="bold" if average else None, end_section=average)
    with console.capture() as capture:
        console.print(grid)
    return capture.get()
