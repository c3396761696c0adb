"""Arrays of several sets, read as one array; nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfclip.evaluation.embedding.features.eight_bits import EightBits


class JoinedArrays:
    """Arrays (N,...) with equal other axes, one after the other; only the rows asked for are read.

    Args:
        parts: the arrays, of one dtype; they may be memory-mapped.
    """

    def __init__(self, parts: Sequence[np.ndarray | EightBits | JoinedArrays]):
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.dtype: np.dtype = self._parts[0].dtype
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *self._parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index) -> np.ndarray:
        """Return some rows, by a slice or an array of integers, or by two of rows and views."""
        rows, *views = index if isinstance(index, tuple) else (index,)
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        inner = self.shape[1 + len(views) :]
        out = np.empty((*rows.shape, *inner), self.dtype)
        which, start = np.searchsorted(self._ends, rows, side="right"), 0
        for number, (part, end) in enumerate(zip(self._parts, self._ends, strict=True)):
            here = which == number
            if here.any():
                own = [np.broadcast_to(view, rows.shape)[here] for view in views]
                out[here] = part[(rows[here] - start, *own)]
            start = int(end)
        return out

    def spread(self, count: int) -> np.ndarray:
        """Return `count` rows at equal distances, or all if there are fewer."""
        return self[np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64)]
