"""A latency measurement for readers: markdown, and a plot as one SVG file."""

from __future__ import annotations

import json
import re
import statistics
from html import escape
from pathlib import Path

import numpy as np

from evalkit.errors import InputError
from evalkit.latency import Measurement

#: Fills of the stages in order; the rest of a query is grey. Okabe and Ito's colours, told apart by colour-blind eyes.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
REST, INK, PALE = "#BBBBBB", "#222222", "#DDDDDD"

#: Keys of `Policy.describe` that stand elsewhere.
SAID = ("parameters", "device", "dtype", "note", "checkpoint")

#: Pixels of the plot.
WIDTH, LEFT, RIGHT = 760, 60, 20


def make_folder(folder: Path) -> None:
    """The folder that `write` will write to. Raises InputError before anything is measured, not after minutes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}. Pass another --out.") from error


def write(found: Measurement, folder: Path) -> str:
    """Write ``latency-<method>-<suite>-<date>-<machine>`` .json, .md and .svg into `folder`; the markdown, with the
    files' names below it."""
    stem = "latency-" + "-".join(slug(part) for part in (found.method, found.suite, found.date, found.machine))
    texts = {".json": json.dumps(found.message(), indent=1) + "\n", ".md": markdown(found, f"{stem}.svg"),
             ".svg": plot(found)}
    for suffix, text in texts.items():
        (folder / f"{stem}{suffix}").write_text(text)
    return texts[".md"] + f"\nwritten: {folder / stem}.json, .md, .svg\n"


def slug(text: str) -> str:
    """`text` as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_")[:40]


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def title(found: Measurement) -> str:
    """One line: what was measured, on what, with which weights."""
    weights = {"synthetic": "SYNTHETIC WEIGHTS", "real": "", "none": "no weights"}[found.weights]
    what = f"{found.method} on {found.suite}"
    return ", ".join(filter(None, [what, found.machine, found.dtype, found.size, weights]))


def markdown(found: Measurement, picture: str) -> str:
    """The figures as text."""
    low, high = found.hz_range
    p5, p95 = np.percentile(found.ms, [5, 95])
    actions = number(found.hz * found.executed_steps)
    new = number(statistics.median(found.new_instruction))
    lines = [
        f"# {title(found)}, {found.date}", "",
        f"One observation at a time, warm, instruction already known: **{number(found.hz)} Hz** ({number(low)} to "
        f"{number(high)}: 5th to 95th percentile), {number(statistics.median(found.ms))} ms (median of "
        f"{len(found.ms)} queries; {number(p5)} to {number(p95)}). A query gives {found.chunk_length} actions, "
        f"{found.executed_steps} are executed: {actions} executed actions a second.", "",
        f"Loading {found.load / 1000:.1f} s, the very first query {number(found.first_query)} ms, a query with a new "
        f"instruction {new} ms (median of {len(found.new_instruction)}).", ""]
    lines += [f"Note: {found.note}.".replace("..", "."), ""] if found.note else []
    further = {name: value for name, value in found.described.items() if name not in SAID and value not in (None, "")}
    lines += [f"The policy says: {', '.join(f'{name} {value}' for name, value in further.items())}.", ""] \
        if further else []
    if found.stages:
        lines += [f"Stages (medians of {found.staged} further queries that wait for the device after each stage):", "",
                  "| stage | ms |", "|---|---:|",
                  *[f"| {name} | {number(ms)} |" for name, ms in found.stages.items()], ""]
    lines += ["Throughput:", "", "| batch | ms | observations/s | queries measured |", "|---:|---:|---:|---:|",
              *[f"| {batch.size} | {number(batch.ms)} | {number(batch.per_second)} | {batch.calls} |"
                for batch in found.throughput],
              "", f"The curve ends: {found.limit}.", "", f"![{title(found)}]({picture})", "",
              "Versions: " + ", ".join(f"{name} {version}" for name, version in found.versions.items()) + "."]
    return "\n".join(lines) + "\n"


def plot(found: Measurement) -> str:
    """One query as a bar of its stages, and observations a second against batch size."""
    parts = [_text(LEFT, 24, title(found), size=15), _text(LEFT, 56, "One query, ms", weight="bold"),
             *_stage_bar(found, top=66), _text(LEFT, 166, "Observations a second, by batch size", weight="bold"),
             *_curve(found, top=180, height=200)]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="440" viewBox="0 0 {WIDTH} 440" '
            f'role="img" aria-label="{escape(title(found))}" font-family="sans-serif">\n'
            f'<rect width="{WIDTH}" height="440" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")


def _stage_bar(found: Measurement, top: float) -> list[str]:
    stages = dict(found.stages) or {"whole query": statistics.median(found.ms)}
    whole = sum(max(0.0, ms) for ms in stages.values()) or 1.0
    parts, start = [], float(LEFT)
    for place, (name, ms) in enumerate(stages.items()):
        width = (WIDTH - LEFT - RIGHT) * max(0.0, ms) / whole
        fill = REST if name == "other" else COLOURS[place % len(COLOURS)]
        parts.append(f'<rect x="{start:.1f}" y="{top}" width="{width:.1f}" height="30" fill="{fill}">'
                     f"<title>{escape(name)}: {ms:.2f} ms</title></rect>")
        start += width
        column, row = LEFT + 175 * (place % 4), top + 50 + 18 * (place // 4)
        parts += [f'<rect x="{column}" y="{row - 10}" width="10" height="10" fill="{fill}"/>',
                  _text(column + 15, row, f"{name} {number(ms)}")]
    return parts


def _curve(found: Measurement, top: float, height: float) -> list[str]:
    bottom, most = top + height, max((batch.per_second for batch in found.throughput), default=1.0)
    step = (WIDTH - LEFT - RIGHT - 40) / max(1, len(found.throughput) - 1)
    points = [(LEFT + 20 + step * place, bottom - (height - 24) * batch.per_second / most)
              for place, batch in enumerate(found.throughput)]
    parts = [f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}" stroke="{INK}"/>',
             f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top + 24}" y2="{top + 24}" stroke="{PALE}"/>',
             _text(LEFT - 6, bottom, "0", anchor="end"), _text(LEFT - 6, top + 28, number(most), anchor="end"),
             '<polyline fill="none" stroke="{}" stroke-width="2" points="{}"/>'.format(
                 COLOURS[0], " ".join(f"{x:.1f},{y:.1f}" for x, y in points))]
    for (x, y), batch in zip(points, found.throughput):
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[0]}"><title>batch {batch.size}: '
                  f"{batch.per_second:.2f} observations/s, {batch.ms:.1f} ms</title></circle>",
                  _text(x, y - 9, number(batch.per_second), anchor="middle"),
                  _text(x, bottom + 18, str(batch.size), anchor="middle")]
    return [*parts, _text(WIDTH - RIGHT, bottom + 38, f"batch size; ends: {found.limit}", anchor="end")]


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 12, weight: str = "normal") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{INK}">{escape(text)}</text>')
