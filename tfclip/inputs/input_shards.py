"""Which rows of a batch one machine of several makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class InputShard:
    """The part of each batch that one machine of several makes: `count` equal parts, in order.

    What a batch holds does not depend on it, so that any number of machines trains the same.
    """

    index: int = 0
    count: int = 1

    def keep(self, batch_size: int) -> Callable[[tf.Tensor], tf.Tensor] | None:
        """Whether an example is of this share, by its number () int64; None where all are."""
        if self.count == 1:
            return None
        rows = batch_size // self.count
        return lambda number: number % batch_size // rows == self.index

    def of(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """The rows of this share of batches that were made as a whole."""

        def part(column: tf.Tensor) -> tf.Tensor:
            rows = column.shape[0] // self.count
            return column[self.index * rows : (self.index + 1) * rows]

        if self.count == 1:
            return batches
        return batches.map(lambda batch: {name: part(column) for name, column in batch.items()})


ALL = InputShard()
