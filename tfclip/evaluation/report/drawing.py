"""Draws the charts of a page, those that it already has excepted."""

from __future__ import annotations

import hashlib
import re
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tfclip.evaluation.report.charts import Chart

_ELEMENT = re.compile(r'<svg role="img" data-chart="(\w+)".*?</svg>', re.DOTALL)


class Drawing:
    """Draws charts as SVG elements.

    Args:
        page: an HTML file. Charts that it has are taken from it, because drawing one takes longer
            than all the other work on a page.
    """

    def __init__(self, page: Path | None = None):
        # Of a damaged page, some charts or none are known.
        text = page.read_text("utf-8", "replace") if page is not None and page.is_file() else ""
        self._known = {match[1]: match[0] for match in _ELEMENT.finditer(text)}

    def __call__(self, chart: Chart) -> str:
        """Return the SVG element of a chart."""
        key = chart_key(chart)
        if key not in self._known:
            from tfclip.evaluation.report.draw_charts import draw

            self._known[key] = draw(chart, key)
        return self._known[key]


def chart_key(chart: Chart) -> str:
    """Return a name for what is drawn: equal for equal charts drawn by the same code."""
    digest = hashlib.sha256(_drawn_by())
    for field in fields(chart):
        if field.name != "lines":
            digest.update(repr(getattr(chart, field.name)).encode())
    for line in chart.lines:
        digest.update(repr((line.label, line.point, line.dashed, line.dots)).encode())
        digest.update(np.array([line.x, line.y], np.float64).tobytes())
    return digest.hexdigest()[:24]


@cache
def _drawn_by() -> bytes:
    """Return what identifies the code that draws."""
    return version("matplotlib").encode() + Path(__file__).with_name("draw_charts.py").read_bytes()
