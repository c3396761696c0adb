"""What thresholds decide on a test split, and what that is worth: tables of shares. NumPy."""

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
    """What every kind of threshold decides on the test split; and intervals of those in use."""
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
    has_both = test.known.any() and (counted & ~test.present).any()
    if options.false_positives is None and has_both:
        kinds["oracle"] = _oracle(test, fitted.thresholds, options.objective, weights)
    return kinds, intervals


def _oracle(test: ScoredPictures, fitted: Thresholds, objective: str, weights: np.ndarray) -> dict:
    """The decisions of thresholds that saw the answers, and how far macro F1 stays behind them."""
    best = fit_thresholds(test.scores, test.known, objective, test.difficult).per_class
    reached = [
        macro(confusion(test.scores >= thresholds, test.known, test.difficult, weights))["f1"]
        for thresholds in (best, fitted.per_class)
    ]
    decided = _decisions(test.scores, best, test)
    f1 = macro(confusion(test.scores >= fitted.per_class, test.known, test.difficult))["f1"]
    gap = decided["macro"]["f1"] - float(f1)
    # Both on the same resamples, as the gain by tiles.
    return {
        **decided,
        "macro_f1_gap": gap,
        "macro_f1_gap_interval": recentred_bootstrap_interval(gap, reached[0] - reached[1]),
    }


def probability_errors(test: ScoredPictures, fitted: Fitted, options: MultilabelOptions) -> dict:
    """The expected calibration error on the test split, before and after calibration."""
    kinds = {"softmax": fitted.softmax_of(test.scores)} | {
        kind: calibration.probabilities(test.scores)
        for kind, calibration in fitted.calibrations.items()
    }
    errors = {
        kind: expected_calibration_error(probabilities, test.known, test.difficult)
        for kind, probabilities in kinds.items()
    }
    bins = {
        kind: dict(
            zip(
                ("count", "mean", "share"),
                (part.tolist() for part in reliability(promised, test.known, test.difficult)),
                strict=True,
            )
        )
        for kind, promised in kinds.items()
    }
    used = options.probabilities if fitted.calibrations else "softmax"
    return {"used": used, "expected_calibration_error": errors, "reliability": bins}


def confusion_of_classes(test: ScoredPictures, fitted: Thresholds, most: int = 12) -> dict:
    """Which class is predicted for pictures that show another and not it.

    Returns:
        `shares` (C,C): of the pictures that show the class of the row and not that of the column,
        the share for which the column is predicted, NaN without such a picture. `most`: the pairs
        of the highest shares that concern five pictures or more.
    """
    predicted = test.scores >= fitted.per_class
    absent = ~test.present
    pictures = test.known.T.astype(np.float64) @ absent
    wrong = test.known.T.astype(np.float64) @ (predicted & absent)
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


def promised(
    test: ScoredPictures, negatives: ScoredPictures, fitted: Thresholds, options: MultilabelOptions
) -> dict:
    """What thresholds from negatives promise, and the false-positive rate that was measured."""
    shares = rates(confusion(test.scores >= fitted.per_class, test.known, test.difficult))
    measured = 1 - shares["specificity"]
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
    """`macro` and `micro` shares of the decisions score >= threshold; with weights `intervals`."""
    known, predicted = scored.known, scores >= thresholds
    counts = confusion(predicted, known, scored.difficult)
    means = {
        name: {share: float(value) for share, value in mean(counts).items()}
        for name, mean in (("macro", macro), ("micro", micro))
    }
    if weights is None:
        return means
    resampled = confusion(predicted, known, scored.difficult, weights)
    intervals = {
        f"{name}_{share}": recentred_bootstrap_interval(means[name][share], values)
        for name, mean in (("macro", macro), ("micro", micro))
        for share, values in mean(resampled).items()
    }
    return {**means, "intervals": intervals}


def per_class(scored: ScoredPictures, fitted: Thresholds) -> dict[str, dict]:
    """Average precision and the shares of the decisions for each class, by its name."""
    known = scored.known
    columns = {
        "ap": average_precision(scored.scores, scored.present),
        "ap_voc07": average_precision_voc07(scored.scores, known, scored.difficult),
        "positives": scored.present.sum(axis=0),
        "difficult": scored.difficult.sum(axis=0),
        "threshold": fitted.per_class,
        **rates(confusion(scored.scores >= fitted.per_class, known, scored.difficult)),
    }
    return {
        name: {key: column[c].item() for key, column in columns.items()}
        for c, name in enumerate(scored.class_names)
    }


def named(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    """The numbers (C,) by class name."""
    return dict(zip(names, values.tolist(), strict=True))
