"""The DiT4DiT paper's tables from the published numbers, with measured runs beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from scipy.stats import fisher_exact

from evalkit import latency, published, stats
from evalkit.entries import (
    SOURCES,
    Cell,
    Entry,
    Layout,
    gr1_layout,
    libero_layout,
    paper_entries,
    published_entry,
    run_entry,
    run_info,
)
from evalkit.errors import InputError
from evalkit.grid import BEST, TIED, Field, Grid, render
from evalkit.published import AVERAGE
from evalkit.records import Run
from evalkit.stats import Difference
from evalkit.tables import title

__all__ = ["Latency", "efficiency_table", "find_latencies", "find_references", "gr1_table", "libero_table", "render",
           "tables", "verdict"]

#: What a run's gap is measured against unless another is chosen: method, protocol, any part of the source.
REFERENCES = {"libero": ("DiT4DiT", "d4d-libero", SOURCES["libero"]),
              "robocasa_gr1": ("DiT4DiT", "d4d-gr1-paper", SOURCES["robocasa_gr1"])}

CONSISTENT, LOWER, HIGHER, TOO_FEW, CANNOT_TELL = "consistent", "lower", "higher", "too few episodes", "cannot tell"

#: Largest adjusted p that separates two rates.
ALPHA = 0.05

#: Widest 95 % interval of a gap that still says "consistent", a fraction: two tasks of 50 episodes have up to 0.38, two
#: averages of 24 x 50 have 0.08.
WIDEST = 0.20

#: Most episodes an arm for Boschloo's test, which takes 10 s at 500; beyond, Fisher's: exact, conservative, instant.
BOSCHLOO_MOST = 100


@dataclass(frozen=True)
class Gap:
    """A run minus a published reference: difference, p (adjusted by Holm within its block) and verdict."""

    difference: Difference
    p: float
    verdict: str


@dataclass(frozen=True)
class Latency:
    """A measured control frequency: policy calls a second, number of calls measured, machine, and what every table must
    say of the policy that was measured: precision, size, weights that are none."""

    hz: float
    calls: int
    machine: str
    note: str = ""


@dataclass(frozen=True)
class Content:
    """What a table says, before it is laid out. Marks, footnotes and gaps are by place of the entry, then by key."""

    layout: Layout
    entries: Sequence[Entry]
    against: Entry
    marks: Mapping[tuple[int, str], str]
    footnotes: Mapping[tuple[int, str], str]
    gaps: Mapping[int, Mapping[str, Gap]]


def tables(runs: Sequence[Run] = (), groups: bool = False, references: Mapping[str, Sequence[str]] | None = None,
           measured: Mapping[str, Latency] | None = None) -> dict[str, Grid]:
    """All three tables by the name of their CSV file. references: see `find_references`.

    Raises InputError for a run that belongs to none of them.
    """
    layouts = libero_layout(), gr1_layout()
    for run in runs:
        if not any(layout.suites_of(run) for layout in layouts):
            allowed = ", ".join(suite for layout in layouts for suite in layout.suites)
            held = ", ".join(run_info(run)["config"]["suites"])
            raise InputError(f"{run.folder} holds {held}; the paper's tables have {allowed}. "
                             f"Print it by itself: evalkit table {run.folder}")
    chosen = {**REFERENCES, **(references or {})}
    return {"libero": libero_table(runs, chosen["libero"]),
            "robocasa_gr1": gr1_table(runs, groups, chosen["robocasa_gr1"]), "efficiency": efficiency_table(measured)}


def find_references(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """References by benchmark from ``METHOD/PROTOCOL`` or ``METHOD/PROTOCOL/PART OF THE SOURCE``.

    Raises InputError on another shape, or when nothing like it is published.
    """
    found = {}
    for text in texts:
        parts = tuple(text.split("/", 2))
        if len(parts) < 2:
            raise InputError(f"a reference is METHOD/PROTOCOL or METHOD/PROTOCOL/PART OF THE SOURCE, got {text!r}; "
                             "`evalkit published` lists them")
        rows = published.load(**dict(zip(("method", "protocol", "source"), parts)))
        found |= dict.fromkeys(rows["benchmark"].unique(), parts)
    return found


def libero_table(runs: Sequence[Run] = (), reference: Sequence[str] = REFERENCES["libero"]) -> Grid:
    """The paper's Table 1: rows are methods, columns suites and their average; then the runs that hold LIBERO suites.

    reference: (method, protocol) or (method, protocol, part of the source) of the published result that runs are held
    against. Raises InputError when there is no such result, or several.
    """
    content = _content(libero_layout(), runs, reference)
    keys, rows, rules = content.layout.keys, [], set()
    for place, entry in enumerate(content.entries):
        rows += [[Field(label), Field(evidence), *map(show, keys)]
                 for label, evidence, show in _series(content, place)]
        if entry.run or [*content.entries, entry][place + 1].run:
            rules.add(len(rows))
    header = [["Method", "Evidence", *map(content.layout.heading, keys)]]
    return Grid("Table: LIBERO", _caption("suites of LIBERO", content), header, rows, _notes(content), _data(content),
                texts=frozenset({0, 1}), rules=frozenset(rules))


def gr1_table(runs: Sequence[Run] = (), groups: bool = False,
              reference: Sequence[str] = REFERENCES["robocasa_gr1"]) -> Grid:
    """The paper's Table 2: rows are tasks and their average, columns methods; then the runs of RoboCasa-GR1.

    groups: also the means over the families Cabinet, Drawer, Microwave and Novel. reference: as in `libero_table`.
    """
    content = _content(gr1_layout(groups), runs, reference)
    layout = content.layout
    columns = [column for place in range(len(content.entries)) for column in _series(content, place)]
    header = [["Task", *(label for label, _, _ in columns)], ["", *(evidence for _, evidence, _ in columns)]]
    rows = [[Field(layout.heading(key)), *(show(key) for _, _, show in columns)] for key in layout.keys]
    rules = {len(layout.headings), len(layout.headings) + len(layout.groups)}
    return Grid("Table: RoboCasa-GR1", _caption("tasks of RoboCasa-GR1", content), header, rows, _notes(content),
                _data(content), rules=frozenset(rules))


def find_latencies(files: Iterable[Path]) -> dict[str, Latency]:
    """Measured frequencies by method from files of `evalkit latency`; methods are spelled as published.

    Raises InputError for another file, or a second one of the same method.
    """
    spelled = {name.lower(): name for name in published.load(benchmark="deployment")["method"]}
    found: dict[str, tuple[Path, Latency]] = {}
    for file in files:
        read = latency.read(file)
        method = spelled.get(read.method.lower(), read.method)
        if method in found:
            raise InputError(f"{found[method][0]} and {file} both measure {method}; a table has one cell for it: pass "
                             "one of them")
        synthetic = "synthetic weights" if read.weights == "synthetic" else ""
        found[method] = file, Latency(read.hz, len(read.ms), read.machine,
                                      ", ".join(filter(None, [read.dtype, read.size, synthetic])))
    return {method: one for method, (_, one) in found.items()}


def efficiency_table(measured: Mapping[str, Latency] | None = None) -> Grid:
    """Parameters and control frequency as published, the paper's Table 3 first, with `measured` ones by method."""
    measured = dict(measured or {})
    rows = published.load(benchmark="deployment")
    found = []
    for (method, source), group in rows.groupby(["method", "source"], sort=False):
        values = dict(zip(group["metric"], group["printed"]))
        found.append([method, values.get("trainable_parameters_billion", ""), values.get("frequency_hz", ""), source])
    found += [[method, "", "", ""] for method in measured if method not in {row[0] for row in found}]
    data = pd.DataFrame(found, columns=["method", "parameters_billion", "hz", "source"])
    for name in ("hz", "calls", "machine", "note"):
        data[f"measured_{name}"] = [getattr(measured.get(method), name, "") for method in data["method"]]
    fields = [[Field(text or "-") for text in (method, billion, hz, _latency(measured.get(method)), source)]
              for method, billion, hz, source in found]
    notes = ["Parameters: trained ones, in billions, as published. Hz: as published, on one A100; no n is stated. "
             "Measured: policy calls a second of our own latency records, with the number of calls, the machine, the "
             "precision and all parameters that were loaded."]
    others = rows[~rows["source"].isin(SOURCES.values())].drop_duplicates("source")
    notes += [f"{source}: {note}." for source, note in zip(others["source"], others["note"])]
    return Grid("Deployment efficiency", "Deployment efficiency: parameters and control frequency.",
                [["Method", "Parameters (B)", "Hz", "Measured Hz", "Source"]], fields, notes, data,
                texts=frozenset({0, 4}), rules=frozenset({int((data["source"] == SOURCES["deployment"]).sum())}))


def verdict(difference: Difference, p: float) -> str:
    """One word for a gap: ``lower`` or ``higher`` if p < `ALPHA` and its interval excludes 0; ``consistent`` if the
    interval includes 0 and is no wider than `WIDEST`; ``cannot tell`` without an n; else ``too few episodes``."""
    if math.isnan(p) or math.isnan(difference.low):
        return CANNOT_TELL
    includes_0 = difference.low <= 0 <= difference.high
    if p < ALPHA and not includes_0:
        return HIGHER if difference.value > 0 else LOWER
    return CONSISTENT if includes_0 and difference.high - difference.low <= WIDEST else TOO_FEW


def compare_cells(a: Entry, b: Entry, key: str, parts: Sequence[str]) -> tuple[Difference, float]:
    """Difference B - A at `key` and its raw p; NaN where an n is not known.

    A mean whose parts are known in both: stratified difference and Cochran-Mantel-Haenszel. Else of two rates:
    Newcombe's interval; Boschloo's exact test, or Fisher's above `BOSCHLOO_MOST` episodes.
    """
    pairs = [(a.cells[part], b.cells[part]) for part in parts]
    if len(parts) > 1 and all(cell.known for pair in pairs for cell in pair):
        arms = [numbers for cells in zip(*pairs) for numbers in zip(*(cell.effective for cell in cells))]
        return stats.mean_difference(*arms), stats.cochran_mantel_haenszel(*arms)
    first, second = a.cells[key], b.cells[key]
    if not (first.known and second.known):
        return Difference(second.rate - first.rate, math.nan, math.nan, math.nan), math.nan
    low, high = stats.newcombe(*first.effective, *second.effective)
    return Difference(second.rate - first.rate, low, high, math.nan), _exact_test(first, second)


def _exact_test(a: Cell, b: Cell) -> float:
    (k_a, n_a), (k_b, n_b) = (map(round, cell.effective) for cell in (a, b))
    if max(n_a, n_b) <= BOSCHLOO_MOST:
        return stats.boschloo(k_a, n_a, k_b, n_b)
    return float(fisher_exact([[k_a, k_b], [n_a - k_a, n_b - k_b]]).pvalue)


def _content(layout: Layout, runs: Sequence[Run], reference: Sequence[str]) -> Content:
    """The paper's methods, the reference if runs need it and it is not one of them, then the runs; all compared."""
    entries, against = paper_entries(layout), published_entry(layout, *reference)
    mine = [run_entry(run, layout, number) for number, run in enumerate(runs, start=1) if layout.suites_of(run)]
    if mine and against not in entries:
        entries.append(replace(against, evidence=against.evidence.replace("published", "reference")))
    entries += mine
    gaps = {place: _bounded_gaps(entry, layout, against) for place, entry in enumerate(entries)
            if entry.run and entry.comparable}
    return Content(layout, entries, against, _marks(entries, layout), _footnotes(entries), gaps)


def _bounded_gaps(entry: Entry, layout: Layout, against: Entry) -> dict[str, Gap]:
    """Gaps by key; a verdict that the run's errors could change, were they successes or failures, is not given."""
    gaps = _gaps(entry, layout, against)
    if not any(cell.errors for cell in entry.cells.values()):
        return gaps
    bounds = [_gaps(run_entry(entry.run, layout, 0, outcome), layout, against) for outcome in ("success", "failure")]
    return {key: gap if all(bound[key].verdict in (gap.verdict, "-") for bound in bounds) or gap.verdict == "-"
            else replace(gap, verdict=CANNOT_TELL) for key, gap in gaps.items()}


def _gaps(entry: Entry, layout: Layout, against: Entry) -> dict[str, Gap]:
    found = {}
    for block in layout.blocks:
        compared = [compare_cells(against, entry, key, layout.parts(key)) for key in block]
        for key, (difference, _), p in zip(block, compared, stats.holm([p for _, p in compared])):
            found[key] = Gap(difference, p, "-" if math.isnan(difference.value) else verdict(difference, p))
    return found


def _marks(entries: Sequence[Entry], layout: Layout) -> dict[tuple[int, str], str]:
    """`BEST` for the highest rate of each key, `TIED` for those not separated from it after Holm within its block.

    Only published values and comparable runs of the whole protocol take part; nothing is tied where an n is unknown.
    """
    marks: dict[tuple[int, str], str] = {}
    for block in layout.blocks:
        tests = []
        for key in block:
            rates = {place: round(entry.cells[key].rate, 9) for place, entry in enumerate(entries)
                     if entry.comparable and entry.cells[key].whole}
            best = [place for place, rate in rates.items() if rate == max(rates.values())]
            marks |= {(place, key): BEST for place in best}
            top = max(best, key=lambda place: entries[place].cells[key].size, default=0)
            tests += [(place, key, compare_cells(entries[place], entries[top], key, layout.parts(key))[1])
                      for place in rates if place not in best]
        adjusted = stats.holm([p for _, _, p in tests])
        marks |= {(place, key): TIED for (place, key, _), p in zip(tests, adjusted) if p >= ALPHA}
    return marks


def _footnotes(entries: Sequence[Entry]) -> dict[tuple[int, str], str]:
    """Printed averages that are not the mean of their cells."""
    checked = published.averages()
    wrong = checked[checked["agreement"] == "differs"].set_index(["method", "protocol", "source"])
    notes = {}
    for place, entry in enumerate(entries):
        for (method, _, source), row in wrong.iterrows():
            if entry.run is None and (entry.label, entry.source) == (method, source):
                notes[place, AVERAGE] = (f"{row['printed']} is printed; the mean of the printed rates is "
                                         f"{row['recomputed']:.2f}.")
    return notes


Series = tuple[str, str, Callable[[str], Field]]


def _series(content: Content, place: int) -> list[Series]:
    """The lines of one entry: label, evidence, and what each shows at a key."""
    entry, gaps = content.entries[place], content.gaps.get(place)

    def rate(key: str) -> Field:
        note = [*content.footnotes].index((place, key)) + 1 if (place, key) in content.footnotes else 0
        return Field(_rate(entry.cells[key], entry.run is not None), content.marks.get((place, key), ""), note)

    if entry.run is None:
        return [(entry.label, entry.evidence, rate)]
    series: list[Series] = [(entry.label, f"{entry.evidence}, k/n", lambda key: Field(_count(entry.cells[key]))),
                            ("", "rate [95%]", rate)]
    if gaps:
        series += [("", "gap [95%]", lambda key: Field(_gap(gaps[key].difference))),
                   ("", "verdict", lambda key: Field(gaps[key].verdict))]
    return series


def _count(cell: Cell) -> str:
    if not (cell.n or cell.errors or cell.missing):
        return "-"
    more = [f"{cell.tasks} of {cell.of} tasks"] if cell.tasks < cell.of and cell.of > 1 else []
    more += [f"{number} {what}" for number, what in ((cell.errors, "in error"), (cell.missing, "not run")) if number]
    return ", ".join([f"{cell.successes}/{cell.n}", *more])


def _rate(cell: Cell, measured: bool) -> str:
    if math.isnan(cell.rate):
        return "-"
    if not measured:
        return cell.printed or f"{100 * cell.rate:.1f}"
    digits = 0 if cell.of == 1 and cell.n < 100 else 1
    low, high = cell.interval
    return f"{100 * cell.rate:.{digits}f} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def _gap(difference: Difference) -> str:
    if math.isnan(difference.value):
        return "-"
    value = f"{100 * difference.value:+.1f}"
    return value if math.isnan(difference.low) else \
        f"{value} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _latency(found: Latency | None) -> str:
    if found is None:
        return ""
    return f"{found.hz:.1f} (n={', '.join(filter(None, [str(found.calls), found.machine, found.note]))})"


def _caption(what: str, content: Content) -> str:
    measured = any(entry.run for entry in content.entries)
    return f"Success rates (%) on the {what}: published{' and measured' if measured else ''}."


def _notes(content: Content) -> list[str]:
    """All notes in order of printing."""
    layout, entries = content.layout, content.entries
    unstated = any(not entry.cells[AVERAGE].known for entry in entries if entry.run is None)
    notes = [f"Published: {SOURCES[layout.benchmark]}, percent as printed; n: episodes behind a {layout.unit}'s rate."
             + (" Methods whose n is not stated take part in no test." if unstated else "")]
    notes += [f"[{number}] {text}" for number, text in enumerate(content.footnotes.values(), start=1)]
    notes.append(_mark_note(content))
    if layout.groups:
        notes.append("Families: means over their tasks' rates, recomputed: "
                     + ", ".join(f"{name} {len(parts)} tasks" for name, parts in layout.groups.items()) + ".")
    mine = [entry for entry in entries if entry.run]
    return notes + ([_rule_note(content)] if mine else []) + [_run_note(entry) for entry in mine]


def _mark_note(content: Content) -> str:
    layout, entries = content.layout, content.entries
    large = any(entry.cells[key].size > BOSCHLOO_MOST for entry in entries for key in layout.headings)
    exact = f"Boschloo's exact test, Fisher's above {BOSCHLOO_MOST} episodes" if large else "Boschloo's exact test"
    open_keys = [layout.heading(key) for key in layout.keys
                 if any(content.marks.get((place, key)) == BEST and not entry.cells[key].known
                        for place, entry in enumerate(entries))]
    families = ", of families" if layout.groups else ""
    return (f"{{best}}: highest. {{tied}}: not separated from the highest at p = {ALPHA} ({exact}; averages by "
            f"Cochran-Mantel-Haenszel on what they average; Holm over all comparisons of {layout.unit}s{families} and "
            "of averages). Unmarked with n: lower, or not measured in full."
            + (f" {', '.join(open_keys)}: the highest has no n, so nothing can be called tied or lower."
               if open_keys else ""))


def _rule_note(content: Content) -> str:
    against, layout = content.against, content.layout
    families = ", and over the families" if layout.groups else ""
    return ("Runs: k successes of n measured episodes, Wilson 95% interval; means count each task once, Wilson with "
            "effective n; no rate where a task was not measured. Gap: points above "
            f"{against.label} ({against.evidence}, {against.source}), Newcombe's 95% interval, means stratified. "
            f"Verdict: lower or higher if the interval excludes 0 and p is below {ALPHA} after Holm over the "
            f"{layout.unit}s{families} (the average: by itself); consistent if the interval includes 0 and is no wider "
            f"than {100 * WIDEST:.0f} points; otherwise too few episodes; cannot tell if n is not stated or if errors "
            "could change the verdict. No verdict on runs that are not comparable.")


def _run_note(entry: Entry) -> str:
    cell = entry.cells[AVERAGE]
    short = (f" INCOMPLETE: {cell.errors} episodes ended in errors and {cell.missing} were not run; neither counts as "
             "a failure.") if cell.errors or cell.missing else ""
    begun = str(entry.run.info.get("started", ""))[:10]
    return f"{entry.label}: {entry.source}{f', {begun}' if begun else ''}; {title(entry.run)}.{short}"


def _data(content: Content) -> pd.DataFrame:
    """Raw numbers, one row an entry and key: rates and gaps are fractions, printed is percent."""
    rows = []
    for place, entry in enumerate(content.entries):
        kind = "published" if entry.run is None else "measured" if entry.comparable else "not comparable"
        for key in content.layout.keys:
            cell, gap = entry.cells[key], content.gaps.get(place, {}).get(key)
            difference = gap.difference if gap else stats.UNDEFINED
            low, high = cell.interval
            rows.append({
                "table": content.layout.benchmark, "method": entry.label, "kind": kind, "key": key,
                "printed": cell.printed, "rate": cell.rate, "successes": cell.successes if cell.n else pd.NA,
                "n": cell.n or pd.NA, "low": low, "high": high, "errors": cell.errors, "missing": cell.missing,
                "tasks": cell.tasks, "of_tasks": cell.of, "mark": content.marks.get((place, key), ""),
                "gap": difference.value, "gap_low": difference.low, "gap_high": difference.high,
                "gap_p": gap.p if gap else math.nan, "verdict": gap.verdict if gap else "", "source": entry.source,
            })
    return pd.DataFrame(rows)
