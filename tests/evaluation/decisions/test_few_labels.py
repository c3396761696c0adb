"""Ridge regression that starts from texts: against scikit-learn and closed forms."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tfclip.evaluation.decisions.few_labels import (
    FOLDS,
    STRENGTH,
    TEXT_WEIGHT,
    Setting,
    _folds,
    _Solver,
    fit_few_labels,
)
from tfclip.evaluation.metrics.multilabel import average_precision, mean_defined


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def world():
    """Pictures around their classes, and texts that are only roughly there."""
    rng = np.random.default_rng(2)
    true = rng.normal(size=(4, 24))

    def pictures(count):
        present = rng.random((count, 4)) < 0.3
        return unit(present @ true + rng.normal(0, 0.8, (count, 24))), present

    texts = {"rough": unit(true + rng.normal(0, 2.5, true.shape)), "noise": unit(true[::-1])}
    return pictures(80), pictures(400), texts


def test_the_solution_is_that_of_a_ridge_regression_of_the_rest(world):
    (images, present), _, texts = world
    none = np.zeros_like(present)
    solver = _Solver(images, present, none)
    for setting in (Setting("rough", 2.0, 1.0), Setting("rough", 1.0, 0.3)):
        centred = images - images.mean(axis=0)
        labels = present - present.mean(axis=0)
        scored = centred @ texts["rough"].T
        slope = np.linalg.lstsq(scored.reshape(-1, 1), labels.ravel(), rcond=None)[0][0]
        weight = setting.text_weight * slope
        eigenvalues = np.linalg.eigvalsh(centred.T @ centred)
        model = Ridge(alpha=setting.strength * eigenvalues.mean(), fit_intercept=False)
        learnt = model.fit(centred, labels - weight * scored).coef_
        expected = unit(weight * texts["rough"] + learnt)
        np.testing.assert_allclose(solver.classes(texts["rough"], setting), expected, atol=1e-8)


def test_without_bound_the_strength_leaves_the_texts(world):
    (images, present), _, texts = world
    solver = _Solver(images, present, np.zeros_like(present))
    strong = solver.classes(texts["rough"], Setting("rough", 1.0, 1e9))
    np.testing.assert_allclose(strong, texts["rough"], atol=1e-6)
    np.testing.assert_array_equal(
        solver.classes(texts["rough"], Setting("rough")), unit(texts["rough"])
    )


def test_labels_help_on_other_pictures_and_held_out_scores_do_not_flatter(world):
    (images, present), (others, theirs), texts = world
    none = np.zeros_like(present)
    learnt = fit_few_labels(images, present, none, texts)
    zero_shot = mean_defined(average_precision(others @ texts["rough"].T, theirs))
    gained = mean_defined(average_precision(others @ learnt.classes.T, theirs))
    assert gained > zero_shot + 0.05
    np.testing.assert_allclose(np.linalg.norm(learnt.classes, axis=1), 1, rtol=1e-6)
    held_out = mean_defined(average_precision(learnt.held_out, present))
    on_own = mean_defined(average_precision(images @ learnt.classes.T, present))
    assert abs(held_out - gained) < 0.08 < on_own - held_out + 0.08
    assert learnt.setting.texts in texts


def test_good_texts_are_not_spoilt_by_few_labels(world):
    (images, present), (others, theirs), _ = world
    right = {"right": unit(np.linalg.lstsq(others, theirs - theirs.mean(0), rcond=None)[0].T)}
    few = np.arange(12)
    learnt = fit_few_labels(images[few], present[few], np.zeros((12, 4), bool), right)
    zero_shot = mean_defined(average_precision(others @ right["right"].T, theirs))
    assert mean_defined(average_precision(others @ learnt.classes.T, theirs)) > zero_shot - 0.02
    # No class has enough pictures to choose by: the default.
    few = np.array([np.flatnonzero(present[:, c])[0] for c in range(4)])
    learnt = fit_few_labels(
        images[few],
        present[few] & np.eye(4, dtype=bool),
        present[few] & ~np.eye(4, dtype=bool),
        right,
    )
    assert learnt.setting == Setting("right", TEXT_WEIGHT, STRENGTH)


def test_difficult_cells_pull_nowhere(world):
    (images, present), _, texts = world
    difficult = present & (np.random.default_rng(1).random(present.shape) < 0.3)
    solver = _Solver(images, present, difficult)
    rows = np.flatnonzero(difficult[:, 0])
    assert len(rows) and np.allclose(solver._labels[rows, 0], 0)


def test_folds_spread_the_rare_classes():
    known = np.zeros((50, 3), bool)
    known[:FOLDS, 0], known[10:40, 1] = True, True
    fold = _folds(known, 0)
    assert sorted(fold[:FOLDS]) == list(range(FOLDS))
    assert np.bincount(fold[10:40]).min() >= 5 and np.bincount(fold).max() <= 12


def test_nothing_to_learn_is_refused(world):
    (images, present), _, texts = world
    with pytest.raises(ValueError, match="at least one must"):
        fit_few_labels(images, present & False, present & False, texts)
