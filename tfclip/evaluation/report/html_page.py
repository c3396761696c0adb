"""report.html of a run: every table, chart and picture of what was measured, in one file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfclip import files
from tfclip.evaluation.report.charts import Line, line_chart, to_svg
from tfclip.evaluation.report.html_multilabel import multilabel_section
from tfclip.evaluation.report.html_render import render
from tfclip.evaluation.report.html_sections import (
    classification_section,
    retrieval_section,
    sentences_section,
)

PAGE_FILE = "report.html"
# Columns of log.csv that share a chart, by what their names hold.
_CURVES = {
    "loss": ("loss", "val_loss"),
    "recall of pictures by their captions and back": ("val_recall", "val_i2t_r10", "val_t2i_r10"),
    "zero-shot mAP": ("voc_map",),
    "top-1 accuracy of classes": ("top1",),
    "temperature": ("logit_scale",),
}
_MULTILABEL = "Zero-shot, several labels to a picture"
_SECTIONS: dict[str, tuple[str, Callable[[Path, Mapping], dict]]] = {
    "voc": (_MULTILABEL, multilabel_section),
    "retrieval": ("Retrieval", retrieval_section),
    "classification": ("Zero-shot classification", classification_section),
    "sts": ("Sentence similarity", sentences_section),
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
        sections=_sections(run),
        training=_training(run),
        configuration=config.read_text("utf-8") if config.is_file() else "",
    )
    files.write_text(page, text)
    return page


def _sections(run: Path) -> list[dict[str, Any]]:
    """What the templates show of each measurement, with the template's name and a title."""
    sections = []
    for benchmark, (title, section) in _SECTIONS.items():
        path = run / "metrics" / f"{benchmark}.json"
        if path.is_file():
            sections.append({"title": title, **section(run, _read(path))})
    for path in sorted((run / "metrics").glob("multilabel-*.json")):
        if not path.stem.endswith(("_examples", ".clip_benchmark")):
            title = f"{_MULTILABEL}: {path.stem.removeprefix('multilabel-')}"
            sections.append({"title": title, **multilabel_section(run, _read(path), path.stem)})
    return sections


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _training(run: Path) -> list[tuple[str, str]]:
    """The curves of log.csv: captions and charts."""
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
            figure = line_chart(
                lines, x_label="measurement", y_label=unit, y_range=None, x_counts=True
            )
            charts.append((caption, to_svg(figure, f"{caption} against measurement")))
    return charts


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
