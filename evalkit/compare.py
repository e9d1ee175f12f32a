"""Is B better than A? Two runs task by task: paired where they ran the same episodes, else as independent samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evalkit.assets import WARNINGS
from evalkit.errors import InputError, unknown
from evalkit.records import ERROR, SUCCESS, Record, Run
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
FORMATS = ("terminal", "markdown", "csv")
AVERAGE, ALL_SUITES = "average", "all suites"
MISSING = "missing"
ERROR_RATE = 0.05

#: With so many episodes in each arm a test can always reach significance, whatever the number of tasks.
PLENTY = 20

#: Draws of the posterior a row: the probability's own error is below 0.4 points.
DRAWS = 20_000

#: Fields of a fingerprint that belong to the protocol beside those of the suite; the others are simulator and assets.
PLANNED_FIELDS = ("seed_policy", "seed", "full_horizon")


@dataclass(frozen=True)
class Side:
    """One of the two runs: its folder, the folder's name, the policy it measured, and what its assets forbid."""

    name: str
    folder: str
    policy: str
    policy_options: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Pairing:
    """Whether the episodes of a suite are compared one by one, and why; pairs that start from the same state, of those
    whose states are recorded."""

    suite: str
    paired: bool
    reason: str
    scenes_equal: int = 0
    scenes_checked: int = 0


@dataclass(frozen=True)
class FieldDifference:
    """A field of a suite's fingerprint in which the runs differ; None where a run has no such field."""

    suite: str
    field: str
    a: Any
    b: Any


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


@dataclass(frozen=True)
class _Cell:
    """A task's episodes in both runs: id -> success, or `ERROR` or `MISSING`."""

    suite: str
    task: int
    paired: bool
    a: Mapping[str, bool | str]
    b: Mapping[str, bool | str]

    def filled(self, fill_a: bool, fill_b: bool) -> _Cell:
        """With all unmeasured episodes succeeding or failing."""
        return replace(self, a={key: value if isinstance(value, bool) else fill_a for key, value in self.a.items()},
                       b={key: value if isinstance(value, bool) else fill_b for key, value in self.b.items()})

    @property
    def pairs(self) -> dict[str, tuple[bool, bool]]:
        """Episodes that both runs measured."""
        return {key: (value, self.b[key]) for key, value in self.a.items()
                if key in self.b and isinstance(value, bool) and isinstance(self.b[key], bool)}


@dataclass(frozen=True)
class _Loaded:
    """A run as read once. planned: suite -> task -> episode ids."""

    letter: str
    folder: Path
    info: Mapping[str, Any]
    planned: Mapping[str, Mapping[int, list[str]]]
    records: Mapping[str, Record]

    def fingerprint(self, suite: str) -> Mapping[str, Any]:
        """Hash and parts; empty where the suite was not started."""
        return self.info.get("fingerprints", {}).get(suite, {})

    def outcome(self, key: str) -> bool | str:
        """Success, or why there is none."""
        if key not in self.records:
            return MISSING
        return ERROR if self.records[key].outcome == ERROR else self.records[key].outcome == SUCCESS


def compare(run_a: Run, run_b: Run, seed: int = 0) -> Comparison:
    """Compare B with A on the suites, tasks and episodes that both planned. `seed` is of the posterior's draws.

    Errors and missing episodes are left out of the rates and bounded: where they could change a verdict it is
    ``cannot tell``. Raises InputError when a folder is not a run or the two have no suite or task in common.
    """
    a, b = _load("A", run_a), _load("B", run_b)
    suites = [suite for suite in a.planned if suite in b.planned]
    if not suites:
        raise InputError(f"{a.folder} ran {', '.join(a.planned)} and {b.folder} ran {', '.join(b.planned)}: runs of "
                         "different suites cannot be compared. Compare runs of the same suite.")
    differences = [item for suite in suites for item in _fingerprint_differences(a, b, suite)]
    warnings = [f"only {ours.letter} ran {suite}: left out" for ours, theirs in ((a, b), (b, a))
                for suite in ours.planned if suite not in theirs.planned]
    warnings += _stray(a) + _stray(b)
    pairings, cells = [], []
    for suite in suites:
        pairing = _pairing(a, b, suite)
        found = _cells(a, b, suite, pairing.paired)
        warnings += _left_out(a, b, suite, found)
        warnings += _doubts(suite, pairing, [item for item in differences if item.suite == suite])
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
        _side(a), _side(b), tuple(pairing.suite for pairing in pairings), tuple(pairings),
        tuple(row for row in rows if row.task is not None), tuple(row for row in rows if row.task is None),
        tuple(key for key, a_succeeded in discordant if a_succeeded),
        tuple(key for key, a_succeeded in discordant if not a_succeeded), tuple(differences), tuple(warnings), seed)


def _load(letter: str, run: Run) -> _Loaded:
    """Raises InputError when run.json has no usable plan."""
    info, planned = run.info, {}
    ids = info.get("planned") if isinstance(info, dict) else None
    if not isinstance(ids, list) or not ids:
        raise InputError(f"{run.folder / 'run.json'} has no list of planned episodes; it was cut or edited. "
                         "Repeat the run's command to write it again.")
    for key in ids:
        suite, _, rest = str(key).partition("/")
        task, _, index = rest.partition("/")
        if not (task.isdigit() and index.isdigit()):
            raise InputError(f"{run.folder / 'run.json'}: planned episode {key!r} is not suite/task/index")
        planned.setdefault(suite, {}).setdefault(int(task), []).append(key)
    return _Loaded(letter, run.folder, info, planned, run.records())


def _side(run: _Loaded) -> Side:
    config = run.info.get("config", {})
    kinds = {run.fingerprint(suite).get("parts", {}).get("asset_kind", "") for suite in run.planned}
    return Side(run.folder.name, str(run.folder), str(config.get("policy", "")), config.get("policy_options") or {},
                tuple(WARNINGS[kind] for kind in sorted(kinds) if WARNINGS.get(kind)))


def _fingerprint_differences(a: _Loaded, b: _Loaded, suite: str) -> list[FieldDifference]:
    ours, theirs = (run.fingerprint(suite).get("parts", {}) for run in (a, b))
    return [FieldDifference(suite, key, ours.get(key), theirs.get(key)) for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key)]


def _pairing(a: _Loaded, b: _Loaded, suite: str) -> Pairing:
    """Paired where ids are shared and the fingerprints are equal."""
    of_b = {key for ids in b.planned[suite].values() for key in ids}
    shared = [key for ids in a.planned[suite].values() for key in ids if key in of_b]
    hash_a, hash_b = (run.fingerprint(suite).get("hash") for run in (a, b))
    if not hash_a or not hash_b:
        return Pairing(suite, False, "a run has no fingerprint of this suite: it was not started")
    if hash_a != hash_b:
        differing = ", ".join(item.field for item in _fingerprint_differences(a, b, suite)) or "hash"
        return Pairing(suite, False, f"fingerprints differ ({differing}), so one id is not one scene")
    if not shared:
        return Pairing(suite, False, "no episode id is in both plans")
    scenes = [a.records[key].scene_sha == b.records[key].scene_sha for key in shared
              if key in a.records and key in b.records and a.records[key].scene_sha and b.records[key].scene_sha]
    check = f"start states equal in {sum(scenes)} of {len(scenes)} pairs" if scenes else "start states not recorded"
    return Pairing(suite, True, f"same episode ids and fingerprint; {check}", sum(scenes), len(scenes))


def _cells(a: _Loaded, b: _Loaded, suite: str, paired: bool) -> list[_Cell]:
    """Common tasks with their common episodes, or with all where an unpaired task has none in common."""
    cells = []
    for task in sorted(set(a.planned[suite]) & set(b.planned[suite])):
        of_a, of_b = a.planned[suite][task], b.planned[suite][task]
        in_b = set(of_b)
        shared = [key for key in of_a if key in in_b]
        if shared or not paired:
            cells.append(_Cell(suite, task, paired, {key: a.outcome(key) for key in shared or of_a},
                               {key: b.outcome(key) for key in shared or of_b}))
    return cells


def _left_out(a: _Loaded, b: _Loaded, suite: str, cells: Sequence[_Cell]) -> list[str]:
    """What of the suite is not compared, in words."""
    warnings, compared = [], {cell.task: cell for cell in cells}
    for run in (a, b):
        planned = run.planned[suite]
        tasks = sorted(task for task in planned if task not in compared)
        if tasks:
            warnings.append(f"{suite}: task{'s' * (len(tasks) > 1)} {', '.join(map(str, tasks))} of {run.letter} left "
                            "out: not common to both")
        used = {key for cell in cells for key in (cell.a if run is a else cell.b)}
        episodes = [key for task in compared for key in planned[task] if key not in used]
        if episodes:
            warnings.append(f"{suite}: {len(episodes)} episode{'s' * (len(episodes) > 1)} planned only in {run.letter} "
                            f"left out (first: {episodes[0]})")
    if cells and not any(set(cell.a) & set(cell.b) for cell in cells):
        warnings.append(f"{suite}: no episode is planned in both; all of either run are compared")
    total = len(load_suite(suite).tasks)
    if 0 < len(cells) < total:
        warnings.append(f"{suite}: the average is over {len(cells)} of its {total} tasks")
    return warnings


def _doubts(suite: str, pairing: Pairing, differences: Sequence[FieldDifference]) -> list[str]:
    """What beside the policies may make a difference, in words."""
    protocol = {*load_suite(suite).protocol(), *PLANNED_FIELDS}
    warnings = []
    for what, chosen in (("protocols", True), ("simulators or assets", False)):
        named = [item.field for item in differences if (item.field in protocol) is chosen]
        if named:
            warnings.append(f"{suite}: {what} differ in {', '.join(named)}: a difference of the rates may be theirs, "
                            "not the policies'")
    if pairing.scenes_equal < pairing.scenes_checked:
        warnings.append(f"{suite}: {pairing.scenes_checked - pairing.scenes_equal} of {pairing.scenes_checked} pairs "
                        "did not start from the same state, though ids and fingerprints are equal")
    return warnings


def _stray(run: _Loaded) -> list[str]:
    """Records that do not belong to the run, and records of other fingerprints, in words."""
    planned = {key for tasks in run.planned.values() for ids in tasks.values() for key in ids}
    warnings = []
    outside = [key for key in run.records if key not in planned]
    if outside:
        warnings.append(f"{len(outside)} records of {run.letter} are not in its plan: ignored (first: {outside[0]})")
    foreign = [key for key, record in run.records.items() if key in planned and record.fingerprint
               and record.fingerprint != run.fingerprint(record.suite).get("hash")]
    if foreign:
        warnings.append(f"{len(foreign)} records of {run.letter} carry another fingerprint than its run.json (first: "
                        f"{foreign[0]}): the file was edited or mixed")
    return warnings


def _judged(cells: Sequence[_Cell], seed: int) -> list[Row]:
    """All rows with verdicts; measured episodes decide, the two extremes for unmeasured ones may withdraw a verdict."""
    rows = _rows(cells, seed)
    if not any(row.unmeasured for row in rows):
        return rows
    extremes = [_rows([cell.filled(*fill) for cell in cells], None) for fill in ((True, False), (False, True))]
    return [replace(row, verdict=CANNOT_TELL)
            if row.unmeasured and row.verdict != TOO_FEW and any(other.verdict != row.verdict for other in others)
            else row for row, *others in zip(rows, *extremes)]


def _rows(cells: Sequence[_Cell], seed: int | None) -> list[Row]:
    """A row a task, then an average a suite, then one over all suites of one benchmark. No posterior without a seed."""
    tasks = _with_verdicts([_task_row(cell, seed) for cell in cells])
    suites = list(dict.fromkeys(row.suite for row in tasks))
    averages = _with_verdicts([_average_row(suite, [row for row in tasks if row.suite == suite], seed)
                               for suite in suites])
    if len(suites) > 1 and len({load_suite(suite).interpreter for suite in suites}) == 1:
        averages += _with_verdicts([_average_row(ALL_SUITES, tasks, seed)])
    return tasks + averages


def _task_row(cell: _Cell, seed: int | None) -> Row:
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
        return f"- {letter}: {run.name} (policy {run.policy}{options}){notes}"

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
    return [f"{heading}\n\n" + "\n".join(f"- {line}" for line in lines) for heading, lines in sections.items() if lines]


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
