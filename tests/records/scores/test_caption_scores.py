"""Scores of captions against one pair of embeddings at a time."""

import numpy as np
import pytest

from tfclip.records.scores.caption_scores import CaptionScores, joined, scores_of

COUNTS = (5, 1, 3, 0, 2)


def unit(rng, rows):
    vectors = rng.normal(size=(rows, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("float32")


def test_scores_are_those_of_single_pairs():
    rng = np.random.default_rng(0)
    pictures, captions = unit(rng, len(COUNTS)), unit(rng, sum(COUNTS))
    owner = np.repeat(np.arange(len(COUNTS)), COUNTS)
    scores = scores_of(pictures, captions, owner)
    for at, caption in enumerate(captions):
        others = [c for o, c in enumerate(captions) if owner[o] == owner[at] and o != at]
        assert scores.cosines[at] == pytest.approx(pictures[owner[at]] @ caption, abs=1e-6)
        if len(others) >= 2:
            mean = np.mean([other @ caption for other in others])
            assert scores.agreements[at] == pytest.approx(mean, abs=1e-6)
        else:
            assert np.isnan(scores.agreements[at])
    captions[3, 0] = np.nan
    with pytest.raises(ValueError, match="the model diverged"):
        scores_of(pictures, captions, owner)


def test_the_worst_are_found_by_both_and_a_missing_agreement_counts_as_the_median():
    nan = np.nan
    scores = CaptionScores(
        np.array([0.5, 0.4, 0.3, 0.2, 0.1], "float32"),
        np.array([0.1, 0.9, 0.8, nan, nan], "float32"),
    )
    np.testing.assert_allclose(scores.fit(), [0.6, 1.3, 1.1, 1.0, 0.9], atol=1e-6)
    np.testing.assert_array_equal(scores.fit("cosine"), scores.cosines)
    # Pictures with fewer than three captions alone.
    np.testing.assert_array_equal(scores[3:].fit(), scores.cosines[3:])
    both = joined([scores[:2], scores[2:]])
    np.testing.assert_array_equal(both.cosines, scores.cosines)
    np.testing.assert_array_equal(both.agreements, scores.agreements)
    assert len(joined([])) == 0


def test_a_wrong_caption_is_found_by_the_others_where_the_model_sees_little():
    """Noisy pictures, sound texts: the caption of another picture is the worst of its five."""
    rng = np.random.default_rng(1)
    topics = unit(rng, 40)
    noisy = topics + 0.8 * unit(rng, 40)
    captions = np.repeat(topics, 5, 0) + 0.6 * unit(rng, 200)
    owner, wrong = np.repeat(np.arange(40), 5), np.arange(40) * 5
    captions[wrong] = np.roll(captions[wrong], 1, 0)
    pictures, captions = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (noisy, captions))
    scores = scores_of(pictures, captions, owner)
    found = {
        by: len(np.intersect1d(np.argsort(scores.fit(by))[:40], wrong)) for by in ("both", "cosine")
    }
    assert found["both"] >= 38 > found["cosine"]
