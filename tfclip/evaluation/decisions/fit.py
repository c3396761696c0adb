"""Fits thresholds and calibrations on a calibration split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tfclip.evaluation.decisions.calibration import CALIBRATIONS, Calibration
from tfclip.evaluation.decisions.calibration_fit import fit_calibration
from tfclip.evaluation.decisions.false_positive_rate import negatives_thresholds
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.decisions.scored_images import ScoredPictures
from tfclip.evaluation.decisions.shrinkage import choose_strength, shared_thresholds, shrink
from tfclip.evaluation.decisions.thresholds import (
    Objective,
    Thresholds,
    fit_thresholds,
    parse_objective,
)


@dataclass(frozen=True)
class Fitted:
    """Everything that is fitted on a calibration split.

    Attributes:
        thresholds: those in use.
        unshrunk: thresholds fitted to each class alone.
        strength: of the shrinkage.
        softmax: thresholds on the softmax over the classes, fitted in the same way.
        calibrations: by kind; empty without labelled pictures.
        softmax_of: function that returns the softmax over the classes of scores (N,C), at the
            model's temperature.
    """

    thresholds: Thresholds
    unshrunk: Thresholds
    strength: float
    softmax: Thresholds
    calibrations: Mapping[str, Calibration]
    softmax_of: Callable[[np.ndarray], np.ndarray]


def fit_all(calibration: ScoredPictures, options: MultilabelOptions, logit_scale: float) -> Fitted:
    """Fit thresholds and probabilities on a calibration split, or on pictures without labels.

    Args:
        calibration: with its fusion. With `options.false_positives` its labels are unknown, and
            `difficult` marks the classes that a picture may show.
        options: of the measurement.
        logit_scale: the temperature of the softmax.

    Raises:
        ValueError: the split has no positive or no negative.
    """

    def softmax_of(scores: np.ndarray) -> np.ndarray:
        return softmax(logit_scale * scores)

    scores, ignore = calibration.scores, calibration.difficult
    if options.false_positives is not None:
        fitted, of_softmax = (
            negatives_thresholds(each, ignore, options.false_positives)
            for each in (scores, softmax_of(scores))
        )
        return Fitted(fitted, fitted, 0.0, of_softmax, {}, softmax_of)
    objective, truth = parse_objective(options.objective), calibration.truth
    seed = options.seed if options.shrink else None
    used, alone, strength = shrunk_thresholds(scores, truth, objective, ignore, seed)
    return Fitted(
        used,
        alone,
        strength,
        fit_thresholds(softmax_of(scores), truth, objective, ignore),
        {kind: fit_calibration(kind, scores, truth, ignore) for kind in CALIBRATIONS},
        softmax_of,
    )


def shrunk_thresholds(
    scores: np.ndarray,
    truth: np.ndarray,
    objective: Objective,
    ignore: np.ndarray,
    seed: int | None,
) -> tuple[Thresholds, Thresholds, float]:
    """Fit thresholds for an objective, and shrink those of rare classes towards a shared one.

    Args:
        scores, truth, ignore: (N,C) of a calibration split.
        objective: of the thresholds.
        seed: of the folds that choose the strength; None does not shrink.

    Returns:
        The thresholds in use, those fitted to each class alone, and the strength.
    """
    alone = fit_thresholds(scores, truth, objective, ignore)
    if seed is None:
        return alone, alone, 0.0
    shared = shared_thresholds(scores, truth, objective, ignore)
    strength = choose_strength(scores, truth, objective, ignore, seed)
    return shrink(alone, shared, truth.sum(axis=0), strength), alone, strength


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
