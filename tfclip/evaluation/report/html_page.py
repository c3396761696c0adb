"""Writes report.html of a run: all tables, charts and pictures of its measurements in one file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfclip import files
from tfclip.evaluation.report.charts import Chart, Line
from tfclip.evaluation.report.drawing import Drawing
from tfclip.evaluation.report.html_multilabel import multilabel_section
from tfclip.evaluation.report.html_render import render
from tfclip.evaluation.report.html_results import (
    classification_result,
    multilabel_result,
    retrieval_result,
    sentences_result,
)
from tfclip.evaluation.report.html_sections import (
    classification_section,
    retrieval_section,
    sentences_section,
)

PAGE_FILE = "report.html"
# Columns of log.csv in one chart, by caption.
_CURVES = {
    "loss": ("loss", "val_loss"),
    "recall of pictures by their captions and back": ("val_recall", "val_i2t_r10", "val_t2i_r10"),
    "zero-shot mAP": ("voc_map",),
    "top-1 accuracy of classes": ("top1",),
    "temperature": ("logit_scale",),
}
_MULTILABEL = "Zero-shot, several labels to a picture"


class _Section(NamedTuple):
    """A kind of measurement: title, content of its template, and the result in words."""

    title: str
    content: Callable[..., dict]
    result: Callable[[Mapping], str]


_SECTIONS = {
    "voc": _Section(_MULTILABEL, multilabel_section, multilabel_result),
    "retrieval": _Section("Retrieval", retrieval_section, retrieval_result),
    "classification": _Section(
        "Zero-shot classification", classification_section, classification_result
    ),
    "sts": _Section("Sentence similarity", sentences_section, sentences_result),
}


def write_page(run: Path) -> Path:
    """Write `report.html` from a run's metrics/, log.csv and config.json, and return its path.

    Args:
        run: a run directory with at least one measured benchmark.
    """
    config = run / "config.json"
    page = run / PAGE_FILE
    text = render(
        "report.html",
        title=run.resolve().name,
        run=run,
        sections=_sections(run),
        training=_training(run),
        draw=Drawing(page),
        configuration=config.read_text("utf-8") if config.is_file() else "",
    )
    files.write_text(page, text)
    return page


def _sections(run: Path) -> list[dict[str, Any]]:
    """Return the content of each measurement, with the name of its template and a title."""
    own = sorted(path.stem for path in (run / "metrics").glob("multilabel-*.json"))
    own = [name for name in own if not name.endswith(("_examples", ".clip_benchmark"))]
    kinds = _SECTIONS | {
        name: _SECTIONS["voc"]._replace(
            title=f"{_MULTILABEL}: {name.removeprefix('multilabel-')}",
            content=partial(multilabel_section, benchmark=name),
        )
        for name in own
    }
    sections = []
    for benchmark, kind in kinds.items():
        path = run / "metrics" / f"{benchmark}.json"
        if path.is_file():
            figures = _read(path)
            shown = {"id": benchmark, "title": kind.title, "result": kind.result(figures)}
            sections.append(shown | _origin(figures) | kind.content(run, figures))
    return sections


def _origin(figures: Mapping) -> dict[str, str]:
    """Return date, version and command of a measurement; empty if not recorded."""
    if "date" not in figures:
        return {"measured": "", "command": ""}
    date = datetime.fromisoformat(figures["date"]).strftime("%Y-%m-%d %H:%M UTC")
    measured = f"Measured {date} with tfclip {figures['version']}"
    return {"measured": measured, "command": figures["command"]}


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _training(run: Path) -> list[tuple[str, Chart]]:
    """Return the charts of log.csv with captions."""
    path = run / "log.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    charts = []
    for caption, columns in _CURVES.items():
        lines = []
        for column in columns:
            values = np.array([_number(row.get(column)) for row in rows])
            if np.isfinite(values).any():
                x = np.arange(1, len(rows) + 1)
                lines.append(Line(column, x, values, dots=len(rows) < 30))
        if lines:
            unit = caption.split()[0]
            chart = Chart(
                tuple(lines),
                f"{caption} against measurement",
                x_label="measurement",
                y_label=unit,
                y_range=None,
                x_counts=True,
            )
            charts.append((caption, chart))
    return charts


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
