"""report.html of a run: every table, chart and picture of what was measured, in one file."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tfclip import files
from tfclip.evaluation.report.charts import Line, line_chart
from tfclip.evaluation.report.examples import RETRIEVAL_EXAMPLES, read_examples
from tfclip.evaluation.report.html_multilabel import multilabel_section
from tfclip.evaluation.report.html_parts import STYLE, chart, escape, key_figures, picture, table
from tfclip.evaluation.report.text_tables import sts_table

PAGE_FILE = "report.html"
# Columns of log.csv that share a chart, by what their names hold.
_CURVES = {
    "loss": ("loss", "val_loss"),
    "recall of pictures by their captions and back": ("val_recall", "val_i2t_r10", "val_t2i_r10"),
    "zero-shot mAP": ("voc_map",),
    "top-1 accuracy of classes": ("top1",),
    "temperature": ("logit_scale",),
}


def write_page(run: Path) -> Path:
    """Write `report.html` from a run's metrics/, log.csv and config.json, and return its path.

    Args:
        run: a run directory with at least one measured benchmark.
    """
    name = run.resolve().name
    parts = [f"<h1>{escape(name)}</h1>"]
    for benchmark, (title, section) in _SECTIONS.items():
        path = run / "metrics" / f"{benchmark}.json"
        if path.is_file():
            figures = json.loads(path.read_text(encoding="utf-8"))
            parts += [f"<h2>{title}</h2>", *section(run, figures)]
    for path in sorted((run / "metrics").glob("multilabel-*.json")):
        if not path.stem.endswith(("_examples", ".clip_benchmark")):
            figures = json.loads(path.read_text(encoding="utf-8"))
            title = escape(f"{_SECTIONS['voc'][0]}: {path.stem.removeprefix('multilabel-')}")
            parts += [f"<h2>{title}</h2>", *multilabel_section(run, figures, path.stem)]
    parts += _training(run)
    config = run / "config.json"
    if config.is_file():
        parts += ["<h2>Configuration</h2>", f"<pre>{escape(config.read_text('utf-8'))}</pre>"]
    page = run / PAGE_FILE
    files.write_text(
        page,
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}</title>\n<style>{STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n",
    )
    return page


def _retrieval(run: Path, figures: Mapping) -> list[str]:
    columns = ("r1", "r5", "r10", "median_rank")
    rows = [
        [side.replace("_", " "), *(figures[side][column] for column in columns)]
        for side in ("image_to_text", "text_to_image")
    ]
    counted = f"{figures['images']} pictures, {figures['captions']} captions of "
    parts = [
        table(["", "R@1", "R@5", "R@10", "median rank"], rows),
        f"<p>{escape(counted + figures['records'] + ':' + figures['split'])}</p>",
    ]
    pictures: dict[str, list[str]] = {}
    for example in read_examples(run / RETRIEVAL_EXAMPLES):
        mark = ("found", "✓ its picture") if example["right"] else ("", "")
        lines = [mark, ("", f"cosine {example['score']:.3f}")]
        cell = picture(example["jpeg"], example["key"], [line for line in lines if line[1]])
        pictures.setdefault(example["query"], []).append(cell)
    for query, cells in pictures.items():
        parts += [f"<h3>{escape(query)}</h3>", f'<div class="pictures">{"".join(cells)}</div>']
    return parts


def _classification(run: Path, figures: Mapping) -> list[str]:
    shown = {f"top-{k}": (figures[f"top{k}"], None) for k in (1, 5, 10)}
    counted = f"{figures['images']} pictures, {figures['classes']} classes"
    return [
        key_figures(shown),
        f"<p>{escape(counted)}; templates {escape(figures['templates'])}</p>",
    ]


def _sts(run: Path, figures: Mapping) -> list[str]:
    return [f"<pre>{escape(sts_table(figures))}</pre>"]


_SECTIONS: dict[str, tuple[str, Callable[[Path, Mapping], list[str]]]] = {
    "voc": ("Zero-shot, several labels to a picture", multilabel_section),
    "retrieval": ("Retrieval", _retrieval),
    "classification": ("Zero-shot classification", _classification),
    "sts": ("Sentence similarity", _sts),
}


def _training(run: Path) -> list[str]:
    """The curves of log.csv."""
    path = run / "log.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    charts = []
    for what, names in _CURVES.items():
        lines = []
        for name in names:
            values = np.array([_number(row.get(name)) for row in rows])
            if np.isfinite(values).any():
                lines.append(Line(name, np.arange(1, len(rows) + 1), values, dots=len(rows) < 30))
        if lines:
            drawn = line_chart(
                lines, x_label="measurement", y_label=what.split()[0], y_range=None, x_counts=True
            )
            charts.append(chart(drawn, what))
    if not charts:
        return []
    return ["<h2>Training</h2>", f'<div class="charts">{"".join(charts)}</div>']


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
