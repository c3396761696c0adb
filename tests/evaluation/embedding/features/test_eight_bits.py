"""Features in 8 bits: how far they are from the given ones, and how they are read."""

import numpy as np
import pytest

from tfclip.evaluation.embedding.features.eight_bits import (
    CODES,
    LEVELS,
    EightBits,
    store_eight_bits,
)


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1100, 2, 7)) * 10.0 ** np.arange(-3, 4)
    values[..., 3] = np.abs(values[..., 3])  # as after a ReLU
    values[..., 4] = 0.25  # a feature that never changes
    values[0, 0, 5] = 0
    return values.astype(np.float32)


def test_each_number_is_within_half_a_step_of_the_signed_square_root(features, tmp_path):
    store_eight_bits(tmp_path, features)
    codes, levels = np.load(tmp_path / f"{CODES}.npy"), np.load(tmp_path / f"{LEVELS}.npy")
    assert codes.dtype == np.uint8 and codes.shape == features.shape
    read = EightBits(codes, levels)[:]
    assert read.dtype == np.float32

    def root(values):
        return np.sign(values) * np.sqrt(np.abs(values.astype(np.float64)))

    spread = root(features).max((0, 1)) - root(features).min((0, 1))
    error = np.abs(root(read) - root(features)).max((0, 1))
    assert (error <= spread / 255 / 2 * 1.01 + 1e-6).all()
    assert np.allclose(read[..., 4], 0.25, rtol=1e-6)
    # The highest and the lowest value of each feature are kept.
    np.testing.assert_allclose(read.max((0, 1)), features.max((0, 1)), rtol=1e-4)


def test_rows_are_read_as_from_an_array(features, tmp_path):
    store_eight_bits(tmp_path, features.astype(np.float16))
    stored = EightBits(
        np.load(tmp_path / f"{CODES}.npy", mmap_mode="r"), np.load(tmp_path / f"{LEVELS}.npy")
    )
    whole = stored[:]
    assert (len(stored), stored.shape, stored.dtype) == (1100, (1100, 2, 7), whole.dtype)
    rows, views = np.array([5, 1, 5]), np.array([1, 0, 0])
    np.testing.assert_array_equal(stored[rows, views], whole[rows, views])
    np.testing.assert_array_equal(stored[3:9, 0], whole[3:9, 0])
