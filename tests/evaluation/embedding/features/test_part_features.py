"""Features of a part are rows of those of the whole, text for text and token for token."""

import numpy as np
import pytest

from tfclip.evaluation.embedding.features.part_features import cut_features, cut_texts

ROWS = np.array([4, 5, 1])
COUNTS = np.array([2, 0, 1, 3, 1, 2])
"""Texts of six records; the empty text comes behind them."""


def test_images(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 2, 3)).astype(np.float16)
    cut_features(tmp_path / "features.npy", features, ROWS, at_once=2)
    assert np.array_equal(np.load(tmp_path / "features.npy"), features[[4, 5, 1]])


@pytest.mark.parametrize("per_token", [False, True])
def test_texts(per_token, tmp_path):
    rng = np.random.default_rng(0)
    text_starts = np.concatenate([[0], np.cumsum(COUNTS)])
    texts = [rng.normal(size=(rng.integers(1, 4), 5)) for _ in range(COUNTS.sum() + 1)]
    token_starts = np.concatenate([[0], np.cumsum([len(one) for one in texts])])
    features = np.concatenate(texts) if per_token else np.stack([one[0] for one in texts])
    caption_id = rng.integers(0, 99, len(texts))
    starts = token_starts if per_token else None
    cut_texts(tmp_path, features, starts, text_starts, caption_id, ROWS)
    expected = [at for row in ROWS for at in range(text_starts[row], text_starts[row + 1])]
    expected.append(len(texts) - 1)
    assert np.array_equal(np.load(tmp_path / "caption_id.npy"), caption_id[expected])
    assert np.load(tmp_path / "text_starts.npy").tolist() == [0, 1, 3, 3]
    found = np.load(tmp_path / "features.npy")
    if not per_token:
        assert np.array_equal(found, features[expected])
        return
    bounds = np.load(tmp_path / "token_starts.npy")
    for at, text in enumerate(expected):
        assert np.array_equal(found[bounds[at] : bounds[at + 1]], texts[text])
