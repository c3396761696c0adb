"""Describes the line charts of a page, without drawing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SIZE, SMALL = (400, 290), (210, 170)
"""Width and height of a chart, about the pixels that it is shown with."""


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
