"""A weighted mixture of several record sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from tfclip.graphs import as_written
from tfclip.inputs.example_rng import hashed
from tfclip.records.reader import ROW, Record, endless_shards

_STREAM = 2
_BITS = 62
_AT_ONCE = 1 << 20
_SEEDS = 2**31 - 1


@dataclass(frozen=True)
class Mixture:
    """Record sets that examples are sampled from.

    Attributes:
        files: the shards of each set, from `records.reader.split_files`.
        weights: the relative frequency of each set, above 0.
        sizes: the number of records in each set.
        counts_of_files: the number of records in each shard of each set; adds `ROW` to every
            record, counted over the sets one after the other.
    """

    files: tuple[tuple[str, ...], ...]
    weights: tuple[float, ...]
    sizes: tuple[int, ...]
    counts_of_files: tuple[tuple[int, ...], ...] = ()

    def _limits(self) -> np.ndarray:
        fractions = np.cumsum(np.asarray(self.weights, np.float64)) / np.sum(self.weights)
        return np.minimum(np.round(fractions[:-1] * 2.0**_BITS), 2.0**_BITS).astype(np.int64)

    def set_of(self, seed: int, numbers: tf.Tensor) -> tf.Tensor:
        """Return the set of each of the examples `numbers` (...) int64: (...) int64."""
        hashes = tf.bitwise.right_shift(hashed(seed, numbers, _STREAM), 1)
        return tf.reduce_sum(tf.cast(hashes[..., None] >= self._limits(), tf.int64), axis=-1)

    def counts(self, seed: int, examples: int) -> list[int]:
        """Return how many of the first `examples` come from each set."""
        counts = np.zeros(len(self.files), np.int64)
        for start in range(0, examples, _AT_ONCE):
            numbers = tf.range(start, min(start + _AT_ONCE, examples), dtype=tf.int64)
            counts += np.bincount(self.set_of(seed, numbers), minlength=len(counts))
        return counts.tolist()

    def seed_of(self, seed: int, which: int) -> int:
        """Return the seed of the order and the random choices within a set."""
        return int(hashed(seed, tf.constant(which, tf.int64), _STREAM + 1)) % _SEEDS

    def examples(
        self,
        seed: int,
        start: int,
        features: Sequence[str],
        sample: Callable[[int | tf.Tensor, tf.Tensor, Record], Any],
        keep: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> tf.data.Dataset:
        """Return an endless dataset of the examples from number `start` on.

        Args:
            seed: seed of the choice of sets and of the order within each.
            start: the number of examples to skip; they are not parsed.
            features: as in `records.reader.endless_shards`.
            sample: a function from the seed of a set, a number in it, and its record to an example.
            keep: a function from the number of an example to whether it is kept; `sample` is not
                called for the others.
        """

        # The set of an example follows from its position among all examples, so each worker reads
        # all records, and samples only its own.
        def numbered(own: int, number: tf.Tensor, record: Record) -> tuple:
            return tf.constant(own, tf.int32), number, record

        chosen = self._mixed(seed, start, features, sample if keep is None else numbered)
        if keep is None:
            return chosen
        kept = chosen.enumerate(start).filter(as_written(lambda number, example: keep(number)))
        return kept.map(
            as_written(lambda number, example: sample(*example)),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def _mixed(
        self, seed: int, start: int, features: Sequence[str], then: Callable
    ) -> tf.data.Dataset:
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
                    counts=self.counts_of_files[which] if self.counts_of_files else None,
                    then=partial(self._with_row, which, partial(then, own)),
                )
            )
        turns = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
        turns = turns.map(as_written(lambda number: self.set_of(seed, number)))
        return tf.data.Dataset.choose_from_datasets(each, turns)

    def _with_row(self, which: int, then: Callable, number: tf.Tensor, record: Record) -> Any:
        """Call `then` with the row of the record counted over all sets."""
        if ROW in record:
            record = {**record, ROW: record[ROW] + sum(self.sizes[:which])}
        return then(number, record)


def endless_examples(
    files: Sequence[str] | Mixture,
    *,
    seed: int,
    start: int,
    features: Sequence[str],
    sample: Callable[[int | tf.Tensor, tf.Tensor, Record], Any],
    keep: Callable[[tf.Tensor], tf.Tensor] | None = None,
    counts: Sequence[int] | None = None,
    epoch_size: int | None = None,
) -> tf.data.Dataset:
    """Return the examples of the shards of one set, or of a mixture, from number `start` on.

    Args:
        files: the shards of one set, or a mixture, which knows its counts and sizes.
        seed, start, features, sample, keep: as in `Mixture.examples`; the seed of a single set is
            `seed`.
        counts, epoch_size: as in `records.reader.endless_shards`, for one set.
    """
    if isinstance(files, Mixture):
        return files.examples(seed, start, features, sample, keep)
    return endless_shards(
        files,
        shuffle_seed=seed,
        start=start,
        epoch_size=epoch_size,
        features=features,
        counts=counts,
        keep=keep,
        then=partial(sample, seed),
    )
