"""Several packed sets as one: which of them each example is drawn from, by weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfclip.inputs.example_rng import hashed
from tfclip.records.reader import Record, endless_shards

_STREAM = 2
_BITS = 62
_AT_ONCE = 1 << 20
_SEEDS = 2**31 - 1


@dataclass(frozen=True)
class Mixture:
    """Packed sets that examples are drawn from.

    Attributes:
        files: the shards of each set, from `records.reader.split_files`.
        weights: how often each is drawn, above 0; only their ratios count.
        sizes: how many records each holds.
    """

    files: tuple[tuple[str, ...], ...]
    weights: tuple[float, ...]
    sizes: tuple[int, ...]

    def _limits(self) -> np.ndarray:
        shares = np.cumsum(np.asarray(self.weights, np.float64)) / np.sum(self.weights)
        return np.minimum(np.round(shares[:-1] * 2.0**_BITS), 2.0**_BITS).astype(np.int64)

    def set_of(self, seed: int, numbers: tf.Tensor) -> tf.Tensor:
        """Which set examples `numbers` (...) int64 are drawn from: (...) int64, by (seed, number)
        alone."""
        drawn = tf.bitwise.right_shift(hashed(seed, numbers, _STREAM), 1)
        return tf.reduce_sum(tf.cast(drawn[..., None] >= self._limits(), tf.int64), axis=-1)

    def counts(self, seed: int, examples: int) -> list[int]:
        """How many of the first `examples` are drawn from each set."""
        counts = np.zeros(len(self.files), np.int64)
        for start in range(0, examples, _AT_ONCE):
            numbers = tf.range(start, min(start + _AT_ONCE, examples), dtype=tf.int64)
            counts += np.bincount(self.set_of(seed, numbers), minlength=len(counts))
        return counts.tolist()

    def seed_of(self, seed: int, which: int) -> int:
        """The seed of the order and the draws within a set."""
        return int(hashed(seed, tf.constant(which, tf.int64), _STREAM + 1)) % _SEEDS

    def examples(
        self,
        seed: int,
        start: int,
        features: Sequence[str],
        draw: Callable[[int, tf.Tensor, Record], Any],
    ) -> tf.data.Dataset:
        """Return the examples from number `start` on, without an end.

        Args:
            seed: decides which set each is from, and the order within each.
            start: so many are left out, without being parsed.
            features: as in `records.reader.endless_shards`.
            draw: makes an example of the seed of its set, its number within that, and the record.
        """
        each = []
        for which, count in enumerate(self.counts(seed, start)):
            own = self.seed_of(seed, which)
            each.append(
                endless_shards(
                    self.files[which],
                    shuffle_seed=own,
                    start=count,
                    epoch_size=self.sizes[which],
                    features=features,
                    then=lambda number, record, own=own: draw(own, number, record),
                )
            )
        turns = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
        turns = turns.map(lambda number: self.set_of(seed, number))
        return tf.data.Dataset.choose_from_datasets(each, turns)
