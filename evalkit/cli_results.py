"""The commands that read runs: tables, comparisons, reports, exports. Nothing here starts a simulator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evalkit.errors import InputError, unknown

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
RunFolders = Annotated[list[Path], typer.Argument(metavar="[RUN]...", help="Folders of runs.")]
Form = Annotated[str, typer.Option("--format", "-f", help="terminal, markdown, latex or csv.")]
ShortForm = Annotated[str, typer.Option("--format", "-f", help="terminal, markdown or csv.")]
Out = Annotated[Path, typer.Option(help="File to write. Default: in the (first) run's folder.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands, in the order in which one needs them."""
    for command in (table, tables, compare, report, export, merge, published, power):
        app.command()(command)


def table(run: RunFolder, form: Form = "terminal") -> None:
    """Print a run's table: successes/n, rate, 95 % interval, errors, mean steps. Status 1 if it is incomplete."""
    from evalkit import tables as tables_
    from evalkit.grid import FORMATS
    from evalkit.records import Run

    if form not in FORMATS:
        raise unknown("table format", form, FORMATS)
    opened = Run(run)
    print(tables_.render(opened, form), end="")
    raise typer.Exit(status(opened))


def tables(runs: RunFolders = None,
           groups: Annotated[bool, typer.Option("--groups", help="Also the families of RoboCasa-GR1: Cabinet, Drawer, "
                                                                 "Microwave, Novel.")] = False,
           reference: Annotated[list[str], typer.Option(
               metavar="METHOD/PROTOCOL", help="Published result that runs are held against; may be repeated. Default: "
                                               "DiT4DiT's rows of the paper.")] = None,
           only: Annotated[str, typer.Option(help="libero, robocasa_gr1 or efficiency. Default: all three.")] = None,
           form: Form = "terminal") -> None:
    """Print the DiT4DiT paper's tables, published rows first, then each run with its gap to the published value.

    Example:  evalkit tables results/runs/mine --format latex > tables.tex
    """
    from evalkit import grid, paper
    from evalkit.records import Run

    found = paper.tables([Run(folder) for folder in runs or ()], groups, paper.find_references(reference or ()))
    if only is not None and only not in found:
        raise unknown("table", only, found)
    print("\n\n".join(grid.render(item, form).strip("\n") for name, item in found.items() if only in (None, name)))


def compare(a: Annotated[Path, typer.Argument(metavar="A", help="Folder of run A, the one to beat.")],
            b: Annotated[Path, typer.Argument(metavar="B", help="Folder of run B.")],
            seed: Annotated[int, typer.Option(help="Of the posterior's draws.")] = 0,
            form: ShortForm = "terminal") -> None:
    """Say whether B is better than A: differences with intervals, paired where both ran the same episodes."""
    from evalkit import compare as comparing
    from evalkit.records import Run

    print(comparing.render(comparing.compare(Run(a), Run(b), seed), form), end="")


def report(runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
           out: Out = None) -> None:
    """Write one HTML file that opens without a server: tables, plots, every episode, videos, comparisons."""
    from evalkit.records import Run
    from evalkit.report import write_report

    print(write_report([Run(folder) for folder in runs], out or runs[0] / "report.html"))


def export(run: RunFolder,
           parquet: Annotated[bool, typer.Option("--parquet", help="Write parquet (the default).")] = False,
           csv: Annotated[bool, typer.Option("--csv", help="Write CSV.")] = False,
           out: Out = None) -> None:
    """Write one row an episode for notebooks. In Python: evalkit.load(run) is the same as a DataFrame."""
    from evalkit import frames

    if parquet and csv:
        raise InputError("pass --parquet or --csv, not both")
    form = "csv" if csv else "parquet"
    path = out or run / f"episodes.{form}"
    frames.export(run, path, form)
    print(path)


def merge(runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs of one plan.")],
          out: Annotated[Path, typer.Option(help="Folder of the merged run; must not exist.")]) -> None:
    """Merge runs of the same plan and fingerprint, for example from several machines. Inputs are left as they are."""
    from evalkit.merge import merge as merged
    from evalkit.records import Run

    result = merged([Run(folder) for folder in runs], out)
    print(result.folder)
    raise typer.Exit(status(result))


def published(benchmark: Annotated[str, typer.Option(help="libero, robocasa_gr1, ...")] = None,
              method: Annotated[str, typer.Option(help="For example DiT4DiT.")] = None,
              task: Annotated[str, typer.Option(help="A suite or task, or `average`.")] = None,
              metric: Annotated[str, typer.Option(help="For example success_rate.")] = None,
              protocol: Annotated[str, typer.Option(help="See results/published/README.md.")] = None,
              source: Annotated[str, typer.Option(help="Any part of the source's text.")] = None,
              summary: Annotated[bool, typer.Option("--summary", help="A line a method, protocol, source.")] = False,
              form: Form = "terminal") -> None:
    """List published results with n, protocol, source and date. Without filters: a summary."""
    from evalkit import published as results

    filters = (benchmark, method, task, metric, protocol, source)
    rows = results.load(*filters)
    short = summary or not any(filters)
    print(results.listing(results.summary(rows) if short else rows, form), end="")


def power(suite: Annotated[str, typer.Option("--suite", "-s", help="Suites or groups, comma-separated.")],
          rate: Annotated[float, typer.Option(help="Expected success rate, percent.")] = 50.0,
          episodes: Annotated[int, typer.Option(help="Planned episodes a task. Default: the protocol's.")] = None,
          difference: Annotated[list[float], typer.Option(help="Gap in points; may be repeated.")] = None,
          correlation: Annotated[list[float], typer.Option(help="Of paired outcomes, 0 for unpaired runs; may be "
                                                                "repeated.")] = None,
          chance: Annotated[float, typer.Option("--power", help="Chance to see the gap, percent.")] = 80.0,
          form: ShortForm = "terminal") -> None:
    """Episodes needed to see a gap of some points between two policies, and what a planned size can show.

    Example:  evalkit power -s robocasa_gr1 --rate 57 --difference 3
    """
    from evalkit import power as planning
    from evalkit.registry import expand_suites

    gaps = [value / 100 for value in difference] if difference else planning.DIFFERENCES
    print(planning.render(expand_suites(suite.split(",")), rate / 100, episodes, gaps,
                          correlation or planning.CORRELATIONS, chance / 100, form), end="")


def status(finished) -> int:
    """0 if every planned episode of a run has a measurement, else 1, with a line that says what is missing."""
    from evalkit.records import missing

    absent = missing(finished.info["planned"], finished.records())
    if absent:
        print(f"{len(absent)} of {len(finished.info['planned'])} planned episodes have no measurement "
              f"(first: {absent[0]})", file=sys.stderr)
    return 1 if absent else 0
