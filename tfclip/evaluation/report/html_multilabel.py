"""The multi-label part of the report page: figures, curves, and pictures with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfclip.evaluation.metrics.curves import precision_recall_curve, threshold_curves
from tfclip.evaluation.report.charts import SMALL, Line, line_chart, matrix_chart
from tfclip.evaluation.report.examples import examples_file, read_examples
from tfclip.evaluation.report.html_parts import chart, escape, key_figures, picture, table
from tfclip.evaluation.report.text_tables import SHARES, remarks, threshold_kinds

_MOST_CLASSES = 40
"""More classes than this have no curve of their own, and no matrix."""


def multilabel_section(run: Path, figures: Mapping, benchmark: str = "voc") -> list[str]:
    """The HTML of what `multilabel_run` left in a run directory."""
    parts = [_key_figures(figures), *(f"<p>{escape(line)}</p>" for line in remarks(figures))]
    parts += ["<h3>Decisions by kind of threshold, macro means</h3>", _kinds(figures)]
    scores = run / "metrics" / f"{benchmark}_scores.npz"
    if scores.is_file():
        with np.load(scores, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        parts += _curves(figures, arrays)
        parts += _confused(figures)
    parts += ["<h3>Every class</h3>", _classes(figures), *_templates(figures)]
    return parts + _pictures(run, benchmark)


def _key_figures(figures: Mapping) -> str:
    intervals, oracle = figures["intervals"], figures.get("oracle")
    shown = {"mAP (all points)": (figures["map"], intervals["map"])}
    for name, key in (
        ("mAP (VOC2007)", "map_voc07"),
        ("mAP, whole picture", "map_one_view"),
        ("mAP gained by tiles", "map_gain_by_tiles"),
        ("mAP, trained classes", "map_seen"),
        ("mAP, never trained", "map_unseen"),
    ):
        if key in figures:
            shown[name] = (figures[key], intervals[key])
    shown["macro F1"] = (figures["macro"]["f1"], intervals["macro_f1"])
    if oracle:
        shown["macro F1, oracle above by"] = (
            oracle["macro_f1_gap"],
            oracle["macro_f1_gap_interval"],
        )
    errors = figures["probabilities"]["expected_calibration_error"]
    for kind, error in errors.items():
        shown[f"calibration error, {kind}"] = (error, None)
    return key_figures(shown)


def _kinds(figures: Mapping) -> str:
    rows = [
        [what, *(decided["macro"][share] for share in SHARES)]
        for what, decided in threshold_kinds(figures).items()
    ]
    return table(["thresholds", *SHARES], rows)


def _curves(figures: Mapping, arrays: Mapping[str, np.ndarray]) -> list[str]:
    scores, present, ignore = (
        arrays[f"test_{name}"] for name in ("scores", "present", "difficult")
    )
    threshold = figures["global"]["threshold"]
    grid, shares = threshold_curves(scores, present & ~ignore, ignore, threshold)
    lines = [
        Line(f"{share} {values[-1]:.3f}", grid[:-1], values[:-1], point=(threshold, values[-1]))
        for share, values in shares.items()
        if share != "precision"
    ]
    drawn = line_chart(lines, x_label="threshold on the cosine", y_label="share", at=threshold)
    charts = [chart(drawn, f"One threshold for all classes; {threshold:.3f} was chosen")]
    bins = figures["probabilities"]["reliability"]
    lines = [
        Line(kind, [_nan(x) for x in bin_of["mean"]], [_nan(y) for y in bin_of["share"]], dots=True)
        for kind, bin_of in bins.items()
    ]
    lines.append(Line("exact", [0, 1], [0, 1], dashed=True))
    drawn = line_chart(lines, x_label="probability promised", y_label="share true", x_range=(0, 1))
    charts.append(chart(drawn, "Calibration: of what was promised, how much was true"))
    parts = [
        "<h3>Thresholds and probabilities</h3>",
        f'<div class="charts">{"".join(charts)}</div>',
    ]
    names = [str(name) for name in arrays["class_names"]]
    if len(names) > _MOST_CLASSES:
        return parts
    small = []
    for c, name in enumerate(names):
        if not present[:, c].any():
            continue
        recall, precision = precision_recall_curve(scores[:, c], present[:, c])
        # Steps: the precision at a recall holds back to the recall before.
        line = Line("", np.repeat(np.append(0, recall), 2)[1:-1], np.repeat(precision, 2))
        star = " *" if name in figures["never_trained"] else ""
        ap = figures["per_class"][name]["ap"]
        drawn = line_chart(
            [line], x_label="recall", y_label="precision", x_range=(0, 1), legend=False, size=SMALL
        )
        small.append(chart(drawn, f"{name}{star}, AP {ap:.3f}"))
    return [
        *parts,
        "<h3>Precision against recall</h3>",
        f'<div class="small">{"".join(small)}</div>',
    ]


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _confused(figures: Mapping) -> list[str]:
    names = list(figures["per_class"])
    matrix = np.array(
        [[_nan(value) for value in row] for row in figures["confusion"]["shares"]], np.float64
    )
    parts = [
        "<h3>Confusion of classes that occur together</h3>",
        "<p>Of the pictures that show the class of the row and not that of the column, the share "
        "for which the column was predicted.</p>",
    ]
    if len(names) <= _MOST_CLASSES:
        parts.append(matrix_chart(matrix, names))
    rows = [
        [pair["shown"], pair["predicted"], pair["share"], pair["pictures"]]
        for pair in figures["confusion"]["most"]
    ]
    return [*parts, table(["shown", "predicted, not shown", "share", "pictures"], rows)]


def _classes(figures: Mapping) -> str:
    columns = ("positives", "ap", "ap_voc07", "threshold", *SHARES)
    rows = [
        [name + (" *" if name in figures["never_trained"] else ""), *(row[c] for c in columns)]
        for name, row in figures["per_class"].items()
    ]
    return table(["class", *columns], rows)


def _templates(figures: Mapping) -> list[str]:
    if "by_templates" not in figures:
        return []
    rows = []
    for name, measured in figures["by_templates"].items():
        if measured is None:
            rows.append([name, None, "too long for this model"])
        else:
            low, high = measured["interval"]
            rows.append([name, measured["map"], f"{low:.3f} to {high:.3f}"])
    return ["<h3>mAP by templates</h3>", table(["templates", "mAP", "95 % interval"], rows)]


def _pictures(run: Path, benchmark: str) -> list[str]:
    examples = read_examples(run / examples_file(benchmark))
    if not examples:
        return []
    cells = [
        picture(
            example["jpeg"],
            ", ".join(example["shown"]) or "no class",
            [
                *_labels("found", "✓", example["found"]),
                *_labels("missed", "○ missed:", example["missed"]),
                *_labels("wrong", "✗ wrong:", example["wrong"]),
                *_labels("", "difficult:", example["difficult"]),
            ]
            or [("", "nothing shown, nothing predicted")],
        )
        for example in examples
    ]
    return [
        "<h3>Pictures and decisions</h3>",
        '<p>The first pictures of the split: <span class="found">✓ shown and predicted</span>, '
        '<span class="missed">○ shown and missed</span>, '
        '<span class="wrong">✗ predicted and not shown</span>.</p>',
        f'<div class="pictures">{"".join(cells)}</div>',
    ]


def _labels(style: str, mark: str, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(style, f"{mark} {', '.join(names)}")] if names else []
