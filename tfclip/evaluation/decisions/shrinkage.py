"""Thresholds of classes with few positives are drawn towards one that all classes share.

A class with n positives gets (n own + k shared) / (n + k): the fewer positives, the nearer to what
all classes say together (James and Stein's idea, for one number per class). Cosines of one class
lie higher than those of another, so what is shared is a threshold on standardised scores, brought
back to each class's own mean and spread, which need no label. How strong k is, cross-validation on
the calibration split decides: 0, no shrinking, is tried too.
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
    """One threshold on standardised scores, as a cosine of each class: (C,) float64.

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
    """Draw the thresholds per class towards `shared` (C,), the more the fewer positives (C,) are.

    Args:
        thresholds: as fitted.
        shared: from `shared_thresholds`.
        positives: positives of each class that they were fitted on.
        strength: k, 0 or more; 0 changes nothing.
    """
    if not strength:
        return thresholds
    own = positives / (positives + strength)
    drawn = own * thresholds.per_class + (1 - own) * shared
    return dataclasses.replace(thresholds, per_class=drawn)


def choose_strength(
    scores: np.ndarray,
    truth: np.ndarray,
    objective: Objective,
    ignore: np.ndarray,
    seed: int = 0,
) -> float:
    """Return the strength of `STRENGTHS` whose thresholds decide best on pictures left out.

    Counts of all folds are added before the shares are taken: a class that is rare is absent from
    many folds. Of strengths that are equal the weakest is taken.

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
    summed = [
        Confusion(*(np.sum(count, axis=0) for count in zip(*folds, strict=True)))
        for folds in zip(*counts, strict=True)
    ]
    reached = [_reached(macro(confused), objective) for confused in summed]
    return STRENGTHS[int(np.argmax(np.nan_to_num(reached, nan=-np.inf)))]


def _reached(shares: dict[str, np.ndarray], objective: Objective) -> float:
    """How well the objective is met; what misses a bound stands below all that keep it."""
    if objective.bound is not None:
        kept = float(shares[objective.share])
        return float(shares[BOUNDED[objective.share]]) if kept >= objective.bound else kept - 2
    if objective.share == "youden":
        return float(shares["sensitivity"] + shares["specificity"] - 1)
    return float(shares[objective.share])
