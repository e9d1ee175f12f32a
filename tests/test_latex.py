"""LaTeX: every kind of table that evalkit prints compiles in an article and is no wider than its line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from evalkit import grid, latex, published, tables
from tests.test_paper import GOLDEN, TABLES, gr1, gr1_table, libero, libero_table
from tests.test_tables import make_run

COMPILER = shutil.which("pdflatex")


def packages(text: str) -> str:
    """The line that the table's first line asks for."""
    return re.match(r"% needs (\\usepackage\{[a-z,]+\})\n", text)[1]


def compiled(text: str, folder: Path) -> str:
    """pdflatex's log of an article that holds `text` alone. Fails on an error of LaTeX."""
    (folder / "table.tex").write_text(
        f"\\documentclass{{article}}\n{packages(text)}\n\\begin{{document}}\n{text}\\end{{document}}\n")
    done = subprocess.run([COMPILER, "-interaction=nonstopmode", "-halt-on-error", "table.tex"], cwd=folder,
                          capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL,
                          timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


def texts(folder: Path) -> dict[str, str]:
    """A text for each kind: the paper's stored tables, with runs, a run's, published listings and their summary."""
    run = make_run(folder / "run", suites=("libero_goal", "libero_10"))
    rows = [published.load("libero", "DiT4DiT"), published.load("robocasa_gr1"), published.load(source="arXiv"),
            published.summary(published.load())]
    return {
        **{name: (GOLDEN / f"{name}.tex").read_text() for name in TABLES},
        "run": tables.render(run, "latex"),
        "libero with runs": grid.render(libero_table([libero(folder / f"l{n}", n, n) for n in (1, 49)]), "latex"),
        "gr1 with runs": grid.render(gr1_table([gr1(folder / "g1"), gr1(folder / "g2")], groups=True), "latex"),
        **{f"published {number}": published.listing(found, "latex") for number, found in enumerate(rows)},
    }


@pytest.mark.skipif(COMPILER is None, reason="pdflatex is not installed (Debian: texlive-latex-recommended)")
def test_tables_compile(tmp_path):
    """No error and nothing that sticks out of its line."""
    for name, text in texts(tmp_path).items():
        log = compiled(text, tmp_path)
        assert "Overfull \\hbox" not in log and "Float too large" not in log, f"{name}: {log[:3000]}"


@pytest.mark.parametrize("text, escaped", [
    ("50% & a_b #1", "50\\% \\& a\\_b \\#1"), ("x\\y~^<>|", "x\\textbackslash{}y\\textasciitilde{}\\textasciicircum{}"
                                                           "\\textless{}\\textgreater{}\\textbar{}"),
    ("-0.5 [-1, +2]", "$-$0.5 [$-$1, +2]"), ("pi-0.5", "pi-0.5")])
def test_escape(text, escaped):
    """What LaTeX reads as a command is printed; a minus is a minus, a hyphen stays one."""
    assert latex.escape(text) == escaped


def test_constant_columns_go_into_the_caption():
    """What is the same in every row is said once; a single row keeps its columns."""
    header, rows = ["a", "b", "c"], [["same", "x_y", "1"], ["same", "z", "2"]]
    text = "\n".join(latex.long_table("Both.", "tab:x", header, rows))
    assert "\\caption{Both. a: same.}" in text and text.count("same") == 1
    assert "\\hspace{0pt}x\\_\\hspace{0pt}y & \\hspace{0pt}1 \\\\" in text
    assert "same &" in "\n".join(latex.long_table("One.", "tab:x", header, rows[:1])).replace("\\hspace{0pt}", "")


def test_a_wide_table_is_made_smaller_only_if_it_is_wide():
    """The box's width is compared with the line's; both packages are named."""
    text = grid.render(grid.Grid("N", "C", [["a"]], [[grid.Field("1")]], [], data=None), "latex")
    assert packages(text) == "\\usepackage{booktabs,graphicx}" and "\\ifdim\\width>\\linewidth" in text
