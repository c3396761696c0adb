"""Draws charts with matplotlib, as SVG elements for HTML or as PNG."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfclip.evaluation.report.charts import Chart, Line

COLOURS = ("#1769aa", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0f766e")
INK, GRID, MARK = "#44403c", "#e7e5e4", "#57534e"
"""Colours of text, of the grid and of the marked x."""
_STYLE: dict[Any, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "svg.fonttype": "none",
    "svg.hashsalt": "tfclip",
}
_STEPS = (1, 2, 5, 10)
_CURVE = "curve_"
# CSS variables of the page, which change them in dark mode; without a page the colours above hold.
_VARIABLES = {INK: "ink", GRID: "grid", MARK: "mark"} | {
    colour: f"line-{number}" for number, colour in enumerate(COLOURS)
}


def draw(chart: Chart, key: str) -> str:
    """Return a chart as an SVG element.

    Its colours are CSS variables (`--ink`, `--line-0`, ...) with the drawn colours as fallback.

    Args:
        chart: what it shows.
        key: the name of the chart, in `data-chart`.
    """
    points = np.stack([chart.lines[0].x, chart.lines[0].y], 1)
    if _has_own_axes(chart) or not np.isfinite(points).all():
        return _element(_drawn(_figure(chart)), chart, key)
    # The axes of charts of one curve are drawn once, which takes most of the time.
    axes = _axes(replace(chart, lines=(), description=""))
    points = axes.to_points(points)
    path = " L ".join(f"{x:.2f} {chart.size[1] - y:.2f}" for x, y in points)
    body = re.sub(rf'(<g id="{_CURVE}0">\s*<path d=")[^"]*', rf"\g<1>M {path}", axes.drawn.body)
    return _element(axes.drawn._replace(body=body), chart, key)


def to_png(chart: Chart, dots_per_inch: int = 160) -> bytes:
    """Return a chart as a PNG file on white."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        _figure(chart).savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white")
    return buffer.getvalue()


def _has_own_axes(chart: Chart) -> bool:
    """Return whether more than one plain curve distinguishes it from charts with equal labels."""
    marked = [line.point is not None or line.dashed or line.dots for line in chart.lines]
    free = chart.x_range is None or chart.y_range is None
    return len(marked) > 1 or any(marked) or chart.legend or free


class _Drawn(NamedTuple):
    """The content of the SVG element that matplotlib writes, and where it drew: left and right in
    the SVG, the values there, top and bottom; for scripts that draw over it."""

    body: str
    place: tuple[float, ...]


class _Axes(NamedTuple):
    """A chart with some curve, and the function from values (K,2) to points (K,2) in it."""

    drawn: _Drawn
    to_points: Callable[[np.ndarray], np.ndarray]


@lru_cache(maxsize=4)
def _axes(chart: Chart) -> _Axes:
    """Draw a chart without lines: a curve, whose points others replace, and the axes."""
    figure = _figure(replace(chart, lines=(Line("", [0, 1], [0, 1]),)))
    drawn = _drawn(figure)
    return _Axes(drawn, figure.axes[0].transData.transform)


def _figure(chart: Chart) -> Figure:
    with matplotlib.rc_context(_STYLE):
        # A Figure of its own, not pyplot's: no global state, no window, nothing to close.
        figure = Figure(
            figsize=(chart.size[0] / 72, chart.size[1] / 72),
            dpi=72,
            layout="constrained",
        )
        figure.patch.set_alpha(0)
        axes = figure.add_subplot(facecolor="none")
        axes.set_axisbelow(True)
        axes.grid(linewidth=0.8)
        ticks = 6 if chart.size[0] > 300 else 3
        axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=chart.x_counts, steps=_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(ticks, steps=_STEPS))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        if chart.marked_x is not None:
            axes.axvline(chart.marked_x, color=MARK, linestyle="--", linewidth=1.2)
        for number, line in enumerate(chart.lines):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(
                np.asarray(line.x, np.float64),
                np.asarray(line.y, np.float64),
                color=colour,
                linestyle="--" if line.dashed else "-",
                linewidth=1.8,
                marker="o" if line.dots else None,
                markersize=4,
                label=line.label,
                gid=f"{_CURVE}{number}",
            )
            if line.point is not None:
                axes.plot(*line.point, "o", color=colour, markersize=6)
        axes.set_xlabel(chart.x_label)
        axes.set_ylabel(chart.y_label)
        axes.set_xlim(*_with_room(*(chart.x_range or _range([line.x for line in chart.lines]))))
        axes.set_ylim(*_with_room(*(chart.y_range or _range([line.y for line in chart.lines]))))
        if chart.legend:
            columns = 1 if max(len(line.label) for line in chart.lines) > 22 else 2
            figure.legend(loc="outside lower left", ncols=columns, frameon=False)
        return figure


def _drawn(figure: Figure) -> _Drawn:
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    width, height = (72 * inches for inches in figure.get_size_inches())
    axes = figure.axes[0]
    box = axes.get_position()
    place = (
        width * box.x0,
        width * box.x1,
        *axes.get_xlim(),
        height * (1 - box.y1),
        height * (1 - box.y0),
    )
    return _Drawn(svg[svg.index(">", svg.index("<svg")) + 1 :], place)


def _element(drawn: _Drawn, chart: Chart, key: str) -> str:
    # matplotlib's style rule would apply to the whole page, whose CSS contains it.
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", drawn.body, count=1, flags=re.DOTALL)
    body = body.replace("xlink:href", "href").replace("'DejaVu Sans'", "system-ui, sans-serif")
    body = _unique_identifiers(_shorter(body))
    for colour, name in _VARIABLES.items():
        body = body.replace(colour, f"var(--{name}, {colour})")
    width, height = chart.size
    return (
        f'<svg role="img" data-chart="{key}" aria-label="{html.escape(chart.description)}" '
        f'data-axes="{" ".join(f"{number:.7g}" for number in drawn.place)}" '
        f'viewBox="0 0 {width:g} {height:g}">{body.strip()}'
    )


def _shorter(body: str) -> str:
    """Truncate coordinates to two decimals and remove indentation."""

    def cut(attribute: re.Match) -> str:
        return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])

    body = re.sub(r' (?:d|x|y|width|height|transform)="[^"]*"', cut, body)
    return re.sub(r"\n\s*", "\n", body)


def _unique_identifiers(body: str) -> str:
    """Remove unused identifiers and make the others unique within a page."""
    used = set(re.findall(r'(?:url\(|href=")#(\w+)', body))
    prefix = "c" + hashlib.sha256(body.encode()).hexdigest()[:10]
    body = re.sub(
        r' id="([\w.]+)"',
        lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else "",
        body,
    )
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", body)


def _range(columns: Sequence[Sequence[float] | np.ndarray]) -> tuple[float, float]:
    values = np.concatenate([np.asarray(column, np.float64) for column in columns])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _with_room(low: float, high: float) -> tuple[float, float]:
    """Return a slightly larger range, so that lines at its ends are fully visible."""
    room = 0.02 * (high - low)
    return low - room, high + room
