"""Findings: what a check of `evalkit doctor` says, and the table of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

OK, WARNING, PROBLEM = "ok", "warning", "problem"

_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}


@dataclass(frozen=True)
class Finding:
    """What one check found. level: `OK`, `WARNING` (runs, but slower or not as one may think) or `PROBLEM` (a run would
    fail or mislead). move: what to do about it, as a command where there is one."""

    name: str
    level: str
    found: str
    move: str = ""


def ok(name: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(name, OK, found)


def warning(name: str, found: str, move: str) -> Finding:
    """Worth knowing."""
    return Finding(name, WARNING, found, move)


def problem(name: str, found: str, move: str) -> Finding:
    """To be mended before a run."""
    return Finding(name, PROBLEM, found, move)


def print_table(findings: Iterable[Finding]) -> None:
    """One row a finding, what to do below what was found."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "")
    table.add_column("found", overflow="fold")
    for finding in findings:
        found = Text(finding.found)
        if finding.move:
            found.append(f"\n-> {finding.move}", style="bold")
        table.add_row(finding.name, Text(finding.level, style=_COLOURS[finding.level]), found)
    Console().print(table)
