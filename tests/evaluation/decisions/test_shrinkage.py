"""Shrunk thresholds: their formula, and a strength that decides better on pictures left out."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tfclip.evaluation.decisions.shrinkage import (
    STRENGTHS,
    choose_strength,
    shared_thresholds,
    shrink,
)
from tfclip.evaluation.decisions.thresholds import (
    Objective,
    Thresholds,
    fit_thresholds,
    parse_objective,
)


def test_the_formula():
    fitted = Thresholds(np.array([0.1, 0.3, 0.5]), 0.2, ())
    shared = np.array([0.2, 0.4, 0.9])
    found = shrink(fitted, shared, np.array([0, 10, 30]), 10.0)
    np.testing.assert_allclose(found.per_class, [0.2, 0.35, 0.6])
    assert found.overall == 0.2 and shrink(fitted, shared, np.zeros(3), 0.0) is fitted


def test_what_is_shared_follows_the_mean_and_spread_of_each_class():
    scores, truth = draw(500, 100, np.zeros(3), 0)
    none = np.zeros_like(truth)
    shared = shared_thresholds(scores, truth, Objective("f1"), none)
    assert shared == pytest.approx(fit_thresholds(scores, truth).overall, abs=0.3)
    scale, offset = np.array([0.01, 1.0, 7.0]), np.array([0.3, 0.0, -40.0])
    moved = shared_thresholds(scores * scale + offset, truth, Objective("f1"), none)
    np.testing.assert_allclose(moved, shared * scale + offset)
    constant = np.full((4, 1), 0.3)
    found = shared_thresholds(constant, np.eye(4, 1, dtype=bool), Objective("f1"), none[:4, :1])
    np.testing.assert_allclose(found, 0.3)


def draw(pictures, positives, offsets, seed):
    """Classes whose best thresholds are `offsets`, with few positives each."""
    rng = np.random.default_rng(seed)
    truth = rng.random((pictures, len(offsets))) < positives / pictures
    noise = rng.normal(0, 1, truth.shape)
    return noise + 2 * truth + offsets, truth


def test_classes_alike_with_few_positives_are_shrunk_and_decide_better():
    offsets = np.linspace(-6, 6, 20)
    scores, truth = draw(200, 6, offsets, 0)
    none = np.zeros_like(truth)
    strength = choose_strength(scores, truth, Objective("f1"), none)
    assert strength > 0
    fitted = fit_thresholds(scores, truth)
    shared = shared_thresholds(scores, truth, Objective("f1"), none)
    shrunk = shrink(fitted, shared, truth.sum(axis=0), strength)
    scores, truth = draw(5000, 150, offsets, 1)
    alone, drawn = (
        f1_score(truth, scores >= thresholds.per_class, average="macro")
        for thresholds in (fitted, shrunk)
    )
    assert drawn > alone + 0.01


def test_classes_unlike_with_many_positives_are_left_alone():
    # The best threshold lies elsewhere in the scores of a frequent class than in those of a rare.
    rng = np.random.default_rng(0)
    truth = rng.random((2000, 10)) < np.linspace(0.02, 0.9, 10)
    scores = rng.normal(size=truth.shape) + 2 * truth
    assert choose_strength(scores, truth, Objective("f1"), np.zeros_like(truth)) <= 5


@pytest.mark.parametrize("objective", ["accuracy", "youden", "sensitivity>=0.9", "precision>=0.99"])
def test_every_objective_has_a_strength(objective):
    scores, truth = draw(60, 5, np.zeros(4), 0)
    ignore = np.random.default_rng(0).random(truth.shape) < 0.1
    found = choose_strength(scores, truth, parse_objective(objective), ignore)
    assert found in STRENGTHS


def test_one_picture_or_one_positive_is_not_shrunk():
    truth = np.array([[True, False]])
    none = np.zeros_like(truth)
    assert choose_strength(np.array([[0.2, 0.1]]), truth, Objective("f1"), none) == 0
    scores, truth = np.arange(12.0).reshape(6, 2), np.zeros((6, 2), bool)
    truth[3, 0] = True
    assert choose_strength(scores, truth, Objective("f1"), np.zeros_like(truth)) == 0
