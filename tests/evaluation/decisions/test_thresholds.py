"""Thresholds against a search over everything, with ties and degenerate cases."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tfclip.evaluation.decisions.thresholds import (
    candidates,
    fit_threshold,
    fit_thresholds,
    parse_objective,
)


def value_of(objective, truth, predicted):
    """What is to be as high as possible, in exact fractions; None where the bound is not kept."""
    tp, fp = int(np.sum(predicted & truth)), int(np.sum(predicted & ~truth))
    fn, tn = int(np.sum(~predicted & truth)), int(np.sum(~predicted & ~truth))
    sensitivity, specificity = Fraction(tp, tp + fn), Fraction(tn, tn + fp)
    precision = Fraction(tp, tp + fp) if tp + fp else Fraction(-1)
    if objective == "f1":
        return Fraction(2 * tp, 2 * tp + fp + fn)
    if objective == "accuracy":
        return Fraction(tp + tn, len(truth))
    if objective == "youden":
        return sensitivity + specificity
    share, bound = objective.split(">=")
    held, other = {
        "sensitivity": (sensitivity, specificity),
        "specificity": (specificity, sensitivity),
        "precision": (precision, sensitivity),
    }[share]
    return (other, held) if held >= Fraction(bound) else None


OBJECTIVES = ["f1", "accuracy", "youden", "sensitivity>=0.9", "specificity>=0.8", "precision>=0.7"]


@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(deadline=None, max_examples=60)
@given(
    cells=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=14),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_no_threshold_whatever_is_better(objective, cells, dtype):
    scores = np.array([score / 5 for score, _ in cells], dtype)
    truth = np.array([present for _, present in cells])
    chosen = fit_threshold(scores, truth, objective)
    if truth.all() or not truth.any():
        assert np.isnan(chosen)
        return
    every = [value_of(objective, truth, scores >= t) for t in [*scores, scores.max() + 1]]
    reached = [value for value in every if value is not None]
    if reached:
        assert value_of(objective, truth, scores >= chosen) == max(reached)
    else:
        assert objective.startswith("precision") and not (scores >= chosen).any()


def test_candidates_count_as_deciding_does():
    rng = np.random.default_rng(0)
    scores, truth = np.round(rng.random(30), 1), rng.random(30) < 0.4
    thresholds, _, counts = candidates(scores, truth)
    assert len(thresholds) == len(np.unique(scores)) + 1
    assert (np.diff(thresholds) > 0).all()
    for k, threshold in enumerate(thresholds):
        tn, fp, fn, tp = sk.confusion_matrix(truth, scores >= threshold).ravel()
        assert (counts.tp[k], counts.fp[k], counts.tn[k], counts.fn[k]) == (tp, fp, tn, fn)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbouring_floats_are_told_apart_in_either_precision(dtype):
    ladder = [dtype(0.25)]
    for _ in range(5):
        ladder.append(np.nextafter(ladder[-1], dtype(1)))
    scores, truth = np.array(ladder), np.array([0, 1, 0, 1, 0, 1], bool)
    thresholds, _, counts = candidates(scores, truth)
    for threshold, tp in zip(thresholds.tolist(), counts.tp, strict=True):
        # As evaluation decides, and as a served graph with thresholds of the scores' type does.
        assert np.sum(truth & (scores.astype(np.float64) >= threshold)) == tp
        assert np.sum(truth & (scores >= dtype(threshold))) == tp


def test_everything_and_nothing_hold_for_every_cosine():
    scores, truth = np.array([-0.9, 0.1, 0.3, 0.8]), np.array([1, 1, 1, 0], bool)
    assert fit_threshold(scores, truth, "sensitivity>=1") < -1
    assert fit_threshold(scores, truth, "precision>=0.9") > 1


def test_a_bound_that_is_met_exactly_counts_as_met():
    # 7 of 100: as floats, 0.07 * 100 is more than 7.
    scores, truth = -np.arange(101.0), np.arange(101) != 7
    assert fit_threshold(scores, truth, "sensitivity>=0.07") == -6.5


def test_rounding_noise_flips_no_decision():
    rng = np.random.default_rng(1)
    scores, truth = np.round(rng.random(200), 3), rng.random(200) < 0.3
    for objective in OBJECTIVES:
        threshold = fit_threshold(scores, truth, objective)
        noisy = scores + rng.uniform(-4e-4, 4e-4, 200)
        np.testing.assert_array_equal(noisy >= threshold, scores >= threshold)


def test_a_class_told_apart_perfectly_is_cut_in_the_middle():
    scores, truth = np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1], bool)
    for objective in ("f1", "accuracy", "youden"):
        assert fit_threshold(scores, truth, objective) == pytest.approx(0.4)


def test_ties_go_to_the_widest_gap_then_to_the_lowest():
    # Accuracy is 3/4 at 0.15 and at 0.6: the gap around 0.6 is wider.
    scores, truth = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 1, 0, 1], bool)
    assert fit_threshold(scores, truth, "accuracy") == pytest.approx(0.6)
    # Equal gaps: the lower one.
    scores = np.array([0.1, 0.2, 0.3, 0.4])
    assert fit_threshold(scores, truth, "accuracy") == pytest.approx(0.15)


def test_equal_scores_are_all_predicted_or_none():
    scores = np.full(10, 0.25)
    few, most = np.arange(10) < 3, np.arange(10) < 7
    assert fit_threshold(scores, few, "f1") < 0.25
    assert fit_threshold(scores, few, "accuracy") > 0.25
    assert fit_threshold(scores, most, "accuracy") < 0.25
    assert fit_threshold(scores, few, "specificity>=0.5") > 0.25


def test_bounds_keep_the_other_share_as_high_as_possible():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    truth = np.array([0, 1, 0, 0, 1, 1], bool)
    assert fit_threshold(scores, truth, "sensitivity>=0.6") == pytest.approx(0.45)
    assert fit_threshold(scores, truth, "sensitivity>=1") == pytest.approx(0.15)
    assert fit_threshold(scores, truth, "specificity>=1") == pytest.approx(0.45)
    assert fit_threshold(scores, truth, "precision>=0.75") == pytest.approx(0.45)


def test_a_precision_out_of_reach_predicts_nothing():
    scores, truth = np.array([0.9, 0.5, 0.1]), np.array([0, 1, 0], bool)
    assert fit_threshold(scores, truth, "precision>=0.9") > 0.9


def test_ignored_cells_do_not_count():
    scores = np.array([0.1, 0.5, 0.7, 0.9])
    truth = np.array([0, 1, 0, 1], bool)
    ignore = np.array([0, 0, 1, 0], bool)
    assert fit_threshold(scores, truth, "f1", ignore) == pytest.approx(0.3)
    assert np.isnan(fit_threshold(scores, truth, "f1", truth))
    with pytest.raises(ValueError, match="one \\(N,\\) shape"):
        fit_threshold(scores, truth[:3], "f1")


def test_a_class_without_positives_takes_the_threshold_of_all():
    rng = np.random.default_rng(2)
    scores, truth = rng.random((40, 3)), rng.random((40, 3)) < 0.4
    truth[:, 1] = False
    fitted = fit_thresholds(scores, truth, "f1")
    assert fitted.from_overall == (1,)
    assert fitted.per_class[1] == fitted.overall == fit_threshold(scores.ravel(), truth.ravel())
    assert fitted.per_class[2] == fit_threshold(scores[:, 2], truth[:, 2])
    with pytest.raises(ValueError, match="no positive or no negative"):
        fit_thresholds(scores, np.zeros_like(truth), "f1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f2", "unknown objective 'f2'; known, nearest first: f1"),
        ("sensitivity", "unknown objective .* sensitivity:0.9"),
        ("f1>=0.5", "unknown objective"),
        ("precision>=1.2", "at most 1"),
        ("specificity>=", "the bound must be"),
        ("specificity>=nan", "the bound must be"),
    ],
)
def test_objectives_that_do_not_exist_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_objective(text)


def test_objectives_are_read():
    assert parse_objective("youden") == ("youden", None)
    assert parse_objective(" specificity >= 0.95 ") == ("specificity", 0.95)
    assert parse_objective("specificity:0.95") == ("specificity", 0.95)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="all finite"):
        fit_threshold(np.array([0.1, np.nan]), np.array([True, False]))
