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
LOOKING = "Looking before the end"
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
           latency: Annotated[list[Path], typer.Option(help="File of `evalkit latency`, for the measured column of the "
                                                            "efficiency table; may be repeated.")] = None,
           form: Form = "terminal") -> None:
    """Print the DiT4DiT paper's tables, published rows first, then each run with its gap to the published value.

    Example:  evalkit tables results/runs/mine --format latex > tables.tex
    """
    from evalkit import grid, paper
    from evalkit.records import Run

    found = paper.tables([Run(folder) for folder in runs or ()], groups, paper.find_references(reference or ()),
                         paper.find_latencies(latency or ()))
    if only is not None and only not in found:
        raise unknown("table", only, found)
    print("\n\n".join(grid.render(item, form).strip("\n") for name, item in found.items() if only in (None, name)))


def compare(a: Annotated[Path, typer.Argument(metavar="A", help="Folder of run A, the one to beat.")],
            b: Annotated[Path, typer.Argument(metavar="B", help="Folder of run B.")],
            seed: Annotated[int, typer.Option(help="Of the posterior's draws.")] = 0,
            form: ShortForm = "terminal",
            budget: Annotated[int, typer.Option(help="Look before the end: so many episodes a task at most.",
                                                rich_help_panel=LOOKING)] = None,
            looks: Annotated[int, typer.Option(help="How often, equally spaced. Default: 4.",
                                               rich_help_panel=LOOKING)] = None,
            rule: Annotated[str, typer.Option(help="obrien_fleming (strict at first, at the end almost as without "
                                                   "looking), pocock (the same at each look) or anytime (after each "
                                                   "episode; needs pairs).",
                                              rich_help_panel=LOOKING)] = "obrien_fleming",
            plan: Annotated[Path, typer.Option(help="File of the plan. Default: looks.json in B's folder.",
                                               rich_help_panel=LOOKING)] = None) -> None:
    """Say whether B is better than A: differences with intervals, paired where both ran the same episodes.

    To look before all episodes are there, fix first how many there will be:

        evalkit compare runs/old runs/new --budget 50 --looks 4

    This writes the plan to runs/new/looks.json. Run both policies as it says,
    each part into a sub-folder of its own (--episodes 0:13 --out runs/old/1),
    and repeat the command after each part. It takes the look that is due and
    says: continue (exit status 1), or stop (0). All looks together find a
    difference that is not there in at most 5 % of cases. Without a plan, whoever
    compares four times and stops at the first difference does so in 13 %.
    """
    from evalkit import compare as comparing
    from evalkit import compare_text
    from evalkit import looks as looking
    from evalkit.merge import open_parts

    if budget is None:
        if looks is not None or plan is not None:
            raise InputError("--looks and --plan need --budget: how many episodes of each task there will be at most")
        text = compare_text.render(comparing.compare(open_parts(a), open_parts(b), seed), form)
        under_way = looking.read(b / looking.FILE)
        if under_way and not under_way.stopped:
            print(f"notice: the looks planned in {b / looking.FILE} are not over; the p values of this table do not "
                  "count them: stop by `evalkit compare` with --budget alone", file=sys.stderr)
        print(text, end="")
        return
    if form not in compare_text.FORMATS:
        raise unknown("comparison format", form, compare_text.FORMATS)
    found, notes = looking.look(open_parts(a), open_parts(b), budget, looks, rule, plan)
    print(looking.render(found, notes, form), end="")
    raise typer.Exit(0 if found.stopped else 1)


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
