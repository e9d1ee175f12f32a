"""Tables of one run: a row a task, a row a suite's average; terminal, markdown, CSV, LaTeX. Made from the records."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd

from evalkit import latex
from evalkit.assets import WARNINGS
from evalkit.errors import InputError
from evalkit.frames import checked
from evalkit.records import ERROR, FAILURE, SUCCESS, Record, Run
from evalkit.registry import load_suite
from evalkit.stats import mean_rate, mean_rate_interval, wilson
from evalkit.texts import plain

AVERAGE = "average"

#: Columns of a table that is read, beside the task's.
NUMBERS = ["k/n", "rate %", "95% interval", "errors", "missing", "mean steps"]

#: What "success" means, by the suite's rule; named in every title.
RULES = {"any_step": "success = predicate true at any step", "chunk_end": "success = predicate true at a chunk end"}


def task_table(run: Run) -> pd.DataFrame:
    """One row a task and one average a suite (and over all suites of one benchmark), all numbers raw.

    Columns: suite, task, name, successes, n, rate, low, high, errors, missing, mean_steps. n counts measured episodes;
    rate, low and high are fractions (95 % Wilson), NaN where undefined. An average over fewer tasks than planned is
    NaN. Raises InputError when the run's files do not hold together.
    """
    info, records = checked(run)
    planned = pd.DataFrame([episode.split("/") for episode in info["planned"]], columns=["suite", "task", "index"])
    planned["id"], planned["task"] = info["planned"], planned["task"].astype(int)
    planned["outcome"] = [records[episode].outcome if episode in records else "missing" for episode in planned["id"]]
    planned["steps"] = [records[episode].steps if is_measured(records, episode) else math.nan
                        for episode in planned["id"]]
    rows = []
    for suite, of_suite in planned.groupby("suite", sort=False):
        tasks = [_task_row(suite, task, episodes) for task, episodes in of_suite.groupby("task")]
        rows += [*tasks, _average_row(suite, AVERAGE, tasks)]
    all_tasks = [row for row in rows if row["name"] != AVERAGE]
    benchmarks = {load_suite(name).interpreter for name in planned["suite"].unique()}
    if planned["suite"].nunique() > 1 and len(benchmarks) == 1:
        rows.append(_average_row("all suites", AVERAGE, all_tasks))
    return pd.DataFrame(rows)


def is_measured(records: Mapping[str, Record], episode: str) -> bool:
    """Whether `episode` has an outcome other than error."""
    return episode in records and records[episode].outcome != ERROR


def _task_row(suite: str, task: int, episodes: pd.DataFrame) -> dict[str, Any]:
    counts = episodes["outcome"].value_counts()
    successes = int(counts.get(SUCCESS, 0))
    n = successes + int(counts.get(FAILURE, 0))
    low, high = wilson(successes, n)
    return {
        "suite": suite, "task": task, "name": load_suite(suite).tasks[task].label, "successes": successes, "n": n,
        "rate": successes / n if n else math.nan, "low": low, "high": high, "errors": int(counts.get(ERROR, 0)),
        "missing": int(counts.get("missing", 0)), "mean_steps": episodes["steps"].mean(),
    }


def _average_row(suite: str, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    successes, n = [row["successes"] for row in rows], [row["n"] for row in rows]
    low, high = mean_rate_interval(successes, n)
    steps = [row["mean_steps"] * row["n"] for row in rows if row["n"]]
    return {
        "suite": suite, "task": pd.NA, "name": name, "successes": sum(successes), "n": sum(n),
        "rate": mean_rate(successes, n), "low": low, "high": high, "errors": sum(row["errors"] for row in rows),
        "missing": sum(row["missing"] for row in rows), "mean_steps": sum(steps) / sum(n) if sum(n) else math.nan,
    }


def caveats(info: Mapping[str, Any]) -> list[str]:
    """What stands beside a run's numbers wherever they are shown: assets that are not upstream's; what the policy, or
    the server behind which it acts, says of itself. Mostly nothing."""
    kinds = {fingerprint["parts"].get("asset_kind") or "" for fingerprint in info["fingerprints"].values()}
    policy = _part(info, "policy")
    note = policy.get("note") or _part(_part(policy, "server"), "described").get("note")
    return [WARNINGS[kind] for kind in sorted(kinds) if WARNINGS.get(kind)] + ([f"policy: {note}"] if note else [])


def policy_name(info: Mapping[str, Any]) -> str:
    """The policy as a table calls it: of a file of the user's own its name alone."""
    return info["config"]["policy"].rpartition("/")[2]


def policy_text(info: Mapping[str, Any]) -> str:
    """Its name and what acts behind it: the policy that a server serves, the checkpoint's hash, where known."""
    policy = _part(info, "policy")
    server = _part(policy, "server")
    sha256 = str(_part(policy, "checkpoint").get("sha256") or _part(server, "checkpoint").get("sha256") or "")
    behind = ", ".join(filter(None, [str(server.get("policy") or ""), sha256 and f"checkpoint {sha256[:12]}"]))
    return f"{policy_name(info)} ({behind})" if behind else policy_name(info)


def _part(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping at `key`; an empty one where there is none."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def title(run: Run) -> str:
    """What was measured, under which rules, and whether it may be compared with published numbers."""
    info = run.info
    config = info["config"]
    rules = {RULES[load_suite(name).success_rule] for name in config["suites"]}
    first, end = config["episodes"]
    parts = [f"{', '.join(config['suites'])}: policy {policy_text(info)}",
             f"episodes {first} to {end - 1} of each task",
             f"seed policy {config['seed_policy']} (seed {config['seed']})", *sorted(rules)]
    return plain("; ".join(parts) + "".join(f" [{warning}]" for warning in caveats(info)))


def render(run: Run, form: str) -> str:
    """The table of `run` in one of `grid.FORMATS`. CSV holds raw numbers, the others are for reading."""
    table = task_table(run)
    if not len(table):
        raise InputError(f"{run.folder / 'run.json'} plans no episode: there is no table. It was cut or edited; repeat "
                         "the run's command to write it again.")
    if form == "csv":
        return table.to_csv(index=False)
    readable = _readable(table)
    if form == "markdown":
        body = readable.to_markdown(index=False, disable_numparse=True,
                                    colalign=("left", "right", "left", *["right"] * 6))
        return f"{title(run)}\n\n{body}\n\n{_footer(table)}\n"
    if form == "latex":
        return _latex(table, f"{title(run)}. {_footer(table)}")
    return _terminal(readable, title(run), _footer(table))


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    def percent(value: float) -> str:
        return "-" if math.isnan(value) else f"{100 * value:.1f}"

    def interval(row: pd.Series) -> str:
        return "-" if math.isnan(row["low"]) else f"{percent(row['low'])} - {percent(row['high'])}"

    return pd.DataFrame({
        "suite": table["suite"], "task": ["" if pd.isna(task) else str(task) for task in table["task"]],
        "name": table["name"], "k/n": [f"{k}/{n}" for k, n in zip(table["successes"], table["n"])],
        "rate %": table["rate"].map(percent), "95% interval": table.apply(interval, axis=1),
        "errors": table["errors"].astype(str), "missing": table["missing"].astype(str),
        "mean steps": ["-" if math.isnan(steps) else f"{steps:.0f}" for steps in table["mean_steps"]],
    })


def _footer(table: pd.DataFrame) -> str:
    tasks = table[table["name"] != AVERAGE]
    lines = ["Intervals: Wilson 95 %; averages: mean of task rates, Wilson with effective n."]
    if tasks["errors"].sum() or tasks["missing"].sum():
        lines.append(f"INCOMPLETE: {tasks['errors'].sum()} episodes ended in errors and {tasks['missing'].sum()} were "
                     "not run; neither counts as a failure. Repeat the run command to measure them.")
    return " ".join(lines)


def _terminal(readable: pd.DataFrame, heading: str, footer: str) -> str:
    """The table for a terminal: names are cut where the window is narrow, numbers never."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 140)
    grid = Table(title=Text(heading), caption=Text(footer), title_justify="left", caption_justify="left",
                 box=box.SIMPLE_HEAD, padding=(0, 1 if console.width > 96 else 0), header_style="bold")
    grid.add_column("task", no_wrap=True)
    grid.add_column("name", overflow="ellipsis")  # rich narrows only columns that may wrap; names are one word
    for column in NUMBERS:
        grid.add_column({"mean steps": "steps"}.get(column, column), justify="right", no_wrap=True)
    for _, row in readable.iterrows():
        average = row["name"] == AVERAGE
        key = row["suite"] if average else f"{row['suite']}/{int(row['task']):02d}"
        grid.add_row(key, row["name"], *row[NUMBERS], style="bold" if average else None, end_section=average)
    with console.capture() as capture:
        console.print(grid)
    return capture.get()


def _latex(table: pd.DataFrame, caption: str) -> str:
    """On one page; the suite stands before the task's number, as in an episode's id."""
    readable = _readable(table)
    averages = list(table["name"] == AVERAGE)
    keys = [suite if average else f"{suite}/{int(task):02d}"
            for suite, task, average in zip(table["suite"], table["task"].fillna(0), averages)]
    cells = pd.concat([pd.Series(keys, name="task"), readable[["name", *NUMBERS]]], axis=1)
    rows = [[latex.escape(text) for text in row] for row in cells.itertuples(index=False)]
    header = [latex.escape({"mean steps": "steps"}.get(column, column)) for column in cells]
    rules = [number for number, average in enumerate(averages, start=1)
             if number < len(rows) and (average or averages[number])]
    return "\n".join(latex.table(latex.escape(caption), "tab:run", [header], rows, (0, 1), rules, []))
