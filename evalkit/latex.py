"""LaTeX: text escaped, tables as wide as the line at most. A table's first line names the packages that it needs."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

#: What prints a character that LaTeX reads as a command or prints as something else.
CHARACTERS = str.maketrans({**{character: f"\\{character}" for character in "&%$#_{}"}, "\\": "\\textbackslash{}",
                            "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}",
                            ">": "\\textgreater{}", "|": "\\textbar{}", '"': "''"})

#: Space between columns of a long table, in points, on either side of each.
GAP = 2

#: Where a name or an address may be broken.
PARTS = re.compile(r"(?<=[_/:.\-+,=])(?=\w)|(?<=[a-z])(?=[A-Z])")

#: Type of a long table and how many of its characters fit into an article's line of 345 points, with the columns' gaps.
SIZES = {"scriptsize": 80, "tiny": 100}


def escape(text: str) -> str:
    """`text` for LaTeX; a hyphen before a number and after a space or bracket is a minus."""
    return re.sub(r"(^|[\s\[(])-(?=\d)", r"\1$-$", text.translate(CHARACTERS))


def table(caption: str, label: str, header: Sequence[Sequence[str]], rows: Sequence[Sequence[str]],
          words: Collection[int], rules: Collection[int], notes: Sequence[str]) -> list[str]:
    """Lines of a table on one page, with notes below it; made smaller where it is wider than the line.

    All texts are LaTeX already. words: columns that are aligned left; rules: numbers of rows that a line follows.
    """
    columns = "".join("l" if place in words else "r" for place in range(len(header[0])))
    return [
        "% needs \\usepackage{booktabs,graphicx}",
        "\\begin{table}[t]", "\\centering", f"\\caption{{{caption}}}", f"\\label{{{label}}}", "\\smallskip", "\\small",
        "\\setlength{\\tabcolsep}{4pt}", "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{columns}}}", "\\toprule", *map(_row, header), "\\midrule", *_body(rows, rules),
        "\\bottomrule", "\\end{tabular}}", *_below(notes), "\\end{table}", ""]


def long_table(caption: str, label: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table over as many pages as it takes; `header` and `rows` are plain text, wrapped in their columns.

    A column that says the same in every row is said in the caption.
    """
    varied = [place for place, column in enumerate(zip(*rows)) if len(rows) == 1 or len(set(column)) > 1]
    same = [f"{name}: {rows[0][place]}" for place, name in enumerate(header) if rows and place not in varied]
    caption = f"{caption} {escape('; '.join(same))}." if same else caption
    plain = [[row[place] for place in varied] for row in (header, *rows)]
    first, *body = [_row([_breakable(text) for text in row]) for row in plain]
    size, shares = _layout(plain)
    columns = "".join(f">{{\\raggedright\\arraybackslash}}p{{{share:.3f}\\linewidth}}" for share in shares)
    return [
        "% needs \\usepackage{booktabs,longtable,array}",
        "\\begingroup", f"\\{size}", f"\\setlength{{\\tabcolsep}}{{{GAP}pt}}",
        f"\\begin{{longtable}}{{{columns}}}", f"\\caption{{{caption}}}\\label{{{label}}}\\\\", "\\toprule",
        first, "\\midrule", "\\endfirsthead", "\\toprule", first, "\\midrule", "\\endhead",
        "\\bottomrule", "\\endfoot", *body, "\\end{longtable}", "\\endgroup", ""]


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _body(rows: Sequence[Sequence[str]], rules: Collection[int]) -> list[str]:
    lines = []
    for number, row in enumerate(rows, start=1):
        lines += [_row(row), *(["\\midrule"] if number in rules else [])]
    return lines


def _below(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return ["\\par\\medskip", "\\begin{minipage}{\\linewidth}\\footnotesize", *(f"{note}\\par" for note in notes),
            "\\end{minipage}"]


def _breakable(text: str) -> str:
    """`text` escaped, with line breaks allowed inside names and addresses: a space of no width also lets TeX hyphenate
    the word after it."""
    return "".join(f"\\hspace{{0pt}}{escape(part)}" for part in PARTS.split(text))


def _layout(rows: Sequence[Sequence[str]]) -> tuple[str, list[float]]:
    """Size of type, and widths of the columns as shares of the line: what cannot be broken fits, the rest is shared by
    mean length."""
    columns = list(zip(*rows))
    least = [1 + 1.15 * max(len(part) for text in column for piece in PARTS.split(text) for part in piece.split(" "))
             for column in columns]
    wanted = [max(0.0, sum(map(len, column)) / len(column) - fewest) for column, fewest in zip(columns, least)]
    size = next((size for size, line in SIZES.items() if sum(least) <= line), [*SIZES][-1])
    free = max(0.0, SIZES[size] - sum(least))
    widths = [fewest + free * more / max(1.0, sum(wanted)) for fewest, more in zip(least, wanted)]
    usable = 0.99 - 2 * GAP * len(columns) / 345
    return size, [usable * width / max(SIZES[size], sum(widths)) for width in widths]
