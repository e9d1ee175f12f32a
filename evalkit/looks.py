"""A comparison that may stop early: the plan of its looks in a file, and every look that is due taken in its order.

    evalkit compare A B --budget 50 --looks 4

A look uses the first episodes of each task, never those that happened to finish first, so one plan and the same records
give the same looks whenever one asks.
"""

from __future__ import annotations

import hashlib
import json
import math
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from evalkit.errors import InputError, unknown
from evalkit.merge import Parts
from evalkit.pairing import MISSING, Cell, Loaded, doubts, fingerprint_differences, load_side, pair, pair_tasks
from evalkit.parsing import parse_json, read_text
from evalkit.records import ERROR, Run, write_atomically
from evalkit.sequential import (
    ERROR_RATE,
    NAMES,
    RULES,
    STOP,
    Look,
    SequentialPlan,
    e_value,
    paired_z,
    plan_looks,
    take_anytime_look,
    take_look,
    unpaired_z,
)
from evalkit.texts import plain

#: The plan's file in B's folder.
FILE = "looks.json"

ANYTIME = "anytime"
RULE_NAMES = (*RULES, ANYTIME)
LOOKS = 4

#: Largest number in a plan; an anytime plan has a boundary for each episode.
MOST = 1_000_000

#: Of lines on a terminal, in characters.
WIDTH = 120


@dataclass(frozen=True)
class Taken:
    """A look that was taken after `episodes` of each task. evidence: z, or the e-value with its sign, positive where B
    leads; lost: episodes in error."""

    episodes: int
    evidence: float
    lost: int
    decision: str
    better: str | None
    statement: str


@dataclass(frozen=True)
class Looks:
    """A sequential comparison: what was fixed first, and the looks taken since.

    budget: episodes of each task of each run, at most. looks: their number, None for the anytime rule, which looks
    after each episode. a, b: names of the runs' folders. written: when the plan was made; measured: episodes that A and
    B had measured by then. subject: what is compared (see `_subject`), None until the first look.
    """

    budget: int
    looks: int | None
    rule: str
    a: str
    b: str
    written: str
    measured: tuple[int, int] = (0, 0)
    subject: Mapping[str, Any] | None = None
    taken: tuple[Taken, ...] = ()

    @cached_property
    def plan(self) -> SequentialPlan:
        """Episodes of each task at each look; boundaries of |z|, or of the e-value."""
        if self.rule == ANYTIME:
            return SequentialPlan(ANYTIME, tuple(range(1, self.budget + 1)), (1 / ERROR_RATE,) * self.budget)
        return plan_looks(self.budget, self.looks, self.rule)

    @property
    def name(self) -> str:
        """Eight hex digits of all that was fixed first; another plan has another name."""
        fixed = [self.budget, self.looks, self.rule, self.a, self.b, self.written, list(self.measured)]
        return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()[:8]

    @property
    def stopped(self) -> bool:
        """Whether the last look has ended the comparison."""
        return bool(self.taken) and self.taken[-1].decision == STOP

    @property
    def next_look(self) -> int:
        """Episodes of each task at the next look."""
        return self.plan.looks[len(self.taken)]


def look(run_a: Run, run_b: Run, budget: int, looks: int | None = None, rule: str = "obrien_fleming",
         path: Path | None = None) -> tuple[Looks, list[str]]:
    """Write the plan if there is none yet, take the looks that are due, and give all of them, and what to doubt.

    path: the plan's file, `FILE` in B's folder by default. Raises InputError where going on would inflate the error: a
    plan with another budget, looks, rule or runs; episodes changed since a look; the anytime rule without pairs.
    """
    path = path or run_b.folder / FILE
    a, b = (load_side(letter, run) if _exists(run) else None for letter, run in (("A", run_a), ("B", run_b)))
    measured = tuple(_measured(side) for side in (a, b))
    found = _planned(path, _asked(run_a, run_b, measured, budget, looks, rule))
    if a is None or b is None:
        write(found, path)
        return found, [f"there is no run in {run.folder} yet" for run in (run_a, run_b) if not _exists(run)]
    subject, cells = _subject(found, a, b)
    if found.subject is not None and found.subject != subject:
        raise InputError(f"{path} compares {_differing(found.subject, subject)}. A plan is for one comparison: pass "
                         "another --plan for these runs.")
    for number, before in enumerate(found.taken):
        _check_unchanged(path, number, before, _take(found, cells, before.episodes, subject["paired"]))
    depth = min(_depth(cell) for cell in cells)
    while not found.stopped and found.next_look <= depth:
        found = replace(found, subject=subject,
                        taken=(*found.taken, _take(found, cells, found.next_look, subject["paired"])))
    write(found, path)
    return found, _notes(found, a, b, cells)


def read(path: Path) -> Looks | None:
    """The comparison that `path` holds, None without such a file. Raises InputError when it was cut or edited."""
    if not path.exists():
        return None
    try:
        values = parse_json(read_text(path))
        name, values["measured"] = values.pop("plan"), tuple(values["measured"])
        found = Looks(**{**values, "taken": tuple(Taken(**item) for item in values["taken"])})
        _check_types(found)
        intact = name == found.name and [item.episodes for item in found.taken] == [
            *found.plan.looks[:len(found.taken)]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, InputError) as error:
        raise InputError(f"{path} is not a plan of looks: {error}. Restore it.") from error
    if not intact:
        raise InputError(f"{path} was edited: its plan {name} is not what it says. Restore it; a plan that is changed "
                         "after looking does not keep the error.")
    return found


def _check_types(found: Looks) -> None:
    """Raise TypeError for a value that `write` does not write."""
    numbers = [found.budget, *found.measured, *(count for item in found.taken for count in (item.episodes, item.lost))]
    texts = [found.rule, found.a, found.b, found.written,
             *(text for item in found.taken for text in (item.decision, item.statement, item.better or ""))]
    if not (all(type(number) is int and 0 <= number <= MOST for number in numbers) and len(found.measured) == 2
            and (found.looks is None or type(found.looks) is int) and all(isinstance(text, str) for text in texts)
            and (found.subject is None or {"paired", "policies"} <= set(found.subject))
            and all(type(item.evidence) is float and not math.isnan(item.evidence) for item in found.taken)):
        raise TypeError("it holds a value of another type")


def write(found: Looks, path: Path) -> None:
    """Write `path` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"plan": found.name, **asdict(found)}, indent=2) + "\n")


def _exists(run: Run) -> bool:
    return isinstance(run, Parts) or (run.folder / "run.json").exists()


def _measured(side: Loaded | None) -> int:
    return sum(record.outcome != ERROR for record in side.records.values()) if side else 0


def _asked(a: Run, b: Run, measured: tuple[int, int], budget: int, looks: int | None, rule: str) -> Looks:
    """A new plan. Raises InputError on one that is not possible."""
    if rule not in RULE_NAMES:
        raise unknown("sequential rule", rule, RULE_NAMES)
    if rule == ANYTIME and looks is not None:
        raise InputError("the anytime rule looks after each episode: pass no --looks with it")
    if budget < 1:
        raise InputError(f"a budget of {budget} episodes a task is not possible; at least 1")
    names = [run.folder.resolve().name for run in (a, b)]
    asked = Looks(budget, None if rule == ANYTIME else LOOKS if looks is None else looks, rule, *names,
                  written=time.strftime("%Y-%m-%dT%H:%M:%S%z"), measured=measured)
    _ = asked.plan  # raises
    return asked


def _planned(path: Path, asked: Looks) -> Looks:
    """The plan in `path`, which must be the one that is asked for, or a new one."""
    found = read(path) or asked
    differing = [f"  {key}: {getattr(found, key)!r} there, {getattr(asked, key)!r} now"
                 for key in ("budget", "looks", "rule", "a", "b") if getattr(found, key) != getattr(asked, key)]
    if differing:
        listed = "\n".join(differing)
        raise InputError(f"{path} fixed this comparison otherwise, on {found.written}:\n{listed}\nA plan that is "
                         "changed after looking does not keep the error. Repeat it as it was, or pass another --plan "
                         "for another comparison.")
    return found


def _subject(found: Looks, a: Loaded, b: Loaded) -> tuple[dict[str, Any], list[Cell]]:
    """What must stay the same from look to look, as JSON types, and the tasks' outcomes.

    Raises InputError unless both runs plan the same tasks, and pairs where the rule needs them.
    """
    tasks = [{(suite, task) for suite, planned in side.planned.items() for task in planned} for side in (a, b)]
    if tasks[0] != tasks[1]:
        first = "{}, task {}".format(*min(tasks[0] ^ tasks[1]))
        raise InputError(f"a look needs the same tasks in both runs; {first} is only in "
                         f"{'A' if tasks[0] - tasks[1] >= tasks[1] - tasks[0] else 'B'}. Run both with the same "
                         "--suite and --tasks.")
    pairings = [pair(a, b, suite) for suite in a.planned]
    paired = all(item.paired for item in pairings)
    if found.rule == ANYTIME and not paired:
        reasons = "; ".join(f"{item.suite}: {item.reason}" for item in pairings if not item.paired)
        raise InputError(f"the anytime rule needs pairs of episodes, and these runs have none: {reasons}. Run both "
                         "under the same conditions, or plan looks with another --rule.")
    cells = [cell for suite in a.planned for cell in pair_tasks(a, b, suite, paired)]
    if len(cells) < len(tasks[0]):
        raise InputError("a look needs the same episodes in both runs, and a task has none in common. Run both with "
                         "the same --episodes.")
    subject = {
        "paired": paired,
        "policies": [[side.info.get("config", {}).get(key) for key in ("policy", "policy_options")] for side in (a, b)],
        "fingerprints": [{suite: side.fingerprint(suite).get("hash") for suite in a.planned} for side in (a, b)],
        "first episodes": [[next(iter(cell.a)), next(iter(cell.b))] for cell in cells],
    }
    return subject, cells


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return "; ".join(f"{key} {before.get(key)!r}, and now there is {now[key]!r}" for key in now
                     if before.get(key) != now[key])


def _depth(cell: Cell) -> int:
    """Episodes from the first that were run in both runs, without a gap."""
    return min(next((number for number, value in enumerate(outcomes.values()) if value == MISSING), len(outcomes))
               for outcomes in (cell.a, cell.b))


def _cut(cell: Cell, episodes: int) -> Cell:
    return replace(cell, a=dict(list(cell.a.items())[:episodes]), b=dict(list(cell.b.items())[:episodes]))


def _take(found: Looks, cells: Sequence[Cell], episodes: int, paired: bool) -> Taken:
    """The look after `episodes` of each task. Errors count against whoever leads: those that could undo a stop, do."""
    cut = [_cut(cell, episodes) for cell in cells]
    lost = sum(value == ERROR for cell in cut for side in (cell.a, cell.b) for value in side.values())
    fills = [cut, *([[cell.filled(*fill) for cell in cut] for fill in ((True, False), (False, True))] if lost else [])]
    looks = [_decide(found, filled, episodes, paired) for filled in fills]
    evidence, taken = min(looks, key=lambda item: abs(item[0]))
    if min(item[0] for item in looks) < 0 < max(item[0] for item in looks):
        evidence, taken = _neutral(found, episodes, len(cells))
    statement = taken.statement + (f" {lost} episodes in error, counted against whoever leads." if lost else "")
    return Taken(episodes, evidence, lost, taken.decision, taken.better, statement)


def _decide(found: Looks, cells: Sequence[Cell], episodes: int, paired: bool) -> tuple[float, Look]:
    """Signed evidence and decision from the measured episodes of `cells`."""
    if paired:
        pairs = [outcomes for cell in cells for outcomes in cell.pairs.values()]
        only_a, only_b = (sum(one != other and one for one, other in side) for side in (
            pairs, [(last, first) for first, last in pairs]))
        if found.rule == ANYTIME:
            evidence = math.copysign(float(e_value(only_a, only_b)), only_b - only_a)
            return evidence, take_anytime_look(only_a, only_b, episodes * len(cells), found.budget * len(cells))
        z = float(paired_z(only_a, only_b))
    else:
        sides = [[[value for value in outcomes.values() if isinstance(value, bool)] for outcomes in side]
                 for side in ([cell.a for cell in cells], [cell.b for cell in cells])]
        z = unpaired_z(*(column for side in sides for column in ([sum(task) for task in side], [*map(len, side)])))
    return z, take_look(found.plan, episodes, z)


def _neutral(found: Looks, episodes: int, tasks: int) -> tuple[float, Look]:
    if found.rule == ANYTIME:
        return 1.0, take_anytime_look(0, 0, episodes * tasks, found.budget * tasks)
    return 0.0, take_look(found.plan, episodes, 0.0)


def _check_unchanged(path: Path, number: int, before: Taken, now: Taken) -> None:
    """Raise InputError if a look without errors would come out otherwise today."""
    same = math.isclose(before.evidence, now.evidence, rel_tol=1e-9, abs_tol=1e-12)
    if not before.lost and not (same and (before.decision, before.better) == (now.decision, now.better)):
        raise InputError(f"the episodes have changed since look {number + 1} of {path}: {before.evidence:+.3f} then, "
                         f"{now.evidence:+.3f} now. A look cannot be taken twice: restore the runs.")


def _notes(found: Looks, a: Loaded, b: Loaded, cells: Sequence[Cell]) -> list[str]:
    """What a reader has to know beside the looks."""
    notes = [] if not any(found.measured) else [
        f"the plan was written when A had {found.measured[0]} and B {found.measured[1]} measured episodes: it was "
        "fixed beforehand only if nobody had compared them"]
    beyond = sum(max(0, len(side) - found.budget) for cell in cells for side in (cell.a, cell.b))
    if beyond:
        notes.append(f"{beyond} planned episodes are beyond the budget and not looked at")
    for suite in a.planned:
        notes += doubts(suite, pair(a, b, suite), fingerprint_differences(a, b, suite))
    return notes


def render(found: Looks, notes: Sequence[str], form: str = "terminal") -> str:
    """The plan, a line a look (taken or not; the anytime rule: taken), the decision and the next move."""
    table = _table(found)
    if form == "csv":
        return table.to_csv(index=False)
    grid = table.to_markdown(index=False, disable_numparse=True) if form == "markdown" else \
        table.to_string(index=False)
    said = [found.taken[-1].statement[:1].upper() + found.taken[-1].statement[1:]] if found.taken else []
    before = [plain(_title(found))]
    after = [plain(text) for text in (*said, *(f"NOTE: {note}." for note in notes), _next_move(found))]
    if form == "terminal":
        before, after = ([textwrap.fill(text, WIDTH) for text in texts] for texts in (before, after))
    return "\n\n".join([*before, *([grid] if len(table) else []), *after]) + "\n"


def _title(found: Looks) -> str:
    pairs = {None: "", True: ", paired", False: ", unpaired"}[found.subject and found.subject["paired"]]
    return (f"Is {found.b} (B) better than {found.a} (A)? Looks by {NAMES[found.rule]}, at most {found.budget} "
            f"episodes of each task{pairs}; plan {found.name}, written {found.written}. All looks together find a "
            f"difference that is not there in at most {100 * ERROR_RATE:.0f} % of cases.")


def _table(found: Looks) -> pd.DataFrame:
    """Texts. evidence: z or the e-value with its sign, positive where B leads."""
    evidence = "e-value (+ for B)" if found.rule == ANYTIME else "z (+ for B)"
    spent = [] if found.rule == ANYTIME else ["error spent %"]
    rows = []
    for number, episodes in enumerate(found.plan.looks):
        taken = found.taken[number] if number < len(found.taken) else None
        if taken is None and found.rule == ANYTIME:
            break
        row = {"look": str(number + 1), "episodes a task": str(episodes),
               evidence: "-" if taken is None else f"{taken.evidence:+.3f}",
               "stops at": f"{found.plan.boundaries[number]:.3f}"}
        if spent:
            row[spent[0]] = f"{100 * found.plan.spent(number + 1):.3f}"
        rows.append({**row, "decision": _word(taken)})
    return pd.DataFrame(rows, columns=["look", "episodes a task", evidence, "stops at", *spent, "decision"])


def _word(taken: Taken | None) -> str:
    if taken is None:
        return "not taken"
    if taken.decision != STOP:
        return taken.decision
    return f"stop: {taken.better} is better" if taken.better else "stop: no difference shown"


def _next_move(found: Looks) -> str:
    if found.stopped:
        return ("This comparison is over: further episodes and further looks do not change it. Rates and intervals: "
                "`evalkit compare` without --budget.")
    last = found.taken[-1].episodes if found.taken else 0
    return (f"Next: the look after {found.next_look} episodes of each task. Run what is missing of them (--episodes "
            f"{last}:{found.next_look}), each policy into a new sub-folder of {found.a} or {found.b}, and repeat this "
            "command.")
