"""From runs to what the page shows: plain rows, sums and texts. All numbers are made here, none in the browser."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from evalkit.assets import WARNINGS
from evalkit.errors import InputError
from evalkit.frames import MISSING, checked, load
from evalkit.records import ERROR, FAILURE, SUCCESS, Run, file_inside
from evalkit.registry import load_suite
from evalkit.report import charts
from evalkit.report.markers import Marker, Markers
from evalkit.report.pairs import Pair, discordant
from evalkit.tables import AVERAGE, task_table, title

GLYPHS = {SUCCESS: "✓", FAILURE: "✕", ERROR: "!", MISSING: "·"}
PHASES = ("reset", "physics", "render", "policy")
BINS = 20

#: Characters of one fact about a run: a server's metadata hold whole statistics.
LONGEST = 600

#: Field of a Record that holds the step at which the suite's rule was satisfied.
SUCCESS_STEP = {"any_step": "first_success_step", "chunk_end": "chunk_end_step"}

#: Characters of tracebacks: of one, and of all in a page. Beyond them only last lines are shown, so that a run of
#: nothing but errors still makes a page of a few megabytes.
TRACEBACK, ALL_TRACEBACKS, LAST_LINE = 4_000, 1_000_000, 300


@dataclass(frozen=True)
class Opened:
    """A run as it was read: its place on the page from 0, run.json, one row an episode, one row a task."""

    place: int
    name: str
    run: Run
    info: Mapping[str, Any]
    episodes: pd.DataFrame
    table: pd.DataFrame

    @property
    def number(self) -> int:
        """What the page calls it: 1, 2 ..."""
        return self.place + 1

    @property
    def suites(self) -> list[str]:
        """Suites in the plan, in its order."""
        return list(self.episodes["suite"].unique())

    @property
    def warnings(self) -> list[str]:
        """What keeps the numbers from being compared with published ones."""
        kinds = {parts["parts"].get("asset_kind") or "" for parts in self.info["fingerprints"].values()}
        return [WARNINGS[kind] for kind in sorted(kinds) if WARNINGS.get(kind)]


def open_runs(runs: Sequence[Run]) -> list[Opened]:
    """The runs, read once. Raises InputError when there are none, or one does not hold together."""
    if not runs:
        raise InputError("a report needs at least one run: evalkit report RUN [RUN ...]")
    return [_open(place, run) for place, run in enumerate(runs)]


def _open(place: int, run: Run) -> Opened:
    info, _ = checked(run)
    episodes = load(run)
    table = task_table(run) if len(episodes) else pd.DataFrame(columns=["name"])
    return Opened(place, run.folder.resolve().name, run, info, episodes, table)


def summary(opened: Opened) -> dict[str, Any]:
    """What the page says about one run: title, warnings, averages, tasks, outcomes, time, steps, facts."""
    return {
        "place": opened.place, "number": opened.number, "name": opened.name, "title": title(opened.run),
        "warnings": opened.warnings, "incomplete": _incomplete(opened), "averages": averages(opened),
        "tasks": tasks(opened),
        "grids": [_grid(opened, suite) for suite in opened.suites],
        "times": [times(opened, suite) for suite in opened.suites],
        "steps": [success_steps(opened, suite) for suite in opened.suites],
        "facts": _facts(opened.info), "fingerprints": _fingerprints(opened.info),
        "key": charts.legend_mark(opened.place),
    }


def _incomplete(opened: Opened) -> str:
    counts = opened.episodes["outcome"].value_counts()
    errors, missing = int(counts.get(ERROR, 0)), int(counts.get(MISSING, 0))
    if not len(opened.episodes):
        return "EMPTY: the plan of this run has no episodes."
    if not errors + missing:
        return ""
    return (f"INCOMPLETE: of {len(opened.episodes)} planned episodes {errors} ended in errors and {missing} were not "
            "run; neither counts as a failure. Repeat the run command to measure them.")


def averages(opened: Opened) -> list[dict[str, Any]]:
    """A row a suite, and one over all suites where the table has it."""
    rows = []
    for row in opened.table[opened.table["name"] == AVERAGE].to_dict("records"):
        suites = [row["suite"]] if row["suite"] in opened.suites else opened.suites
        planned = opened.episodes[opened.episodes["suite"].isin(suites)]
        of = sum(len(load_suite(suite).tasks) for suite in suites)
        rows.append({**_numbers(row, decimals=1), "suite": row["suite"], "number": opened.number,
                     "tasks": len(planned.groupby(["suite", "task"])), "of_tasks": of, "bounds": _bounds(planned)})
    return rows


def _bounds(planned: pd.DataFrame) -> str:
    """Mean task rates if every unmeasured episode had failed, and if it had succeeded; "" when all were measured."""
    if planned["outcome"].isin([SUCCESS, FAILURE]).all():
        return ""
    by_task = planned.assign(worst=planned["outcome"] == SUCCESS, best=planned["outcome"] != FAILURE)
    rates = by_task.groupby(["suite", "task"])[["worst", "best"]].mean().mean()
    return f"{100 * rates['worst']:.1f} to {100 * rates['best']:.1f}"


def tasks(opened: Opened) -> list[dict[str, Any]]:
    """A row a task."""
    return [{**_numbers(row, decimals=0 if row["n"] <= 100 else 1), "suite": row["suite"], "task": int(row["task"]),
             "name": row["name"], "group": load_suite(row["suite"]).tasks[int(row["task"])].group,
             "number": opened.number, "key": _key(row), "text": _search_text(row)}
            for row in opened.table[opened.table["name"] != AVERAGE].to_dict("records")]


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['suite']}/{int(row['task']):02d}"


def _search_text(row: Mapping[str, Any]) -> str:
    """What the filter looks through: key, name, group and instruction of a task."""
    task = load_suite(row["suite"]).tasks[int(row["task"])]
    return f"{_key(row)} {task.label} {task.name} {task.group} {task.instruction}".lower()


def _numbers(row: Mapping[str, Any], decimals: int) -> dict[str, Any]:
    """Texts of one table row, and the numbers behind them (None where undefined) for sorting."""
    rate, low, high, steps = (None if math.isnan(row[key]) else float(row[key])
                              for key in ("rate", "low", "high", "mean_steps"))
    return {
        "successes": row["successes"], "n": row["n"], "rate": rate, "low": low, "high": high, "errors": row["errors"],
        "missing": row["missing"], "steps": steps, "rate_text": percent(rate, decimals),
        "interval": "-" if low is None else f"[{100 * low:.{decimals}f}, {100 * high:.{decimals}f}]",
        "steps_text": "-" if steps is None else f"{steps:.0f}",
    }


def percent(rate: float | None, decimals: int = 1) -> str:
    """A fraction as text in percent, ``-`` for None."""
    return "-" if rate is None else f"{100 * rate:.{decimals}f}"


def forests(runs: Sequence[Opened], markers: Markers) -> list[dict[str, Any]]:
    """For each suite of any run the rows of its forest plot: tasks, then the average."""
    suites = list(dict.fromkeys(suite for opened in runs for suite in opened.suites))
    return [{"suite": suite, "rows": _forest_rows(runs, suite, markers)} for suite in suites]


def _forest_rows(runs: Sequence[Opened], suite: str, markers: Markers) -> list[dict[str, Any]]:
    by_task: dict[str, list[tuple[Opened, dict[str, Any]]]] = {}
    for opened in runs:
        for row in tasks(opened):
            if row["suite"] == suite:
                by_task.setdefault(row["key"], []).append((opened, row))
    rows = []
    for key in sorted(by_task):
        first = by_task[key][0][1]
        marker = markers.get(first["name"], load_suite(suite).tasks[first["task"]].name)
        rows.append(_forest_row(first["name"], by_task[key], marker, key=key, text=first["text"]))
    found = [(opened, row) for opened in runs for row in averages(opened) if row["suite"] == suite]
    whole = any(row["tasks"] == row["of_tasks"] for _, row in found)  # a published average is over all tasks
    return [*rows, _forest_row(AVERAGE, found, markers.get(suite) if whole else None, key="", text="")]


def _forest_row(name: str, found: Sequence[tuple[Opened, Mapping[str, Any]]], marker: Marker | None, key: str,
                text: str) -> dict[str, Any]:
    estimates = [charts.Estimate(opened.place, *(math.nan if row[part] is None else row[part]
                                                  for part in ("rate", "low", "high"))) for opened, row in found]
    texts = [f"{row['successes']}/{row['n']} {row['rate_text']} % {row['interval']}{_part(row)}" for _, row in found]
    said = "; ".join(f"run {opened.number}: {text}" for (opened, _), text in zip(found, texts))
    published = "" if marker is None else f"{percent(marker.rate)} % (n {marker.n or 'not stated'})"
    label = f"{name}: {said}" + (f"; published {published}" if published else "")
    return {"name": name, "key": key, "text": text, "published": published, "rate": found[0][1]["rate"],
            "published_rate": marker.rate if marker else None,
            "texts": [(opened.number, text) for (opened, _), text in zip(found, texts)],
            "plot": charts.forest_row(estimates, marker.rate if marker else None, label)}


def _part(average: Mapping[str, Any]) -> str:
    """That an average is over a part of its suite's tasks, if it is; nothing for a task's row."""
    tasks, of = average.get("tasks"), average.get("of_tasks")
    return "" if tasks == of else f" over {tasks} of {of} tasks"


def _grid(opened: Opened, suite: str) -> dict[str, Any]:
    """Outcomes of one suite: a row a task, a column an episode index; `episode` numbers the run's episodes."""
    of_suite = opened.episodes[opened.episodes["suite"] == suite]
    columns = sorted(of_suite["index"].unique())
    rows = []
    for task, episodes in of_suite.groupby("task"):
        cells = {index: {"episode": number, "id": name, "outcome": outcome} for number, index, name, outcome
                 in zip(episodes.index, episodes["index"], episodes["id"], episodes["outcome"])}
        row = {"suite": suite, "task": task}
        rows.append({"key": _key(row), "task": task, "name": episodes["name"].iloc[0], "text": _search_text(row),
                     "cells": [cells.get(index) for index in columns]})
    return {"suite": suite, "columns": columns, "rows": rows}


def times(opened: Opened, suite: str) -> dict[str, Any]:
    """Mean wall-clock seconds a measured episode spent in each phase, and n."""
    measured = _measured(opened, suite)
    means = {phase: float(measured[f"seconds_{phase}"].mean()) if len(measured) else 0.0 for phase in PHASES}
    steps = measured["steps"].sum()
    return {"suite": suite, "n": len(measured), "parts": means, "total": sum(means.values()),
            "per_step": 1000 * sum(measured[f"seconds_{phase}"].sum() for phase in PHASES) / steps if steps else None}


def _measured(opened: Opened, suite: str) -> pd.DataFrame:
    rows = opened.episodes
    return rows[(rows["suite"] == suite) & rows["outcome"].isin([SUCCESS, FAILURE])]


def success_steps(opened: Opened, suite: str) -> dict[str, Any]:
    """Histogram of the steps at which the suite's rule was first satisfied, over the horizon, and their quartiles."""
    described = load_suite(suite)
    measured = _measured(opened, suite)
    steps = measured.loc[measured["outcome"] == SUCCESS, SUCCESS_STEP[described.success_rule]].dropna().astype(int)
    quartiles = [f"{value:.0f}" for value in steps.quantile([0.25, 0.5, 0.75])] if len(steps) else []
    said = (f"{len(steps)} successes; half of them between steps {quartiles[0]} and {quartiles[2]}, median "
            f"{quartiles[1]}" if quartiles else "no successes with a known step")
    horizon = max(described.max_steps, int(steps.max()) if len(steps) else 0)
    plot = charts.histogram(steps, horizon, BINS, f"{suite}: {said}") if len(steps) else ""
    return {"suite": suite, "said": said, "plot": plot}


def _facts(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Command, git revision, versions, machine, config: name and text."""
    git = info.get("git") or {}
    revision = f"{git.get('revision') or 'unknown'}{' (with uncommitted changes)' if git.get('modified') else ''}"
    single = [("command", info.get("command", "unknown")), ("started", info.get("started", "unknown")),
              ("git revision", revision)]
    merged = [(f"merged from {part.get('name')}", f"{part.get('command')} ({part.get('kept')} records kept)")
              for part in info.get("merged", [])]
    grouped = [(f"{group}: {key}", _plain(value))
               for group in ("policy", "versions", "hardware", "config", "settings")
               for key, value in (info.get(group) or {}).items()]
    return [*single, *merged, *grouped]


def _fingerprints(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"suite": suite, "hash": fingerprint["hash"],
             "parts": [(key, _plain(value)) for key, value in fingerprint["parts"].items()]}
            for suite, fingerprint in info["fingerprints"].items()]


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... (run.json has the rest)"


class Texts:
    """Long texts of a page, each kept once and named by its number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str | None) -> int | None:
        """The number of `text`; None for no text."""
        return self.numbers.setdefault(text, len(self.numbers)) if text else None

    def traceback(self, text: str | None) -> int | None:
        """The same for a traceback, of which the end is kept: the reason stands in the last line."""
        if not text:
            return None
        shown = text.strip() if len(text) <= TRACEBACK else "[start left out]\n" + text.strip()[-TRACEBACK:]
        if shown not in self.numbers and sum(map(len, self.numbers)) + len(shown) > ALL_TRACEBACKS:
            shown = "[only the last line; the rest is in episodes.jsonl]\n" + text.strip().splitlines()[-1][-LAST_LINE:]
        return self.number(shown)


#: Columns of an episode in the page's data; `page_data` and report.js agree on them by this list.
COLUMNS = ("id", "outcome", "instruction", "seed", "steps", "success_step", "attempt", "scene_sha", "video",
           "traceback", *PHASES)


def page_data(runs: Sequence[Opened], pairs: Sequence[Pair], folder: Path) -> dict[str, Any]:
    """What the page's script needs: episodes as rows of `COLUMNS`, texts by number, pairs of runs.

    folder: where the page lies; videos are named relative to it, and left out where the file is not there.
    """
    texts = Texts()
    described = [{"number": opened.number, "name": opened.name,
                  "episodes": [_episode(opened, row, folder, texts) for row in opened.episodes.to_dict("records")]}
                 for opened in runs]
    return {"glyphs": GLYPHS, "columns": COLUMNS, "runs": described, "texts": list(texts.numbers),
            "pairs": [discordant(pair, runs) for pair in pairs]}


def _episode(opened: Opened, row: Mapping[str, Any], folder: Path, texts: Texts) -> list[Any]:
    row = {key: None if pd.isna(value) else value for key, value in row.items()}
    step = row[SUCCESS_STEP[load_suite(row["suite"]).success_rule]]
    video = video_address(opened.run.folder, row["video"], folder)
    seconds = [None if row[f"seconds_{phase}"] is None else round(row[f"seconds_{phase}"], 2) for phase in PHASES]
    return [row["id"], row["outcome"], texts.number(row["instruction"]), row["seed"], row["steps"], step,
            row["attempt"], row["scene_sha"], video, texts.traceback(row["traceback"]), *seconds]


def video_address(run: Path, video: str | None, folder: Path) -> str | None:
    """The relative URL of a run's video from the page's folder; None if it is no file among the run's videos."""
    path = file_inside(run, "videos", video) if video else None
    if path is None or not os.path.isfile(path):
        return None
    return quote(Path(os.path.relpath(path, folder.resolve())).as_posix())
