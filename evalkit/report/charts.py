"""Charts as inline SVG. Horizontal positions are percentages, so that every chart fits its column at any width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from evalkit.report.utilisation import Utilisation

#: Marks of the first, second ... run, around (0, 0): told apart by shape as well as by colour.
SHAPES = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z", "M-4-4h8v8h-8z", "M0-5.5 5 4H-5z", "M0 5.5 5-4H-5z",
    "M-1.5-5h3v3.5H5v3H1.5V5h-3V1.5H-5v-3h3.5z", "M-5-2 0-5.5 5-2 3 4.5H-3z",
)

#: The mark of a published rate: a hollow diamond.
DIAMOND = "M0-6 6 0 0 6-6 0z"

#: Height of one run's line in a row of the forest plot, in CSS pixels.
LINE = 20


@dataclass(frozen=True)
class Estimate:
    """A rate with its interval (fractions; NaN where undefined), of the run with this number."""

    run: int
    rate: float
    low: float
    high: float


def forest_row(estimates: Sequence[Estimate], published: float | None, label: str) -> Markup:
    """One row of a forest plot over 0 to 100 %: an interval and a mark a run, below each other; a diamond if published.

    label: what the row says, for readers who do not see it.
    """
    height = LINE * max(1, len(estimates))
    lines = [_gridline(percent, height) for percent in (0, 25, 50, 75, 100)]
    for position, estimate in enumerate(estimates):
        if not math.isnan(estimate.rate):
            lines.append(_interval(estimate, y=LINE * position + LINE / 2))
    if published is not None:
        lines.append(mark(DIAMOND, 100 * published, height / 2, "published"))
    return Markup('<svg class="plot" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        height, label, Markup("").join(lines))


def _gridline(percent: float, height: float) -> Markup:
    return Markup('<line class="gridline" x1="{0}%" x2="{0}%" y1="0" y2="{1}"/>').format(percent, height)


def _interval(estimate: Estimate, y: float) -> Markup:
    bar = Markup('<line class="interval run{}" x1="{}%" x2="{}%" y1="{y}" y2="{y}"/>').format(
        estimate.run % len(SHAPES), _number(100 * estimate.low), _number(100 * estimate.high), y=_number(y))
    return bar + mark(SHAPES[estimate.run % len(SHAPES)], 100 * estimate.rate, y, f"run{estimate.run % len(SHAPES)}")


def mark(shape: str, percent: float, y: float, kind: str) -> Markup:
    """A shape (path around 0, 0) at `percent` of the width and `y` pixels from the top."""
    return Markup('<svg x="{}%" y="{}" class="mark {}"><path d="{}"/></svg>').format(
        _number(percent), _number(y), kind, shape)


def legend_mark(run: int | None) -> Markup:
    """The mark of a run, or of published rates (None), alone."""
    shape, kind = (DIAMOND, "published") if run is None else (SHAPES[run % len(SHAPES)], f"run{run % len(SHAPES)}")
    return Markup('<svg class="key" width="14" height="14" aria-hidden="true">{}</svg>').format(
        mark(shape, 50, 7, kind))


def stacked_bar(parts: Mapping[str, float], longest: float, label: str) -> Markup:
    """Parts side by side, each with its name as class; `longest` fills the width."""
    rectangles, start = [], 0.0
    for name, value in parts.items():
        width = 100 * value / longest if longest else 0.0
        rectangles.append(Markup('<rect class="part {0}" x="{1}%" width="{2}%" y="2" height="16"><title>{0} {3} s'
                                 "</title></rect>").format(name, _number(start), _number(width), f"{value:.2f}"))
        start += width
    return Markup('<svg class="plot" width="100%" height="20" role="img" aria-label="{}">{}</svg>').format(
        label, Markup("").join(rectangles))


def histogram(values: Sequence[float], end: float, bins: int, label: str) -> Markup:
    """Counts of `values` in `bins` equal parts of 0 to `end`; bars rise from the baseline, the highest is labelled."""
    counts, edges = bin_counts(values, end, bins)
    top, height, base = max(max(counts), 1), 120, 100
    bars = [Markup('<rect class="bar" x="{}%" width="{}%" y="{}" height="{}"><title>steps {} to {}: {}</title></rect>')
            .format(_number(100 * position / bins), _number(100 / bins - 0.4), _number(base - 84 * count / top),
                    _number(84 * count / top), int(edges[position]) + 1, int(edges[position + 1]), count)
            for position, count in enumerate(counts) if count]
    axis = [Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(base),
            _text(0, height - 4, "start", "0"), _text(50, height - 4, "middle", f"{end / 2:g}"),
            _text(100, height - 4, "end", f"{end:g} steps"), _text(0, 11, "start", f"highest bar: {max(counts)}")]
    return Markup('<svg class="plot" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        height, label, Markup("").join([*bars, *axis]))


def busy_over_time(found: Utilisation, label: str) -> Markup:
    """Busy workers against time: bars before an area that all workers would fill; the tail in a colour of its own,
    pauses as dashed lines."""
    height, base, top = 132, 112, 16
    width, tall = 100 / len(found.busy), (base - top) / found.workers
    bars = [Markup('<rect class="{}" x="{}%" width="{}%" y="{}" height="{}"/>').format(
                "tail" if (position + 0.5) * width > 100 * found.tail else "busy", _number(position * width),
                _number(width + 0.03), _number(base - tall * count), _number(tall * count))
            for position, count in enumerate(found.busy)]
    pauses = [Markup('<line class="pause" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>').format(
                  _number(100 * place), top, base) for place in found.pauses]
    idle = Markup('<rect class="idle" x="0" width="100%" y="{}" height="{}"/>').format(top, base - top)
    around = [Markup('<line class="axis" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(base),
              _text(0, 11, "start", f"{found.workers} workers"), _text(0, height - 4, "start", "0"),
              _text(50, height - 4, "middle", duration(found.seconds / 2)),
              _text(100, height - 4, "end", duration(found.seconds))]
    return Markup('<svg class="plot" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        height, label, Markup("").join([idle, *bars, *pauses, *around]))


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.5 h``; three digits at most."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def bin_counts(values: Sequence[float], end: float, bins: int) -> tuple[list[int], list[float]]:
    """Counts and edges of `bins` equal parts of (0, end], closed on the right: step 20 of 40 is in the first half."""
    edges = np.linspace(0, end, bins + 1)
    places = np.clip(np.searchsorted(edges, np.asarray(values, float), side="left") - 1, 0, bins - 1)
    return np.bincount(places, minlength=bins).tolist(), edges.tolist()


def axis() -> Markup:
    """The percent scale above a forest plot."""
    ticks = [_text(percent, 12, anchor, f"{percent} %" if percent in (0, 100) else str(percent))
             for percent, anchor in ((0, "start"), (25, "middle"), (50, "middle"), (75, "middle"), (100, "end"))]
    return Markup('<svg class="plot" width="100%" height="16" aria-hidden="true">{}</svg>').format(
        Markup("").join(ticks))


def _text(percent: float, y: float, anchor: str, text: str) -> Markup:
    return Markup('<text x="{}%" y="{}" text-anchor="{}">{}</text>').format(percent, y, anchor, text)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
