"""Features of several sets read as one: the rows of NumPy's concatenation, texts of slow loops."""

import numpy as np
import pytest

from tfclip.evaluation.embedding.features.eight_bits import EightBits
from tfclip.evaluation.embedding.features.feature_cache import ImageFeatures, TextFeatures
from tfclip.evaluation.embedding.features.joined_arrays import JoinedArrays
from tfclip.evaluation.embedding.features.joined_features import join_images, join_texts

SIZES = 3, 1, 5


@pytest.fixture
def rng():
    return np.random.default_rng(0)


class Counted:
    """An array that counts the rows that are read."""

    def __init__(self, array):
        self.array, self.dtype, self.shape, self.read = array, array.dtype, array.shape, 0

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        found = self.array[index]
        self.read += found.size // self.shape[-1]
        return found


def test_rows_and_views_are_those_of_the_concatenation_and_no_others_are_read(rng):
    parts = [rng.random((size, 2, 4)).astype(np.float16) for size in SIZES]
    counted = [Counted(part) for part in parts]
    joined, whole = JoinedArrays(counted), np.concatenate(parts)
    assert (joined.shape, joined.dtype, len(joined)) == (whole.shape, whole.dtype, len(whole))
    rows, views = np.array([8, 0, 3, 4, 0]), np.array([1, 0, 1, 1, 0])
    np.testing.assert_array_equal(joined[rows, views], whole[rows, views])
    assert [part.read for part in counted] == [2, 1, 2]
    np.testing.assert_array_equal(joined[rows.reshape(5, 1)], whole[rows.reshape(5, 1)])
    for part in (slice(2, 6), slice(None), slice(7, 99)):
        np.testing.assert_array_equal(joined[part], whole[part])
        np.testing.assert_array_equal(joined[part, 0], whole[part, 0])
    np.testing.assert_array_equal(joined.spread(3), whole[[0, 4, 8]])
    np.testing.assert_array_equal(joined.spread(99), whole)


def test_sets_of_eight_bits_keep_their_own_levels(rng):
    parts = [
        EightBits(
            rng.integers(0, 256, (size, 1, 4)).astype(np.uint8),
            rng.random((2, 4)).astype(np.float32),
        )
        for size in SIZES
    ]
    ids = [np.arange(size) + 10 * at for at, size in enumerate(SIZES)]
    joined = join_images([ImageFeatures(part, own) for part, own in zip(parts, ids, strict=True)])
    rows = np.array([8, 2, 3])
    expected = [parts[which][row, 0] for which, row in ((2, 4), (0, 2), (1, 0))]
    np.testing.assert_array_equal(joined.features[rows, np.zeros(3, int)], expected)
    assert joined.image_id[rows].tolist() == [24, 2, 10]


@pytest.mark.parametrize("per_token", [False, True])
def test_texts_of_every_record_and_one_empty_text_remain(rng, per_token):
    """Sets of records with 0 to 3 texts of 1 to 4 tokens, and the empty text of 2."""
    parts, listed = [], []
    for size in SIZES:
        counts = rng.integers(0, 4, size)
        lengths = np.append(rng.integers(1, 5, counts.sum()), 2)
        texts = [rng.random((length if per_token else 1, 4)) for length in lengths]
        ids = rng.integers(0, 99, len(texts))
        at = 0
        for count in counts:
            listed.append(list(zip(texts, ids, strict=True))[at : at + count])
            at += count
        empty = texts[-1], ids[-1]
        starts = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
        text_starts = np.concatenate([[0], np.cumsum(counts)])
        features = np.concatenate(texts)
        parts.append(TextFeatures(features, starts if per_token else None, text_starts, ids))
    joined = join_texts(parts)
    assert len(joined.text_starts) == sum(SIZES) + 1
    for row, expected in enumerate([*listed, [empty]]):
        first = joined.text_starts[row]
        last = joined.text_starts[row + 1] if row < sum(SIZES) else len(joined.caption_id)
        assert last - first == len(expected)
        for at, (text, own) in zip(range(first, last), expected, strict=True):
            assert joined.caption_id[at] == own
            place = slice(at, at + 1)
            if per_token:
                place = slice(*joined.token_starts[at : at + 2])
            np.testing.assert_array_equal(joined.features[place], text)


def test_a_single_set_is_not_touched():
    one = ImageFeatures(np.zeros((2, 1, 4)), np.arange(2))
    assert join_images([one]) is one
