"""Draws every chart with matplotlib: line charts as figures, and figures as SVG or PNG."""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

SIZE, SMALL = (400, 290), (210, 170)
"""Width and height of a chart, about the pixels that it is shown with."""
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


@dataclass(frozen=True)
class Line:
    """One curve: `x` and `y` (K,); NaNs break it. `point` is one (x, y) on it that is marked."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    point: tuple[float, float] | None = None
    dashed: bool = False
    dots: bool = False


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = (0.0, 1.0),
    x_range: tuple[float, float] | None = None,
    marked_x: float | None = None,
    x_counts: bool = False,
    legend: bool = True,
    size: tuple[int, int] = SIZE,
) -> Figure:
    """Draw curves over one another.

    Args:
        lines: the curves, in the order of the legend.
        x_label: below the axis.
        y_label: beside the axis.
        y_range: of the axis; that of the values when None.
        x_range: of the axis; that of the values when None.
        marked_x: position of a vertical line.
        x_counts: whether the x axis has only whole numbers.
        legend: whether to name the curves.
        size: width and height, in points of the SVG.
    """
    with matplotlib.rc_context(_STYLE):
        # A Figure of its own, not pyplot's: no global state, no window, nothing to close.
        figure = Figure(
            figsize=(size[0] / 72, size[1] / 72),
            dpi=72,
            layout="constrained",
        )
        figure.patch.set_alpha(0)
        axes = figure.add_subplot(facecolor="none")
        axes.set_axisbelow(True)
        axes.grid(linewidth=0.8)
        ticks = 6 if size[0] > 300 else 3
        axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=x_counts, steps=_STEPS))
        axes.yaxis.set_major_locator(MaxNLocator(ticks, steps=_STEPS))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:g}")
        if marked_x is not None:
            axes.axvline(marked_x, color=MARK, linestyle="--", linewidth=1.2)
        for number, line in enumerate(lines):
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
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_xlim(*_with_room(*(x_range or _range([line.x for line in lines]))))
        axes.set_ylim(*_with_room(*(y_range or _range([line.y for line in lines]))))
        if legend:
            columns = 1 if max(len(line.label) for line in lines) > 22 else 2
            figure.legend(loc="outside lower left", ncols=columns, frameon=False)
        return figure


def to_svg(figure: Figure, description: str) -> str:
    """Return a figure as an SVG element for HTML.

    Its colours are CSS variables (`--ink`, `--line-0`, ...) with the drawn colours as fallback.

    Args:
        figure: of `line_chart`.
        description: text for screen readers.
    """
    return _element(_drawn(figure), figure, description)


def to_svgs(figure: Figure, curves: Sequence[Line], descriptions: Sequence[str]) -> list[str]:
    """Return a figure of one line as SVG elements, each with another curve in its place.

    The axes are drawn once, which takes most of the time.

    Args:
        figure: of `line_chart`, with one line and ranges that fit all curves.
        curves: without labels and marked points.
        descriptions: texts for screen readers, one per curve.
    """
    body = _drawn(figure)
    line = re.compile(rf'(<g id="{_CURVE}0">\s*<path d=")[^"]*')
    height = 72 * figure.get_size_inches()[1]
    elements = []
    for curve, description in zip(curves, descriptions, strict=True):
        points = figure.axes[0].transData.transform(np.stack([curve.x, curve.y], 1))
        path = " L ".join(f"{x:.2f} {height - y:.2f}" for x, y in points)
        elements.append(_element(line.sub(rf"\g<1>M {path}", body), figure, description))
    return elements


def _drawn(figure: Figure) -> str:
    """Return the content of the SVG element that matplotlib writes."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    return svg[svg.index(">", svg.index("<svg")) + 1 :]


def _element(body: str, figure: Figure, description: str) -> str:
    # matplotlib's style rule would apply to the whole page, whose CSS contains it.
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = body.replace("xlink:href", "href").replace("'DejaVu Sans'", "system-ui, sans-serif")
    body = _unique_identifiers(_shorter(body))
    for colour, name in _VARIABLES.items():
        body = body.replace(colour, f"var(--{name}, {colour})")
    width, height = (72 * inches for inches in figure.get_size_inches())
    axes = figure.axes[0]
    box, (low, high) = axes.get_position(), axes.get_xlim()
    # Left and right in the SVG, the values there, top and bottom: where a script can draw.
    place = (
        width * box.x0,
        width * box.x1,
        low,
        high,
        height * (1 - box.y1),
        height * (1 - box.y0),
    )
    return (
        f'<svg role="img" aria-label="{html.escape(description)}" '
        f'data-axes="{" ".join(f"{number:.7g}" for number in place)}" '
        f'viewBox="0 0 {width:g} {height:g}">{body.strip()}'
    )


def to_png(figure: Figure, dots_per_inch: int = 160) -> bytes:
    """Return a figure as a PNG file on white."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=dots_per_inch, facecolor="white")
    return buffer.getvalue()


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
