"""A printable table: fields with marks and footnotes, for a terminal, as markdown, LaTeX or CSV."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace

import pandas as pd

from evalkit import latex
from evalkit.errors import unknown
from evalkit.texts import plain, spreadsheet_safe

FORMATS = ("terminal", "markdown", "csv", "latex")

#: Marks of a field: the best, and what cannot be told from it.
BEST, TIED = "best", "tied"

#: Widest line of the notes below a table, in characters.
NOTE_WIDTH = 120

#: Longest word that is not broken in a narrow terminal, in characters: the longest name of a task has 30.
WORD_WIDTH = 30


@dataclass(frozen=True)
class Field:
    """One printed field; mark: `BEST`, `TIED` or nothing; note: number of its footnote, 0 for none."""

    text: str
    mark: str = ""
    note: int = 0


@dataclass(frozen=True)
class Grid:
    """A table ready to be printed, and its raw numbers for CSV (`data`).

    header: lines, each one text a column; texts: columns that hold words, the others hold numbers. rules: numbers of
    rows that a line follows. notes: a note that begins with ``[1]`` is the footnote of that number; ``{best}`` and
    ``{tied}`` stand for how a form shows these marks. long: LaTeX breaks it over pages (one
    header line, no marks, no notes).
    """

    name: str
    caption: str
    header: list[list[str]]
    rows: list[list[Field]]
    notes: list[str]
    data: pd.DataFrame
    texts: frozenset[int] = frozenset({0})
    rules: frozenset[int] = frozenset()
    long: bool = False


def render(table: Grid, form: str) -> str:
    """`table` in one of `FORMATS`; the same bytes for the same table."""
    if form not in FORMATS:
        raise unknown("table format", form, FORMATS)
    if form == "csv":
        return spreadsheet_safe(table.data).to_csv(index=False, lineterminator="\n")
    rows = [[replace(item, text=plain(item.text)) for item in row] for row in table.rows]
    table = replace(table, caption=plain(table.caption), rows=rows, notes=[plain(note) for note in table.notes])
    return {"terminal": _terminal, "markdown": _markdown, "latex": _latex}[form](table)


def _terminal(table: Grid) -> str:
    """Plain text outside a terminal. In a narrow one fields wrap, between words where these fit; nothing is cut."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 1000)
    padding = 1 if console.width > 96 else 0
    shown = Table(title=Text(table.name), title_justify="left", title_style="bold", header_style="bold",
                  box=box.SIMPLE_HEAD, padding=(0, padding))
    rows = [[_plain(item) for item in row] for row in table.rows]
    columns = list(zip(*table.header, *rows))
    widths = _widths(columns, console.width - (2 * padding + 1) * len(columns) - 1)
    for place, lines in enumerate(zip(*table.header)):
        shown.add_column(Text("\n".join(lines)), justify="left" if place in table.texts else "right",
                         overflow="fold", width=widths[place])
    for number, row in enumerate(rows, start=1):
        shown.add_row(*map(Text, row), end_section=number in table.rules)
    width = min(console.width, NOTE_WIDTH)
    with console.capture() as capture:
        console.print(shown)
        for note in _notes(table.notes, "*", "="):
            console.print(Text(note), width=width)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _widths(columns: list[tuple[str, ...]], room: int) -> list[int | None]:
    """Widths of columns of these texts: their longest words at least, and what is left to those that lack most. None
    each where even the words do not fit."""
    whole = [max(map(len, texts)) for texts in columns]
    widths = [min(max((len(word) for text in texts for word in text.split()), default=1), WORD_WIDTH)
              for texts in columns]
    if sum(widths) > room:
        return [None] * len(columns)
    while sum(widths) < min(room, sum(whole)):
        widths[max(range(len(columns)), key=lambda place: whole[place] - widths[place])] += 1
    return widths


def _plain(item: Field) -> str:
    mark = {BEST: "*", TIED: "=", "": ""}[item.mark]
    return f"{item.text}{mark}" + (f" [{item.note}]" if item.note else "")


def _notes(notes: list[str], best: str, tied: str) -> list[str]:
    return [note.replace("{best}", best).replace("{tied}", tied) for note in notes]


def _markdown(table: Grid) -> str:
    styles = {BEST: "**{}**", TIED: "_{}_", "": "{}"}

    def written(item: Field) -> str:
        text = styles[item.mark].format(item.text.replace("|", "&#124;"))
        return text + (f" [{item.note}]" if item.note else "")

    header = ["<br>".join(part.replace("|", "&#124;") for part in lines if part) for lines in zip(*table.header)]
    rows = [[written(item) for item in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    rule = ["-" * width if place in table.texts else f"{'-' * (width - 1)}:" for place, width in enumerate(widths)]
    lines = [" | ".join(text.ljust(width) if place in table.texts else text.rjust(width)
                        for place, (text, width) in enumerate(zip(row, widths))) for row in (header, rule, *rows)]
    grid = "\n".join(f"| {line} |" for line in lines)
    return "\n\n".join([f"### {table.name}", grid, *_notes(table.notes, "**bold**", "_italic_")]) + "\n"


def _latex(table: Grid) -> str:
    styles = {BEST: "\\textbf{%s}", TIED: "\\underline{%s}", "": "%s"}

    def written(item: Field) -> str:
        note = f"\\textsuperscript{{{item.note}}}" if item.note else ""
        return styles[item.mark] % latex.escape(item.text) + note

    label = f"tab:{re.sub('[^a-z0-9]+', '-', table.name.lower().removeprefix('table: '))}"
    caption = latex.escape(table.caption)
    if table.long:
        rows = [[item.text for item in row] for row in table.rows]
        return "\n".join(latex.long_table(caption, label, table.header[0], rows))
    notes = _notes(table.notes, "@best@", "@tied@")
    notes = [re.sub(r"^\[(\d+)\]", r"\\textsuperscript{\1}", latex.escape(note)) for note in notes]
    notes = [note.replace("@best@", "\\textbf{bold}").replace("@tied@", "\\underline{underlined}") for note in notes]
    header = [[latex.escape(text) for text in line] for line in table.header]
    rows = [[written(item) for item in row] for row in table.rows]
    return "\n".join(latex.table(caption, label, header, rows, table.texts, table.rules, notes))
