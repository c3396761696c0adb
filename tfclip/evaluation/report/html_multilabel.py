"""The multi-label part of the report page: figures, curves, and pictures with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfclip.evaluation.decisions.thresholds import BOUNDED, parse_objective
from tfclip.evaluation.metrics.curves import precision_recall_curve, threshold_curves
from tfclip.evaluation.report.charts import SMALL, Chart, Line
from tfclip.evaluation.report.examples import examples_file, read_examples
from tfclip.evaluation.report.glossary import TERMS
from tfclip.evaluation.report.html_sliders import slider_data
from tfclip.evaluation.report.text_tables import DECISION_RATES, remarks, threshold_kinds

_MOST_CLASSES = 40
"""With more classes, curves per class and the confusion matrix are left out."""


def multilabel_section(run: Path, figures: Mapping, benchmark: str = "voc") -> dict:
    """Return the content of `templates/multilabel.html` for a measurement of a run."""
    names = list(figures["per_class"])
    few = len(names) <= _MOST_CLASSES
    arrays = _scores(run / "metrics" / f"{benchmark}_scores.npz")
    pictures = _pictures(run, benchmark)
    keys = [picture["key"] for picture in pictures]
    return {
        "template": "multilabel.html",
        "class_names": names,
        "key_figures": _key_figures(figures),
        "remarks": remarks(figures),
        "kinds": _kinds(figures),
        "charts": _charts(figures, arrays) if arrays else [],
        "curves": _curves(figures, arrays) if arrays and few else [],
        "matrix": figures["confusion"]["shares"] if few else [],
        "confused": [
            [pair["shown"], pair["predicted"], pair["share"], pair["pictures"]]
            for pair in figures["confusion"]["most"]
        ],
        "classes": _classes(figures),
        "templates": _templates(figures),
        "pictures": pictures,
        "sliders": slider_data(run, benchmark, figures, arrays, keys) if arrays else None,
    }


def _scores(path: Path) -> dict[str, np.ndarray]:
    """Return the stored scores and labels of every picture; empty if there are none."""
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def _key_figures(figures: Mapping) -> list[tuple]:
    """Return the cards: ranking, the rates of the objective, calibration errors."""
    intervals, oracle = figures["intervals"], figures.get("oracle")
    shown = [("map", "mAP (all points)", figures["map"], intervals["map"])]
    shown += [
        (
            metric,
            f"macro {TERMS[metric].label}",
            figures["macro"][metric],
            intervals[f"macro_{metric}"],
        )
        for metric in _objective_metrics(figures["objective"])
    ]
    for term, name, key in (
        ("ap_voc07", "mAP (VOC2007)", "map_voc07"),
        ("tiles", "mAP, whole picture", "map_one_view"),
        ("tiles", "mAP gained by tiles", "map_gain_by_tiles"),
        ("never_trained", "mAP, trained classes", "map_seen"),
        ("never_trained", "mAP, never trained", "map_unseen"),
    ):
        if key in figures:
            shown.append((term, name, figures[key], intervals[key]))
    if none := figures.get("none_of_these"):
        for name, key in (
            ("none of these: rate", "rate"),
            ("none of these: precision", "precision"),
            ("none of these: recall", "sensitivity"),
        ):
            if key == "rate" or none["pictures"]:
                shown.append(("none_of_these", name, none[key], none["intervals"][key]))
    if oracle:
        gap, interval = oracle["macro_f1_gap"], oracle["macro_f1_gap_interval"]
        shown.append(("oracle", "macro F1, oracle above by", gap, interval))
    errors = figures["probabilities"]["expected_calibration_error"]
    return shown + [
        ("calibration_error", f"calibration error, {kind}", error, None)
        for kind, error in errors.items()
    ]


def _objective_metrics(objective: str | None) -> tuple[str, ...]:
    """Return the rates of the objective that thresholds were fitted for."""
    if objective is None:
        return ("specificity", "sensitivity")
    metric, bound = parse_objective(objective)
    if bound is not None:
        return (metric, BOUNDED[metric])
    return ("sensitivity", "specificity") if metric == "youden" else (metric,)


def _kinds(figures: Mapping) -> dict:
    rows = [
        [kind, *(decided["macro"][metric] for metric in DECISION_RATES)]
        for kind, decided in threshold_kinds(figures).items()
    ]
    return {"columns": ["thresholds", *DECISION_RATES], "rows": rows}


def _charts(figures: Mapping, arrays: Mapping[str, np.ndarray]) -> list[tuple[str, Chart]]:
    """Return the charts of one threshold for all classes and of calibration, with captions."""
    scores, present, ignore = (
        arrays[f"test_{name}"] for name in ("scores", "present", "difficult")
    )
    threshold = figures["global"]["threshold"]
    grid, rates = threshold_curves(scores, present & ~ignore, ignore, threshold)
    decisions = tuple(
        Line(
            f"{TERMS[rate].label} {values[-1]:.3f}",
            grid[:-1],
            values[:-1],
            point=(threshold, values[-1]),
        )
        for rate, values in rates.items()
        if rate != "precision"
    )
    reliability = [
        Line(kind, _numbers(bins["mean"]), _numbers(bins["share"]), dots=True)
        for kind, bins in figures["probabilities"]["reliability"].items()
    ]
    reliability.append(Line("exact", [0, 1], [0, 1], dashed=True))
    return [
        (
            f"One threshold for all classes; {threshold:.3f} was chosen",
            Chart(
                decisions,
                "rates of decisions against one threshold for all classes",
                x_label="threshold on the cosine",
                y_label="rate",
                marked_x=threshold,
            ),
        ),
        (
            "Calibration: how often a class is there, by its predicted probability",
            Chart(
                tuple(reliability),
                "observed frequency against predicted probability",
                x_label="predicted probability",
                y_label="observed frequency",
                x_range=(0, 1),
            ),
        ),
    ]


def _curves(figures: Mapping, arrays: Mapping[str, np.ndarray]) -> list[tuple[str, Chart]]:
    """Return the precision-recall charts of all classes with positives, with captions."""
    scores, present = arrays["test_scores"], arrays["test_present"]
    charts = []
    for c in np.flatnonzero(present.any(axis=0)):
        name = str(arrays["class_names"][c])
        star = " *" if name in figures["never_trained"] else ""
        caption = f"{name}{star}, AP {figures['per_class'][name]['ap']:.3f}"
        charts.append((caption, precision_recall_chart(name, scores[:, c], present[:, c])))
    return charts


def precision_recall_chart(name: str, scores: np.ndarray, present: np.ndarray) -> Chart:
    """Return precision against recall of one class, whose scores and truth are (N,)."""
    recall, precision = precision_recall_curve(scores, present)
    # Steps: each precision extends back to the previous recall.
    line = Line("", np.repeat(np.append(0, recall), 2)[1:-1], np.repeat(precision, 2))
    return Chart(
        (line,),
        f"precision against recall: {name}",
        x_label="recall",
        y_label="precision",
        x_range=(0, 1),
        legend=False,
        size=SMALL,
    )


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _classes(figures: Mapping) -> dict:
    columns = ("positives", "ap", "ap_voc07", "threshold", *DECISION_RATES)
    rows = [
        [name + (" *" if name in figures["never_trained"] else ""), *(row[c] for c in columns)]
        for name, row in figures["per_class"].items()
    ]
    return {"columns": ["class", *columns], "rows": rows}


def _templates(figures: Mapping) -> list[list]:
    rows: list[list] = []
    for name, measured in figures.get("by_templates", {}).items():
        if measured is None:
            rows.append([name, None, "too long for this model"])
        else:
            low, high = measured["interval"]
            rows.append([name, measured["map"], f"{low:.3f} to {high:.3f}"])
    return rows


def _pictures(run: Path, benchmark: str) -> list[dict]:
    return [
        {
            "key": example["key"],
            "jpeg": example["jpeg"],
            "description": ", ".join(example["shown"]) or "no class",
            "lines": [
                *_labels("found", "✓", example["found"]),
                *_labels("missed", "○ missed:", example["missed"]),
                *_labels("wrong", "✗ wrong:", example["wrong"]),
                *_labels("", "difficult:", example["difficult"]),
            ]
            or [("", "nothing shown, nothing predicted")],
        }
        for example in read_examples(run / examples_file(benchmark))
    ]


def _labels(style: str, mark: str, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(style, f"{mark} {', '.join(names)}")] if names else []
