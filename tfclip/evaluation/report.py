"""What was measured, for people: tables as text, and plots as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tfclip.evaluation.multilabel import Confusion, average_precision, rates

SHARES = ("f1", "sensitivity", "specificity", "precision", "accuracy")
PLOTTED_THRESHOLDS = 400


def voc_table(figures: Mapping) -> str:
    """The figures of `voc.evaluate_voc` as lines of text."""
    per_class, unseen = figures["per_class"], figures["never_trained"]
    shown = {name: f"{name} *" if name in unseen else name for name in per_class}
    width = max(map(len, shown.values()))
    columns = ("positives", "ap", "ap_voc07", "threshold", *SHARES)
    lines = [f"{'class':{width}}" + "".join(f"{column:>12}" for column in columns)]
    for name, row in per_class.items():
        cells = "".join(_cell(row[column]) for column in columns)
        lines.append(f"{shown[name]:{width}}{cells}")
    if unseen:
        lines.append("* never trained")
    lines.append("")
    intervals = figures["intervals"]
    explained = {
        "map": "mAP, all points, difficult objects count (CLIP_benchmark)",
        "map_voc07": "mAP, VOC2007 11 points, difficult objects ignored",
        "map_one_view": "mAP, whole picture alone",
        "map_gain_by_tiles": f"mAP gained by tiles {figures['tiles']}",
        "map_seen": "mAP, trained classes",
        "map_unseen": f"mAP, the {len(unseen)} never-trained classes",
    }
    for name, what in explained.items():
        if name in figures:
            lines.append(f"{what:58}{_with_interval(figures[name], intervals[name])}")
    lines.append("")
    lines.append(f"{'thresholds':26}{'mean':8}" + "".join(f"{share:>12}" for share in SHARES))
    for what, decided in threshold_kinds(figures).items():
        for mean in ("macro", "micro"):
            cells = "".join(_cell(decided[mean][share]) for share in SHARES)
            lines.append(f"{what:26}{mean:8}{cells}")
    f1 = _with_interval(figures["macro"]["f1"], intervals["macro_f1"])
    lines += ["", f"{'macro F1 with the thresholds in use':58}{f1}"]
    if "oracle" in figures:
        gap = figures["oracle"]
        told = _with_interval(gap["macro_f1_gap"], gap["macro_f1_gap_interval"])
        lines.append(f"{'macro F1, the oracle stands above by':58}{told}")
    lines += ["", *_probability_lines(figures), *_template_lines(figures), *remarks(figures)]
    return "\n".join(lines)


def threshold_kinds(figures: Mapping) -> dict[str, Mapping]:
    """What stands side by side in every table of decisions: name to `macro` and `micro` shares."""
    softmax = figures["softmax"]
    kinds = {"cosine, per class": figures}
    if figures["shrinkage"]:
        kinds = {"cosine, shrunk": figures, "cosine, per class alone": figures["unshrunk"]}
    kinds |= {
        "cosine, global": figures["global"],
        "softmax, per class": softmax,
        "softmax, global": softmax["global"],
    }
    if "oracle" in figures:
        kinds["oracle (saw the answers)"] = figures["oracle"]
    return kinds


def _probability_lines(figures: Mapping) -> list[str]:
    errors = figures["probabilities"]["expected_calibration_error"]
    told = ", ".join(f"{kind} {error:.3f}" for kind, error in errors.items())
    return [f"expected calibration error of probabilities: {told}", ""]


def _template_lines(figures: Mapping) -> list[str]:
    lines = [f"{'mAP by templates':58}"]
    for name, found in figures["by_templates"].items():
        told = "a prompt is too long for this model"
        if found is not None:
            told = _with_interval(found["map"], found["interval"])
        lines.append(f"  {name:56}{told}")
    return [*lines, ""]


def remarks(figures: Mapping) -> list[str]:
    """What a reader has to know about how the figures came about."""
    occurring = figures["never_trained_in_calibration"]
    remarks = [
        f"{figures['images']} pictures of split {figures['split']}; templates "
        f"{figures['templates']}; tiles {figures['tiles']}; fusion {_fusion(figures['fusion'])}; "
        "[95 % bootstrap intervals]",
        _fitted_on(figures)
        + (
            f", in which {len(occurring)} of the {len(figures['never_trained'])} never-trained "
            "classes occur: they were not trained on, but calibrated"
            if occurring
            else ""
        ),
    ]
    for key, told in (
        ("without_positives", f"no AP (no positive in {figures['split']}, left out of means)"),
        ("global_threshold_for", f"the global threshold (too little in {figures['calibrate']})"),
    ):
        if figures[key]:
            remarks.append(f"{told}: {', '.join(figures[key])}")
    if figures["skipped"]:
        remarks.append(f"{figures['skipped']} pictures could not be read and are left out")
    return remarks


def _fitted_on(figures: Mapping) -> str:
    if "negatives" not in figures:
        shrunk = f"; shrinkage {figures['shrinkage']:g}" if figures["shrinkage"] else ""
        return (
            f"thresholds fitted for {figures['objective']} on split {figures['calibrate']}, "
            f"{figures['calibration_images']} other pictures{shrunk}"
        )
    negatives = figures["negatives"]
    return (
        f"thresholds from negatives alone, {figures['calibration_images']} pictures of "
        f"{negatives['split']}: on pictures like these at most "
        f"{negatives['promised_false_positive_rate']:.3f} of what lacks a class is predicted to "
        f"show it; measured on {figures['split']}: "
        f"{negatives['measured_false_positive_rate']:.3f} in the mean over classes, "
        f"{negatives['highest_measured']:.3f} at most. What is found, they do not promise"
    )


def _fusion(fusion: Mapping) -> str:
    if fusion["name"] == "logsumexp":
        return f"logsumexp (sharpness {fusion['sharpness']:.1f})"
    if fusion["name"] == "learnt":
        return f"learnt ({' + '.join(f'{weight:g}' for weight in fusion['weights'])})"
    return fusion["name"]


def retrieval_table(figures: Mapping) -> str:
    """The figures of `retrieval_run.evaluate_retrieval` as lines of text."""
    keys = ("r1", "r5", "r10", "median_rank")
    lines = [f"{'':16}" + "".join(f"{key:>12}" for key in keys)]
    for side in ("image_to_text", "text_to_image"):
        lines.append(
            f"{side.replace('_', ' '):16}" + "".join(_cell(figures[side][k]) for k in keys)
        )
    counted = f"{figures['images']} pictures, {figures['captions']} captions"
    return "\n".join([*lines, f"{counted} of {figures['records']}:{figures['split']}"])


def classification_table(figures: Mapping) -> str:
    """The figures of `classification_run.evaluate_classification` as lines of text."""
    keys = ("top1", "top5", "top10")
    return "\n".join(
        [
            "".join(f"{key:>12}" for key in keys),
            "".join(_cell(figures[key]) for key in keys),
            f"{figures['images']} pictures, {figures['classes']} classes; "
            f"templates {figures['templates']}",
        ]
    )


def _cell(value: float | None) -> str:
    if value is None or value != value:
        return f"{'-':>12}"
    return f"{value:>12}" if isinstance(value, int) else f"{value:>12.3f}"


def _with_interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f}  [{interval[0]:.3f}, {interval[1]:.3f}]"


def threshold_curves(
    scores: np.ndarray, truth: np.ndarray, ignore: np.ndarray, threshold: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What one threshold for all classes does, over the range of the scores.

    Args:
        scores, truth, ignore: (N,C); cells of all classes are pooled.
        threshold: the chosen one.

    Returns:
        thresholds (K,), rising, but for the chosen one that comes last; and the (K,) shares of
        `multilabel.rates`.
    """
    positive, negative = (np.sort(scores[cells & ~ignore]) for cells in (truth, ~truth))
    low, high = np.min([scores.min(), threshold]), np.max([scores.max(), threshold])
    thresholds = np.append(np.linspace(low, high, PLOTTED_THRESHOLDS), threshold)
    fn, tn = (np.searchsorted(cells, thresholds, "left") for cells in (positive, negative))
    counts = Confusion(tp=len(positive) - fn, fp=len(negative) - tn, tn=tn, fn=fn)
    return thresholds, rates(counts)


def plot_thresholds(
    path: Path,
    scores: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray,
    threshold: float,
    *,
    title: str = "",
) -> None:
    """Draw sensitivity, specificity and F1 against one threshold for all classes, as a PNG.

    Args:
        path: the file.
        scores: (N,C); cells of all classes are pooled.
        truth: (N,C) bool.
        ignore: (N,C) bool, cells that do not count.
        threshold: the chosen one, that is marked.
        title: above the plot.
    """
    grid, shares = threshold_curves(scores, truth, ignore, threshold)
    figure, axes = _figure(7.0, 4.6)
    for share, colour in (("sensitivity", "C0"), ("specificity", "C1"), ("f1", "C2")):
        label = f"{share.replace('f1', 'F1')} {shares[share][-1]:.3f}"
        axes.plot(grid[:-1], shares[share][:-1], colour, label=label, linewidth=1.8)
        axes.plot(threshold, shares[share][-1], "o", color=colour)
    axes.axvline(threshold, color="0.4", linestyle="--", linewidth=1)
    axes.set(
        title=title,
        xlabel=f"threshold on the cosine (chosen: {threshold:.3f})",
        ylabel="share",
        ylim=(-0.02, 1.02),
        xlim=(grid.min(), grid.max()),
    )
    axes.legend(title="at the chosen threshold", loc="best", framealpha=0.9)
    _save(figure, path)


def precision_recall_curve(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The recalls (K,), rising, that a threshold can reach, and the best precision (K,) at each.

    The area under the steps is the all-points average precision.

    Args:
        scores: (N,).
        truth: (N,) bool, with a positive.
    """
    order = np.argsort(-scores, kind="stable")
    # Scores that tie are one point.
    ends = np.append(np.diff(scores[order]) != 0, True)
    found, seen = np.cumsum(truth[order])[ends], np.flatnonzero(ends) + 1
    rises = np.diff(found, prepend=0) > 0
    return found[rises] / found[-1], (found / seen)[rises]


def plot_precision_recall(
    path: Path,
    scores: np.ndarray,
    truth: np.ndarray,
    class_names: Sequence[str],
    *,
    marked: Sequence[str] = (),
    title: str = "",
) -> None:
    """Draw precision against recall for every class that has positives, as a PNG.

    Args:
        path: the file.
        scores: (N,C).
        truth: (N,C) bool.
        class_names: C names, for the legend, with the average precision.
        marked: classes that get a star and a dashed line (never trained).
        title: above the plot.
    """
    ap = average_precision(scores, truth)
    # NaN is a class without positives: it has no curve.
    ranked = [c for c in np.argsort(-ap, kind="stable") if not np.isnan(ap[c])]
    rows = -(-max(len(ranked), 1) // 40)
    figure, axes = _figure(9.0 + 2.2 * (rows - 1), max(5.0, 0.235 * min(len(ranked), 40) + 0.9))
    colours = matplotlib.colormaps["turbo"](np.linspace(0.03, 0.97, max(len(ranked), 1)))
    for colour, c in zip(colours, ranked, strict=False):
        recall, precision = precision_recall_curve(scores[:, c], truth[:, c])
        star = class_names[c] in marked
        label = f"{ap[c]:.3f}  {class_names[c]}{' *' if star else ''}"
        axes.step(
            np.append(0, recall),
            np.append(precision[0], precision),
            where="pre",
            color=colour,
            linestyle="--" if star else "-",
            linewidth=1.5,
            label=label,
        )
    axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1.0), ylim=(0, 1.02))
    if ranked:
        axes.legend(
            title="average precision" + (" (* never trained)" if marked else ""),
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            fontsize="small",
            ncols=rows,
            frameon=False,
        )
    _save(figure, path)


def _figure(width: float, height: float):
    # A Figure of its own, not pyplot's: no global state, no window, nothing to close.
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
