"""Shrinks the thresholds of classes with few positives towards one shared by all classes.

A class with n positives gets (n own + k shared) / (n + k): the fewer positives, the closer it is to
the shared threshold (the idea of James and Stein's estimator). The cosines of classes differ in
mean and spread, so the shared threshold is fitted on standardised scores and transformed back with
each class's mean and spread, which need no labels. Cross-validation on the calibration split
chooses the strength k; 0, no shrinkage, is among the candidates.
"""

import dataclasses

import numpy as np

from tfclip.evaluation.decisions.thresholds import (
    BOUNDED,
    Objective,
    Thresholds,
    fit_threshold,
    fit_thresholds,
)
from tfclip.evaluation.metrics.multilabel import Confusion, confusion, macro

STRENGTHS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 200.0)
FOLDS = 5


def shared_thresholds(
    scores: np.ndarray, truth: np.ndarray, objective: Objective, ignore: np.ndarray
) -> np.ndarray:
    """Fit one threshold on standardised scores; return it as a cosine of each class: (C,) float64.

    Args:
        scores: (N,C).
        truth: (N,C) bool.
        objective: of the threshold.
        ignore: (N,C) bool, cells left out.
    """
    scores = np.asarray(scores, np.float64)
    mean, spread = scores.mean(axis=0), scores.std(axis=0)
    standard = (scores - mean) / np.where(spread > 0, spread, 1.0)
    shared = fit_threshold(standard.ravel(), truth.ravel(), objective, ignore.ravel())
    return mean + spread * shared


def shrink(
    thresholds: Thresholds, shared: np.ndarray, positives: np.ndarray, strength: float
) -> Thresholds:
    """Shrink the thresholds per class towards `shared` (C,), more where positives (C,) are few.

    Args:
        thresholds: as fitted.
        shared: from `shared_thresholds`.
        positives: the number of positives that each was fitted on.
        strength: k, 0 or more; 0 changes nothing.
    """
    if not strength:
        return thresholds
    own = positives / (positives + strength)
    shrunk = own * thresholds.per_class + (1 - own) * shared
    return dataclasses.replace(thresholds, per_class=shrunk)


def choose_strength(
    scores: np.ndarray,
    truth: np.ndarray,
    objective: Objective,
    ignore: np.ndarray,
    seed: int = 0,
) -> float:
    """Return the strength of `STRENGTHS` with the best decisions on held-out pictures.

    The counts of all folds are added before rates are computed, because rare classes are absent
    from many folds. Ties go to the weakest strength.

    Args:
        scores: (N,C), of the calibration split.
        truth: (N,C) bool.
        objective: of the thresholds.
        ignore: (N,C) bool, cells left out.
        seed: of the folds.
    """
    pictures = len(scores)
    fold = np.random.default_rng(seed).permutation(pictures) % FOLDS
    counts: list[list[Confusion]] = []
    for held_out in range(min(FOLDS, pictures)):
        fits = fold != held_out
        counted = truth & ~ignore
        if not counted[fits].any():
            return 0.0
        part = scores[fits], truth[fits], objective, ignore[fits]
        fitted, shared = fit_thresholds(*part), shared_thresholds(*part)
        positives = counted[fits].sum(axis=0)
        counts.append(
            [
                confusion(
                    scores[~fits] >= shrink(fitted, shared, positives, strength).per_class,
                    truth[~fits],
                    ignore[~fits],
                )
                for strength in STRENGTHS
            ]
        )
    totals = [
        Confusion(*(np.sum(count, axis=0) for count in zip(*folds, strict=True)))
        for folds in zip(*counts, strict=True)
    ]
    values = [_objective_value(macro(confused), objective) for confused in totals]
    return STRENGTHS[int(np.argmax(np.nan_to_num(values, nan=-np.inf)))]


def _objective_value(rates: dict[str, np.ndarray], objective: Objective) -> float:
    """Return the value of the objective; missing a bound is worse than any value that keeps it."""
    if objective.bound is not None:
        kept = float(rates[objective.metric])
        return float(rates[BOUNDED[objective.metric]]) if kept >= objective.bound else kept - 2
    if objective.metric == "youden":
        return float(rates["sensitivity"] + rates["specificity"] - 1)
    return float(rates[objective.metric])
