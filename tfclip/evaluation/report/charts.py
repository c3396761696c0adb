"""Charts as SVG text for the report page: lines, bars of shares, a matrix. They scale to any width.

Text stands in HTML around them wherever it can: an SVG that is made smaller shrinks its letters.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SIZE, SMALL = (380, 270), (210, 170)
"""Units of a chart, about the pixels that it is shown with."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 40
COLOURS = ("#1769aa", "#c2410c", "#15803d", "#7e22ce", "#a16207", "#0f766e")


@dataclass(frozen=True)
class Line:
    """One curve: `x` and `y` (K,); NaNs break it. `point` is one (x, y) on it that is marked."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
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
    at: float | None = None,
    x_counts: bool = False,
    legend: bool = True,
    size: tuple[int, int] = SIZE,
) -> str:
    """Draw curves over one another, with the legend below, as HTML.

    Args:
        lines: the curves, in the order of the legend.
        x_label: below the axis.
        y_label: beside the axis.
        y_range: of the axis; that of the values when None.
        x_range: of the axis; that of the values when None.
        at: x of a vertical line.
        x_counts: only whole numbers stand at the x axis.
        legend: whether to name the curves.
        size: width and height, in units of the letters' pixels.
    """
    x_low, x_high = x_range or _range([line.x for line in lines])
    y_low, y_high = y_range or _range([line.y for line in lines])
    whole, tall = size
    width, height = whole - _LEFT - _RIGHT, tall - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        right = (min(max(x, x_low), x_high) - x_low) / (x_high - x_low)
        up = (min(max(y, y_low), y_high) - y_low) / (y_high - y_low)
        return round(_LEFT + right * width, 1), round(_TOP + (1 - up) * height, 1)

    parts = []
    most = 6 if whole > 300 else 3
    for x in _ticks(x_low, x_high, most):
        if x_counts and x % 1:
            continue
        left, bottom = place(x, y_low)
        parts.append(f'<path class="grid" d="M{left},{_TOP}V{bottom}"/>')
        parts.append(f'<text x="{left}" y="{bottom + 15}" text-anchor="middle">{x:g}</text>')
    for y in _ticks(y_low, y_high, most):
        left, top = place(x_low, y)
        parts.append(f'<path class="grid" d="M{left},{top}H{whole - _RIGHT}"/>')
        parts.append(f'<text x="{left - 6}" y="{top + 4}" text-anchor="end">{y:g}</text>')
    if at is not None:
        left, _ = place(at, y_low)
        parts.append(f'<path class="at" d="M{left},{_TOP}V{tall - _BOTTOM}"/>')
    for line, colour in zip(lines, _colours(len(lines)), strict=True):
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(f'<path class="line" stroke="{colour}"{dash} d="{_path(line, place)}"/>')
        points = [line.point] if line.point else []
        if line.dots:
            points += [p for p in zip(line.x, line.y, strict=True) if not np.isnan(p).any()]
        for left, top in (place(*point) for point in points):
            parts.append(f'<circle cx="{left}" cy="{top}" r="3.5" fill="{colour}"/>')
    middle = _LEFT + width / 2
    parts.append(
        f'<text x="{middle}" y="{tall - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    parts.append(
        f'<text transform="translate(11 {_TOP + height / 2}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    described = html.escape(f"{y_label} against {x_label}")
    drawn = (
        f'<svg role="img" aria-label="{described}" viewBox="0 0 {whole} {tall}">'
        f"{''.join(parts)}</svg>"
    )
    return f"{drawn}{_legend(lines) if legend else ''}"


def matrix_chart(values: np.ndarray, names: Sequence[str]) -> str:
    """Draw a matrix (C,C) of shares 0..1 as cells, darker where higher; NaN cells stay empty.

    Args:
        values: rows from above, columns from the left.
        names: of rows and columns alike.
    """
    side, margin = 340 / len(names), 96
    parts = []
    for row, name in enumerate(names):
        middle = round(margin + (row + 0.5) * side, 1)
        shown = html.escape(name if len(name) <= 14 else name[:13] + "…")
        parts.append(f'<text x="{margin - 5}" y="{middle + 4}" text-anchor="end">{shown}</text>')
        parts.append(
            f'<text transform="translate({middle + 4} {margin - 5}) rotate(-90)">{shown}</text>'
        )
        for column, value in enumerate(values[row]):
            if np.isnan(value):
                continue
            left, top = (round(margin + at * side, 1) for at in (column, row))
            tooltip = html.escape(f"{name} shown, {names[column]} predicted: {value:.2f}")
            parts.append(
                f'<rect x="{left}" y="{top}" width="{side:.1f}" height="{side:.1f}" '
                f'fill="#1769aa" fill-opacity="{min(1.0, float(value)):.2f}">'
                f"<title>{tooltip}</title></rect>"
            )
    whole = margin + 340 + 6
    parts.append(f'<rect class="frame" x="{margin}" y="{margin}" width="340" height="340"/>')
    return (
        f'<svg class="matrix" role="img" aria-label="classes shown and predicted" '
        f'viewBox="0 0 {whole} {whole}">{"".join(parts)}</svg>'
    )


def _colours(count: int) -> list[str]:
    return [COLOURS[at % len(COLOURS)] for at in range(count)]


def _path(line: Line, place) -> str:
    """The curve as SVG path text; consecutive points that fall together are one."""
    steps, begun, before = [], False, None
    for x, y in zip(line.x, line.y, strict=True):
        if np.isnan(x) or np.isnan(y):
            begun = False
            continue
        point = place(float(x), float(y))
        if begun and point == before:
            continue
        steps.append(f"{'L' if begun else 'M'}{point[0]},{point[1]}")
        begun, before = True, point
    return "".join(steps)


def _legend(lines: Sequence[Line]) -> str:
    entries = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(line.label)}</span>'
        for line, colour in zip(lines, _colours(len(lines)), strict=True)
    )
    return f'<p class="legend">{entries}</p>'


def _range(columns: Sequence[Sequence[float]]) -> tuple[float, float]:
    values = np.concatenate([np.asarray(column, np.float64) for column in columns])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within a range, about `most` of them at most."""
    step = 10.0 ** np.floor(np.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    first = np.ceil(low / step - 1e-9)
    count = int(np.floor(high / step + 1e-9) - first) + 1
    return [round(float((first + at) * step), 10) for at in range(count)]
