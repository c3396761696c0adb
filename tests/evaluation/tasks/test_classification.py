"""Top-k accuracy against scikit-learn, and where ties and few classes lead."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from tfclip.evaluation.metrics.top_k import mean_per_class_recall, top_k


def test_top_k_is_scikit_learns_without_ties():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 12, 200)
    scores = rng.normal(size=(200, 12)) + np.eye(12)[truth]
    ours = top_k(scores, truth)
    assert list(ours) == ["top1", "top5", "top10"]
    for k in (1, 5, 10):
        theirs = top_k_accuracy_score(truth, scores, k=k, labels=np.arange(12))
        assert ours[f"top{k}"] == pytest.approx(theirs, abs=1e-12)
    assert 0 < ours["top1"] < ours["top5"] < ours["top10"] < 1


def test_a_tie_stands_before_the_true_class():
    scores = np.array([[0.5, 0.5, 0.1], [0.1, 0.2, 0.2], [0.9, 0.2, 0.2]])
    assert top_k(scores, np.array([0, 2, 0]), (1, 2)) == {"top1": pytest.approx(1 / 3), "top2": 1.0}
    assert top_k(np.zeros((6, 11)), np.arange(6)) == {"top1": 0.0, "top5": 0.0, "top10": 0.0}


def test_as_many_classes_as_guesses_are_always_right():
    assert top_k(np.zeros((4, 5)), np.arange(4)) == {"top1": 0.0, "top5": 1.0, "top10": 1.0}


def test_one_picture_one_class():
    assert top_k([[0.3]], [0]) == {"top1": 1.0, "top5": 1.0, "top10": 1.0}


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (np.zeros((0, 3)), [], "N above 0"),
        (np.zeros((2, 3)), [0], "allowed: \\(N,C\\), \\(N,\\)"),
        (np.zeros((2, 3)), [0, 3], "a class outside 0..2"),
        (np.zeros((2, 3)), [-1, 0], "a class outside 0..2"),
        (np.array([[np.nan, 0.0]]), [0], "must be finite"),
    ],
)
def test_what_cannot_be_counted_is_refused(scores, truth, message):
    with pytest.raises(ValueError, match=message):
        top_k(scores, np.array(truth, int))


def test_mean_per_class_recall_is_scikit_learns_balanced_accuracy():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 200)
    scores = rng.normal(size=(200, 6)) + 1.5 * np.eye(6)[truth]
    expected = balanced_accuracy_score(truth, scores.argmax(axis=1))
    assert mean_per_class_recall(scores, truth) == pytest.approx(expected)
    assert mean_per_class_recall(np.zeros((3, 2)), np.array([0, 0, 1])) == 0
