"""Class embeddings from a few labelled pictures: ridge regression that starts from class texts.

The weights w of a class minimise ||y - X w||^2 + strength ||w - weight text||^2, with the centred
labels y and the centred embeddings X of the pictures: in closed form the class text, plus a ridge
solution for the residual of the text. In the limit of infinite strength only the text remains,
which is zero-shot classification. Texts, their weight and the strength are chosen by
cross-validation over the classes with a positive in each fold; if these are less than half of all
classes, or no setting is significantly better, `TEXT_WEIGHT` and `STRENGTH` are used.

The weights are normalised to unit length, so that scores are still cosines of pictures and classes,
and thresholds and exports work without changes. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from tfclip.evaluation.metrics.multilabel import average_precision, mean_defined

FOLDS = 5
STRENGTHS = (0.3, 1.0, 3.0, 10.0)
"""As multiples of the mean eigenvalue of the pictures' covariance, times their number."""
TEXT_WEIGHTS = (1.0, 2.0, 4.0)
"""As multiples of the slope of the regression of the labels on the texts' scores."""
STRENGTH, TEXT_WEIGHT = 3.0, 2.0
"""The defaults: near the best for 1 to 16 pictures per class, by benchmarks.few_labels."""
ERRORS = 1.0
"""The gain, in standard errors over classes, above which another setting is chosen."""


@dataclass(frozen=True)
class Setting:
    """The weighting of labels and texts.

    Attributes:
        texts: the name of the texts that the classes start from.
        text_weight: one of `TEXT_WEIGHTS`.
        strength: one of `STRENGTHS`; None for the texts alone (zero-shot).
    """

    texts: str
    text_weight: float = TEXT_WEIGHT
    strength: float | None = None


@dataclass(frozen=True)
class FewLabels:
    """The fitted classes.

    Attributes:
        classes: (C,D) float32 of unit norm, used like the embeddings of class texts.
        setting: the chosen setting.
        held_out: (N,C) float32 cosines of the labelled pictures with classes fitted without them,
            for thresholds and calibration.
        tried: the cross-validated average precision (C,) of each setting, NaN for classes with
            fewer than `FOLDS` positives.
    """

    classes: np.ndarray
    setting: Setting
    held_out: np.ndarray
    tried: Mapping[Setting, np.ndarray]


def fit_few_labels(
    images: np.ndarray,
    present: np.ndarray,
    difficult: np.ndarray,
    texts: Mapping[str, np.ndarray],
    seed: int = 0,
) -> FewLabels:
    """Fit one embedding per class.

    Args:
        images: (N,D) embeddings of labelled pictures.
        present: (N,C) bool.
        difficult: (N,C) bool, a subset of `present`: cells that are neither positive nor negative.
        texts: by name, (C,D) embeddings of class texts of unit norm; the first are those of
            zero-shot classification.
        seed: random seed of the folds.

    Raises:
        ValueError: no picture shows a class, or the shapes differ.
    """
    images = np.asarray(images, np.float64)
    if len(images) != len(present) or not (present & ~difficult).any():
        raise ValueError(
            f"received {len(images)} embeddings and labels of {len(present)} pictures, "
            f"{int(present.any(axis=1).sum())} of which show a class; at least one must"
        )
    # The products are too small for several BLAS threads.
    with threadpool_limits(1, user_api="blas"):
        fold = _folds(present & ~difficult, seed)
        settings = _settings(texts)
        held_out = {setting: np.zeros(present.shape) for setting in settings}
        for part in np.unique(fold):
            test = fold == part
            solver = _Solver(images[~test], present[~test], difficult[~test])
            for setting in settings:
                classes = solver.classes(texts[setting.texts], setting)
                held_out[setting][test] = images[test] @ classes.T
        is_rare = (present & ~difficult).sum(axis=0) < FOLDS
        tried = {
            setting: np.where(is_rare, np.nan, average_precision(scores, present, difficult))
            for setting, scores in held_out.items()
        }
        chosen = _choose(tried, Setting(settings[0].texts, TEXT_WEIGHT, STRENGTH))
        classes = _Solver(images, present, difficult).classes(texts[chosen.texts], chosen)
    return FewLabels(classes.astype(np.float32), chosen, held_out[chosen].astype(np.float32), tried)


def _settings(texts: Mapping[str, np.ndarray]) -> list[Setting]:
    """Return all settings, zero-shot with the first texts first."""
    return [Setting(name) for name in texts] + [
        Setting(name, weight, strength)
        for name in texts
        for strength in reversed(STRENGTHS)
        for weight in reversed(TEXT_WEIGHTS)
    ]


def _folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return folds (N,) that divide the pictures of each class evenly, the rarest class first."""
    rng = np.random.default_rng(seed)
    fold = np.full(len(labels), -1)
    following = int(rng.integers(FOLDS))
    for c in [*np.argsort(labels.sum(axis=0), kind="stable"), None]:
        rows = np.flatnonzero((fold < 0) & (True if c is None else labels[:, c]))
        for row in rng.permutation(rows):
            fold[row] = following % FOLDS
            following += 1
    return fold


class _Solver:
    """Solutions for one set of pictures at every strength, from one decomposition."""

    def __init__(self, images: np.ndarray, present: np.ndarray, difficult: np.ndarray):
        self._centred = images - images.mean(axis=0)
        counted = ~difficult
        positives = present & counted
        rate = positives.sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
        # Difficult cells have the mean, so that they have no influence.
        self._labels = np.where(counted, positives, rate) - rate
        self._values, self._vectors = np.linalg.eigh(self._centred @ self._centred.T)
        self._values = np.maximum(self._values, 0.0)
        self._unit = self._values.sum() / max(1, min(self._centred.shape))

    def classes(self, texts: np.ndarray, setting: Setting) -> np.ndarray:
        """Return the class embeddings (C,D) of unit norm."""
        texts = np.asarray(texts, np.float64)
        if setting.strength is None:
            return _unit_norm(texts)
        scored = self._centred @ texts.T
        slope = (scored * self._labels).sum() / max((scored * scored).sum(), 1e-12)
        weight = setting.text_weight * max(slope, 1e-6)
        rest = self._labels - weight * scored
        within = self._vectors.T @ rest / (self._values + setting.strength * self._unit)[:, None]
        learnt = self._centred.T @ (self._vectors @ within)
        return _unit_norm(weight * texts + learnt.T)


def _unit_norm(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def _choose(tried: Mapping[Setting, np.ndarray], default: Setting) -> Setting:
    """Return the best setting if it is significantly better than the default, or else the default;
    zero-shot if that is significantly better than the choice."""
    best = max(tried, key=lambda setting: np.nan_to_num(mean_defined(tried[setting]), nan=-1.0))
    chosen = best if _is_better(tried[best], tried[default]) else default
    zero_shot = Setting(default.texts)
    return zero_shot if _is_better(tried[zero_shot], tried[chosen]) else chosen


def _is_better(one: np.ndarray, other: np.ndarray) -> bool:
    gains = (one - other)[~np.isnan(one - other)]
    # A few classes are no evidence.
    if len(gains) < max(2, len(one) / 2):
        return False
    return bool(gains.mean() > ERRORS * gains.std(ddof=1) / np.sqrt(len(gains)))
