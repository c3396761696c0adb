"""Resizes position tables to another picture size or context length, like open_clip."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def interpolate_grid(table: np.ndarray, rows: int) -> np.ndarray:
    """Resize the positions of a square grid of patches, (P, C) or (P + 1, C), to `rows` rows.

    Bicubic with antialiasing, as open_clip's `resize_pos_embed`; the row of a class token is kept.

    Args:
        table: positions of a square number of patches, after a class token's if there is one.
        rows: rows of the new table, with a class token if the old one has it.

    Raises:
        ValueError: a number of patches is not a square.
    """
    extra = 0 if _is_square(len(table)) and _is_square(rows) else 1
    old, new = (round((n - extra) ** 0.5) for n in (len(table), rows))
    if old**2 + extra != len(table) or new**2 + extra != rows:
        raise ValueError(f"{len(table)} and {rows} positions are not square grids of patches")
    grid = table[extra:].reshape(1, old, old, -1).astype("float32")
    scaled = tf.raw_ops.ScaleAndTranslate(
        images=grid,
        size=[new, new],
        scale=[new / old, new / old],
        translation=[0.0, 0.0],
        kernel_type="keyscubic",
        antialias=True,
    )
    return np.concatenate([table[:extra], scaled.numpy().reshape(new * new, -1)])


def _is_square(number: int) -> bool:
    return round(number**0.5) ** 2 == number


def stretch_text(table: np.ndarray, length: int) -> np.ndarray:
    """Resize positions (L, C) of texts to (length, C).

    A shorter context takes the first rows, which changes no embedding. A longer one interpolates
    linearly between the ends, like open_clip's `resize_text_pos_embed`; embeddings of all texts
    change somewhat until training has adapted to it.
    """
    if length <= len(table):
        return table[:length]
    # Half-pixel centres, clamped at the ends: PyTorch's `interpolate` with align_corners=False.
    places = (np.arange(length) + 0.5) * len(table) / length - 0.5
    places = np.clip(places, 0, len(table) - 1)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, len(table) - 1)
    share = (places - low)[:, None]
    return (table[low] * (1 - share) + table[high] * share).astype("float32")
