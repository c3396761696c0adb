"""Features stored with eight bits for each number, and read as float32.

Each of the F features has 256 levels between its lowest and its highest value. The levels are equal
steps of the signed square root, so that they are finer near 0, where most values of pooled features
are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CODES, LEVELS = "codes", "levels"
_HIGHEST = 255
_ROWS_AT_ONCE = 512


class EightBits:
    """An array (N,...,F) of codes that is read like one of float32; all F features at a time.

    Args:
        codes: (N,...,F) uint8, may be memory-mapped.
        levels: (2,F) float32, the lowest signed square root of each feature, and the step.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, codes: np.ndarray, levels: np.ndarray):
        self.codes, self.levels = codes, np.asarray(levels)
        self.shape = codes.shape

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows) -> np.ndarray:
        """Return the features of some rows, indexed as in NumPy by the axes before the last."""
        root = self.codes[rows] * self.levels[1] + self.levels[0]
        return np.square(root) * np.sign(root)


def store_eight_bits(folder: Path, features: np.ndarray) -> None:
    """Write `codes.npy` and `levels.npy` of an array (N,...,F), which may be memory-mapped."""
    lowest = np.full(features.shape[-1], np.inf, np.float32)
    highest = -lowest
    for rows in _parts(features):
        flat = _root(rows).reshape(-1, features.shape[-1])
        lowest, highest = np.minimum(lowest, flat.min(0)), np.maximum(highest, flat.max(0))
    step = np.where(highest > lowest, (highest - lowest) / _HIGHEST, 1).astype(np.float32)
    np.save(folder / f"{LEVELS}.npy", np.stack([lowest, step]))
    codes = np.lib.format.open_memmap(folder / f"{CODES}.npy", "w+", np.uint8, features.shape)
    at = 0
    for rows in _parts(features):
        codes[at : at + len(rows)] = np.rint((_root(rows) - lowest) / step)
        at += len(rows)
    codes.flush()


def _parts(features: np.ndarray):
    for at in range(0, len(features), _ROWS_AT_ONCE):
        yield np.asarray(features[at : at + _ROWS_AT_ONCE], np.float32)


def _root(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.abs(values)) * np.sign(values)
