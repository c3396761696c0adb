"""Thresholds from negatives: the rate they promise holds over draws, and captions tell related."""

import numpy as np
import pytest

from tfclip.evaluation.datasets.multilabel_images import related_pictures
from tfclip.evaluation.decisions.false_positive_rate import (
    negatives_threshold,
    negatives_thresholds,
)


def test_the_threshold_lies_just_above_the_promised_rank():
    scores = np.arange(1, 100) / 100  # 99 scores: rank (99 + 1) * 0.95 = 95
    found = negatives_threshold(scores, 0.05)
    assert found == np.nextafter(0.95, 1)
    assert (scores >= found).sum() == 4
    single = scores.astype(np.float32)
    found = negatives_threshold(single, 0.05)
    assert not np.float32(0.95) >= found and np.float32(0.96) >= found


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("ties", [False, True])
def test_one_more_negative_is_predicted_at_most_at_that_rate(rate, ties):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(4000):
        drawn = rng.normal(size=200)
        drawn = np.round(drawn) if ties else drawn
        hits += drawn[0] >= negatives_threshold(drawn[1:], rate)
    # Four standard errors; without ties the rate is reached, and not only kept.
    error = 4 * np.sqrt(rate * (1 - rate) / 4000)
    assert hits / 4000 <= rate + error
    assert ties or hits / 4000 >= rate - 1 / 200 - error


def test_too_few_negatives_promise_nothing_and_predict_nothing():
    assert negatives_threshold(np.array([0.1, 0.9]), 0.05) > 2.5
    for scores, rate in (([], 0.1), ([0.1], 0.0), ([np.nan], 0.1)):
        with pytest.raises(ValueError, match="allowed: finite scores"):
            negatives_threshold(np.array(scores), rate)


def test_related_pictures_are_left_out():
    scores = np.array([[0.1, 0.5], [0.9, 0.6], [0.2, 0.7]])
    related = np.array([[False, False], [True, False], [False, True]])
    found = negatives_thresholds(scores, related, 0.5)
    assert found.per_class[0] == np.nextafter(0.2, 1)
    assert found.per_class[1] == np.nextafter(0.6, 1)
    assert found.overall == np.nextafter(0.5, 1)


def test_a_class_is_related_when_a_caption_names_it_in_whole_words():
    captions = [
        ["Two Dogs run.", "a bird"],
        ["a dogged man eats a hotdog", "buses"],
        ["he sits at the dining table"],
        [],
    ]
    names = [("dog",), ("bus",), ("diningtable", "dining table"), ("cat", "bird")]
    expected = [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(related_pictures(captions, names), np.array(expected, bool))
