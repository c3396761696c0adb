"""The rows of each batch that one of several workers reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfclip.graphs import as_written

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class InputShard:
    """Part `index` of the `count` equal parts of each batch, in order; each worker reads one.

    The content of a batch does not depend on the number of workers.
    """

    index: int = 0
    count: int = 1

    def keep(self, batch_size: int) -> Callable[[tf.Tensor], tf.Tensor] | None:
        """Return a function from the number of an example, () int64, to whether it belongs to this
        shard; None if all examples do."""
        if self.count == 1:
            return None
        rows = batch_size // self.count
        return lambda number: number % batch_size // rows == self.index

    def of(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Return the rows of this shard of full batches."""

        def part(column: tf.Tensor) -> tf.Tensor:
            rows = column.shape[0] // self.count
            return column[self.index * rows : (self.index + 1) * rows]

        if self.count == 1:
            return batches
        return batches.map(
            as_written(lambda batch: {name: part(column) for name, column in batch.items()})
        )


ALL = InputShard()
