"""Report: one self-contained HTML file about one or more runs. No server, no network; videos lie beside it.

    evalkit report RUN [RUN ...]
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evalkit.frames import write_out
from evalkit.records import Run
from evalkit.report import charts, contents, pairs
from evalkit.report.markers import Markers, given, of_paper

FOLDER = Path(__file__).parent


def write_report(runs: Sequence[Run], path: Path, published: Mapping[str, float] | Markers | None = None) -> Path:
    """Write the report about `runs` to `path` (whole or not at all), and return it.

    published: rates for the forest plot, fractions by task name (a suite's name stands for its average); None for the
    paper's. Same records, same bytes. Videos stay where they are and are named relative to `path`.
    Raises InputError when a run is not one, its files do not hold together, or `path` cannot be written.
    """
    path = Path(path)
    opened = contents.open_runs(runs)
    markers = published if isinstance(published, Markers) else given(published) if published is not None else \
        of_paper([suite for run in opened for suite in run.suites])
    write_out(path, render(opened, markers, path.parent).encode("utf-8", "backslashreplace"))
    return path


def render(runs: Sequence[contents.Opened], markers: Markers, folder: Path) -> str:
    """The page as text; `folder` is where it will lie."""
    style, script = (Markup((FOLDER / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js"))
    summaries = [contents.summary(run) for run in runs]
    longest = max((times["total"] for described in summaries for times in described["times"]), default=0.0)
    compared = pairs.compare_all(runs)
    return _environment().get_template("report.html.j2").render(
        runs=summaries, several=len(runs) > 1, glyphs=contents.GLYPHS, phases=contents.PHASES,
        groups=any(row["group"] for run in summaries for row in run["tasks"]),
        forests=contents.forests(runs, markers), markers=markers, charts=charts, longest=longest,
        warnings=sorted({warning for run in runs for warning in run.warnings}),
        suites=list(dict.fromkeys(suite for run in runs for suite in run.suites)),
        pairs=[pairs.describe(pair) for pair in compared], p_text=pairs.p_text,
        data=_json(contents.page_data(runs, compared, folder)), style=style, script=script, style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["breakable"] = breakable
    return environment


def breakable(name: str) -> Markup:
    """`name`, escaped, with line breaks allowed after its underscores and before its capitals."""
    return Markup("<wbr>").join(re.split("(?<=_)|(?<=[a-z])(?=[A-Z])", name))


def _json(value: Any) -> Markup:
    """JSON that can stand in a <script>: nothing in it can end the element or begin another."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _hash(text: str) -> str:
    """What the page's Content-Security-Policy calls an inline text: only this one is obeyed."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
