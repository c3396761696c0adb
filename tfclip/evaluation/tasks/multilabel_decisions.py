"""Measures the decisions of thresholds on a test split: rates, confusion, calibration. NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfclip.evaluation.decisions.fit import Fitted
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.decisions.scored_images import ScoredPictures
from tfclip.evaluation.decisions.thresholds import Thresholds, fit_thresholds
from tfclip.evaluation.metrics.bootstrap import recentred_bootstrap_interval
from tfclip.evaluation.metrics.calibration_error import expected_calibration_error, reliability
from tfclip.evaluation.metrics.multilabel import (
    average_precision,
    average_precision_voc07,
    confusion,
    macro,
    mean_defined,
    micro,
    rates,
)


def all_decisions(
    test: ScoredPictures, fitted: Fitted, options: MultilabelOptions, weights: np.ndarray
) -> tuple[dict, dict]:
    """Return the rates of every kind of threshold, and the intervals of those in use."""
    cosine, softmax = test.scores, fitted.softmax_of(test.scores)
    used = _decisions(cosine, fitted.thresholds.per_class, test, weights)
    intervals = used.pop("intervals")
    kinds = {
        **used,
        "shrinkage": fitted.strength,
        "unshrunk": _decisions(cosine, fitted.unshrunk.per_class, test),
        "global": {"threshold": fitted.thresholds.overall}
        | _decisions(cosine, fitted.thresholds.overall, test),
        "softmax": {
            **_decisions(softmax, fitted.softmax.per_class, test),
            "global": {"threshold": fitted.softmax.overall}
            | _decisions(softmax, fitted.softmax.overall, test),
        },
    }
    counted = ~test.difficult
    has_both = test.truth.any() and (counted & ~test.present).any()
    if options.false_positives is None and has_both:
        kinds["oracle"] = _oracle(test, fitted.thresholds, options.objective, weights)
    return kinds, intervals


def _oracle(test: ScoredPictures, fitted: Thresholds, objective: str, weights: np.ndarray) -> dict:
    """Return the rates of thresholds fitted on the test split, and the gap in macro F1 to them."""
    best = fit_thresholds(test.scores, test.truth, objective, test.difficult).per_class
    resampled = [
        macro(confusion(test.scores >= thresholds, test.truth, test.difficult, weights))["f1"]
        for thresholds in (best, fitted.per_class)
    ]
    decided = _decisions(test.scores, best, test)
    f1 = macro(confusion(test.scores >= fitted.per_class, test.truth, test.difficult))["f1"]
    gap = decided["macro"]["f1"] - float(f1)
    # Paired: both on the same resamples, like the gain by tiles.
    return {
        **decided,
        "macro_f1_gap": gap,
        "macro_f1_gap_interval": recentred_bootstrap_interval(gap, resampled[0] - resampled[1]),
    }


def probability_errors(test: ScoredPictures, fitted: Fitted, options: MultilabelOptions) -> dict:
    """Return the expected calibration error on the test split, before and after calibration."""
    kinds = {"softmax": fitted.softmax_of(test.scores)} | {
        kind: calibration.probabilities(test.scores)
        for kind, calibration in fitted.calibrations.items()
    }
    errors = {
        kind: expected_calibration_error(probabilities, test.truth, test.difficult)
        for kind, probabilities in kinds.items()
    }
    bins = {
        kind: dict(
            zip(
                ("count", "mean", "share"),
                (part.tolist() for part in reliability(probabilities, test.truth, test.difficult)),
                strict=True,
            )
        )
        for kind, probabilities in kinds.items()
    }
    used = options.probabilities if fitted.calibrations else "softmax"
    return {"used": used, "expected_calibration_error": errors, "reliability": bins}


def confusion_of_classes(test: ScoredPictures, fitted: Thresholds, most: int = 12) -> dict:
    """Return how often a class is predicted for pictures that show another class and not it.

    Returns:
        `shares` (C,C): of the pictures that show the class of the row and not that of the column,
        the fraction for which the column is predicted; NaN without such pictures. `most`: the pairs
        with the highest fractions over five or more pictures.
    """
    predicted = test.scores >= fitted.per_class
    absent = ~test.present
    pictures = test.truth.T.astype(np.float64) @ absent
    wrong = test.truth.T.astype(np.float64) @ (predicted & absent)
    shares = np.divide(wrong, pictures, out=np.full_like(wrong, np.nan), where=pictures > 0)
    names, ranked = test.class_names, np.where(pictures >= 5, shares, -1.0)
    np.fill_diagonal(ranked, -1.0)
    order = np.argsort(-ranked, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, ranked.shape)
    return {
        "shares": shares.tolist(),
        "most": [
            {
                "shown": names[row],
                "predicted": names[column],
                "share": float(shares[row, column]),
                "pictures": int(pictures[row, column]),
            }
            for row, column in zip(rows, columns, strict=True)
            if ranked[row, column] > 0
        ],
    }


def abstentions(test: ScoredPictures, fitted: Thresholds, weights: np.ndarray) -> dict:
    """Return how often no class is predicted ("none of these"), and how often that is correct.

    Pictures whose only classes are difficult count in `rate` alone.

    Args:
        test: the pictures to measure on.
        fitted: the thresholds that decide.
        weights: (N,R) bootstrap resamples.

    Returns:
        `rate`: the fraction of pictures without a predicted class. `precision`: the fraction of
        these that show no class. `sensitivity`: the fraction of pictures that show no class for
        which none is predicted. `pictures`: how many show none. `intervals`: of the three.
    """
    none = ~_any_class(test.scores >= fitted.per_class)
    empty = ~_any_class(test.truth)
    ignored = empty & _any_class(test.difficult)
    counts, resampled = (confusion(none, empty, ignored, each) for each in (None, weights))
    figures = {"rate": float(none.mean())}
    samples = {"rate": (none * weights).mean(axis=0)}
    of_samples = rates(resampled)
    for rate in ("precision", "sensitivity"):
        figures[rate] = float(rates(counts)[rate][0])
        samples[rate] = of_samples[rate][0]
    return {
        **figures,
        "pictures": int((empty & ~ignored).sum()),
        "intervals": {
            name: recentred_bootstrap_interval(figures[name], samples[name]) for name in figures
        },
    }


def _any_class(cells: np.ndarray) -> np.ndarray:
    """Return whether any of the classes (N,C) is true, (N,1)."""
    return np.logical_or.reduce(cells, axis=1, keepdims=True)


def promised(
    test: ScoredPictures, negatives: ScoredPictures, fitted: Thresholds, options: MultilabelOptions
) -> dict:
    """Return the bound of the false-positive rate, and the rate that was measured."""
    values = rates(confusion(test.scores >= fitted.per_class, test.truth, test.difficult))
    measured = 1 - values["specificity"]
    return {
        "promised_false_positive_rate": options.false_positives,
        "measured_false_positive_rate": float(mean_defined(measured)),
        "highest_measured": float(np.nanmax(measured)),
        "per_class": named(test.class_names, measured),
        "pictures": named(test.class_names, (~negatives.difficult).sum(axis=0)),
        "split": negatives.split,
    }


def _decisions(
    scores: np.ndarray,
    thresholds: np.ndarray | float,
    scored: ScoredPictures,
    weights: np.ndarray | None = None,
) -> dict:
    """Return `macro` and `micro` rates of score >= threshold; with weights also `intervals`."""
    predicted = scores >= thresholds
    counts = confusion(predicted, scored.truth, scored.difficult)
    means = {
        name: {rate: float(value) for rate, value in mean(counts).items()}
        for name, mean in (("macro", macro), ("micro", micro))
    }
    if weights is None:
        return means
    resampled = confusion(predicted, scored.truth, scored.difficult, weights)
    intervals = {
        f"{name}_{rate}": recentred_bootstrap_interval(means[name][rate], values)
        for name, mean in (("macro", macro), ("micro", micro))
        for rate, values in mean(resampled).items()
    }
    return {**means, "intervals": intervals}


def per_class(scored: ScoredPictures, fitted: Thresholds) -> dict[str, dict]:
    """Return average precision and decision rates by class name."""
    truth = scored.truth
    columns = {
        "ap": average_precision(scored.scores, scored.present),
        "ap_voc07": average_precision_voc07(scored.scores, truth, scored.difficult),
        "positives": scored.present.sum(axis=0),
        "difficult": scored.difficult.sum(axis=0),
        "threshold": fitted.per_class,
        **rates(confusion(scored.scores >= fitted.per_class, truth, scored.difficult)),
    }
    return {
        name: {key: column[c].item() for key, column in columns.items()}
        for c, name in enumerate(scored.class_names)
    }


def named(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    """Return values (C,) by class name."""
    return dict(zip(names, values.tolist(), strict=True))
