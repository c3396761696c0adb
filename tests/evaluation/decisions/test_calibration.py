"""Probabilities against scikit-learn and a likelihood minimised apart; errors against a loop."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tfclip.evaluation.decisions.calibration import Isotonic, Platt, calibration_from_dict
from tfclip.evaluation.decisions.calibration_fit import fit_calibration
from tfclip.evaluation.metrics.calibration_error import expected_calibration_error, reliability


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    truth = rng.random((400, 3)) < (0.1, 0.5, 0.02)
    scores = rng.normal(0.2, 0.03, truth.shape) + 0.05 * truth
    return scores.astype(np.float32), truth, rng.random(truth.shape) < 0.05


def test_platt_maximises_the_likelihood_of_his_smoothed_targets(drawn):
    scores, truth, ignore = drawn
    found = fit_calibration("platt", scores, truth, ignore)
    assert isinstance(found, Platt)
    for c in range(3):
        kept = ~ignore[:, c]
        x, y = scores[kept, c].astype(np.float64), truth[kept, c]
        target = np.where(y, (y.sum() + 1) / (y.sum() + 2), 1 / ((~y).sum() + 2))

        def loss(ab, x=x, target=target):
            p = expit(ab[0] * (x - 0.2) * 10 + ab[1])
            return -np.sum(target * np.log(p) + (1 - target) * np.log(1 - p))

        slope, middle = minimize(loss, [1.0, 0.0], tol=1e-12).x
        expected = expit(slope * (x - 0.2) * 10 + middle)
        np.testing.assert_allclose(found.probabilities(scores)[kept, c], expected, atol=1e-4)


def test_isotonic_is_scikit_learns_within_and_beyond_the_scores(drawn):
    scores, truth, ignore = drawn
    found = fit_calibration("isotonic", scores, truth, ignore)
    assert isinstance(found, Isotonic)
    asked = np.tile(np.linspace(-1, 1, 301)[:, None], 3)
    for c in range(3):
        kept = ~ignore[:, c]
        model = IsotonicRegression(out_of_bounds="clip", y_min=0, y_max=1)
        model.fit(scores[kept, c].astype(np.float64), truth[kept, c])
        expected = model.predict(asked[:, c])
        np.testing.assert_allclose(found.probabilities(asked)[:, c], expected, atol=1e-6)


def test_isotonic_is_scikit_learns_where_scores_are_equal():
    rng = np.random.default_rng(1)
    scores, truth = rng.integers(0, 6, 60) / 10, rng.random(60) < 0.4
    found = fit_calibration("isotonic", scores[:, None], truth[:, None])
    model = IsotonicRegression(out_of_bounds="clip", y_min=0, y_max=1).fit(scores, truth)
    asked = np.linspace(-0.1, 0.7, 41)
    np.testing.assert_allclose(found.probabilities(asked[:, None])[:, 0], model.predict(asked))


def test_platt_is_scikit_learns_also_for_scores_that_separate_the_classes():
    truth = np.arange(30) < 5
    for scores in (np.where(truth, 0.5, 0.2), np.linspace(0.4, 0.1, 30)):
        found = fit_calibration("platt", scores[:, None], truth[:, None])
        model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000, solver="newton-cholesky")
        target = np.where(truth, 6 / 7, 1 / 27)
        rows = np.tile(10 * (scores - scores.mean()), 2)[:, None]
        weights = np.concatenate([target, 1 - target])
        model.fit(rows, np.repeat([True, False], 30), sample_weight=weights)
        expected = model.predict_proba(rows[:30])[:, 1]
        np.testing.assert_allclose(found.probabilities(scores[:, None])[:, 0], expected, atol=1e-7)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_class_that_fixes_nothing_gets_the_curve_of_all(drawn, kind):
    scores, truth, ignore = drawn
    truth = truth & ~ignore
    truth[:, 1] = False
    found = fit_calibration(kind, scores, truth, ignore).probabilities(scores)
    kept = ~ignore
    pooled = fit_calibration(kind, scores[kept][:, None], truth[kept][:, None])
    np.testing.assert_allclose(found[:, 1], pooled.probabilities(scores[:, 1:2])[:, 0], atol=1e-9)
    assert (np.diff(found[np.argsort(scores[:, 1]), 1]) >= 0).all()
    truth[:] = False
    with pytest.raises(ValueError, match="needs positives and negatives"):
        fit_calibration(kind, scores, truth)


def test_a_score_that_misleads_leaves_the_frequency_of_the_class():
    truth = np.arange(40)[:, None] < 10
    found = fit_calibration("platt", np.where(truth, 0.1, 0.2), truth)
    assert found.slope == [0]
    np.testing.assert_allclose(found.probabilities([[0.1], [0.2]]), 0.25, atol=0.03)


def test_constant_scores_and_one_class():
    truth = np.array([[True], [False], [False]])
    for kind in ("platt", "isotonic"):
        found = fit_calibration(kind, np.full((3, 1), 0.3), truth).probabilities([[0.3]])
        assert 0.2 < found[0, 0] < 0.5


def test_the_error_is_that_of_a_loop_over_bins(drawn):
    scores, truth, ignore = drawn
    promised = np.clip((scores - 0.1) * 5, 0, 1)
    promised[0, 0], ignore[0, 0] = 1.0, False
    total, cells = 0.0, (~ignore).sum()
    for low in np.arange(15) / 15:
        inside = (promised >= low) & (promised < low + 1 / 15) & ~ignore
        if low > 0.9:
            inside |= (promised == 1) & ~ignore
        if inside.any():
            total += inside.sum() * abs(promised[inside].mean() - truth[inside].mean())
    found = expected_calibration_error(promised, truth, ignore)
    assert found == pytest.approx(total / cells, abs=1e-4)
    assert np.isnan(expected_calibration_error(promised, truth, np.ones_like(ignore)))
    assert reliability(promised, truth, ignore)[0].sum() == cells


def test_calibration_lowers_the_error_on_other_pictures(drawn):
    scores, truth, _ = drawn
    half = np.arange(400) < 200
    before = expected_calibration_error(np.full((200, 3), 0.9), truth[~half])
    for kind in ("platt", "isotonic"):
        fitted = fit_calibration(kind, scores[half], truth[half])
        after = expected_calibration_error(fitted.probabilities(scores[~half]), truth[~half])
        assert after < 0.05 < before


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_a_calibration_is_read_back_for_any_choice_of_classes(drawn, kind):
    scores, truth, _ = drawn
    fitted = fit_calibration(kind, scores, truth)
    content = fitted.to_dict(["a", "b", "c"])
    again = calibration_from_dict(content, ["c", "a"])
    expected = fitted.probabilities(scores)[:, [2, 0]]
    np.testing.assert_allclose(again.probabilities(scores[:, [2, 0]]), expected, atol=1e-12)
    with pytest.raises(KeyError):
        calibration_from_dict(content, ["d"])
