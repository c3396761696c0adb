"""The line charts of a page: what they show, and those that a page already has."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

SIZE, SMALL = (400, 290), (210, 170)
"""Width and height of a chart, about the pixels that it is shown with."""
_ELEMENT = re.compile(r'<svg role="img" data-chart="(\w+)".*?</svg>', re.DOTALL)


@dataclass(frozen=True)
class Line:
    """One curve: `x` and `y` (K,); NaNs break it. `point` is one (x, y) on it that is marked."""

    label: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    point: tuple[float, float] | None = None
    dashed: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """Curves over one another.

    Attributes:
        lines: the curves, in the order of the legend.
        description: text for screen readers.
        x_label: below the axis.
        y_label: beside the axis.
        y_range: of the axis; that of the values when None.
        x_range: of the axis; that of the values when None.
        marked_x: position of a vertical line.
        x_counts: whether the x axis has only whole numbers.
        legend: whether to name the curves.
        size: width and height, in points of the SVG.
    """

    lines: tuple[Line, ...]
    description: str
    x_label: str
    y_label: str
    y_range: tuple[float, float] | None = (0.0, 1.0)
    x_range: tuple[float, float] | None = None
    marked_x: float | None = None
    x_counts: bool = False
    legend: bool = True
    size: tuple[int, int] = SIZE

    def key(self) -> str:
        """Return a name for what is drawn: equal for equal charts drawn by the same code."""
        digest = hashlib.sha256(_drawn_by())
        for field in fields(self):
            if field.name != "lines":
                digest.update(repr(getattr(self, field.name)).encode())
        for line in self.lines:
            digest.update(repr((line.label, line.point, line.dashed, line.dots)).encode())
            digest.update(np.array([line.x, line.y], np.float64).tobytes())
        return digest.hexdigest()[:24]


@cache
def _drawn_by() -> bytes:
    """Return what identifies the code that draws."""
    return version("matplotlib").encode() + Path(__file__).with_name("draw_charts.py").read_bytes()


class Drawing:
    """Draws charts as SVG elements.

    Args:
        page: an HTML file. Charts that it has are taken from it, because drawing one takes longer
            than all the other work on a page.
    """

    def __init__(self, page: Path | None = None):
        text = page.read_text(encoding="utf-8") if page is not None and page.is_file() else ""
        self._known = {match[1]: match[0] for match in _ELEMENT.finditer(text)}

    def __call__(self, chart: Chart) -> str:
        """Return the SVG element of a chart."""
        key = chart.key()
        if key not in self._known:
            from tfclip.evaluation.report.draw_charts import draw

            self._known[key] = draw(chart, key)
        return self._known[key]
