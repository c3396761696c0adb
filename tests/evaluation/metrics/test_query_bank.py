"""Cosines corrected for hubs, against loops over single pairs, and on a hub made by hand."""

import math

import numpy as np
import pytest

from tfclip.evaluation.metrics.query_bank import corrected, density
from tfclip.evaluation.metrics.retrieval import retrieval_metrics


def unit(rng, *shape):
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def slow_density(row, bank, sharpness):
    terms = [math.exp(sharpness * float(row @ other)) for other in bank]
    return math.log(sum(terms) / len(terms)) / sharpness


@pytest.mark.parametrize("chunk", [1, 3, 1024])
def test_products_are_cosines_less_half_of_both_densities(chunk):
    rng = np.random.default_rng(0)
    images, texts, bank_images, bank_texts = (unit(rng, n, 5) for n in (4, 7, 6, 9))
    found = density(images, bank_texts, 7.0, chunk)
    np.testing.assert_allclose(found, [slow_density(row, bank_texts, 7.0) for row in images])
    left, right = corrected(images, texts, bank_images, bank_texts, sharpness=7.0, weight=0.5)
    for i, image in enumerate(images):
        for t, text in enumerate(texts):
            expected = float(image @ text) - 0.5 * (
                slow_density(image, bank_texts, 7.0) + slow_density(text, bank_images, 7.0)
            )
            np.testing.assert_allclose(left[i] @ right[t], expected, atol=1e-12)


def test_a_hub_no_longer_takes_the_captions_of_others():
    # Picture 0 lies between all captions, and each other picture a little off its own.
    images = np.array([[0.6, 0.6, 0.529], [0.55, 0.0, 0.835], [0.0, 0.55, 0.835]])
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts = np.array([[0.707, 0.707, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    plain = retrieval_metrics(images, texts, np.arange(3))
    assert plain["text_to_image"]["r1"] == pytest.approx(1 / 3)
    both = corrected(images, texts, images, texts, weight=1.0)
    assert retrieval_metrics(*both, np.arange(3))["text_to_image"]["r1"] == 1.0
    same = corrected(images, texts, images, texts, weight=0.0)
    assert retrieval_metrics(*same, np.arange(3)) == plain


def test_an_empty_bank_is_refused():
    with pytest.raises(ValueError, match="0 pictures and 2 captions; need both"):
        corrected(np.eye(2), np.eye(2), np.zeros((0, 2)), np.eye(2))
