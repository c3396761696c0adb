"""Draws what was measured into PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tfclip import files
from tfclip.evaluation.metrics.curves import precision_recall_curve, threshold_curves
from tfclip.evaluation.metrics.multilabel import average_precision


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
    with files.new_file(path) as beside:
        figure.savefig(beside, format="png")
