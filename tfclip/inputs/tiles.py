"""Tile layouts: which parts of a picture are scored beside the whole of it. No TensorFlow."""

import math

import numpy as np

from tfclip.naming import unknown

# Tiles to a group, and the share of each side that one takes: neighbours overlap by a fifth of the
# picture (four tiles) or a tenth of it (nine).
_SIDES = {1: 1.0, 4: 0.6, 9: 0.4}
TILE_LAYOUTS: dict[str, tuple[int, ...]] = {
    "1": (1,),
    "1+4": (1, 4),
    "1+9": (1, 9),
    "1+4+9": (1, 4, 9),
}
"""The groups of each layout, by the tiles in them; the whole picture comes first."""


def tile_groups(layout: str) -> tuple[int, ...]:
    """Return how many tiles each group of a layout has: (1, 4, 9) of "1+4+9".

    Raises:
        ValueError: an unknown layout; lists the known ones.
    """
    if layout not in TILE_LAYOUTS:
        raise unknown("tile layout", layout, TILE_LAYOUTS)
    return TILE_LAYOUTS[layout]


def tile_boxes(layout: str) -> np.ndarray:
    """Return the views of a layout, group after group: (T,4) float32 y0,x0,y1,x1 in 0..1."""
    return np.concatenate([group_boxes(tiles) for tiles in tile_groups(layout)])


def group_boxes(tiles: int) -> np.ndarray:
    """Return the boxes of one group, row by row over the picture: (tiles,4) float32."""
    side, across = _SIDES[tiles], math.isqrt(tiles)
    step = (1.0 - side) / max(1, across - 1)
    starts = [round(step * at, 6) for at in range(across)]
    # Rounded, so that the last tile ends at 1 and no sum of floats decides an edge.
    boxes = [(y, x, round(y + side, 6), round(x + side, 6)) for y in starts for x in starts]
    return np.array(boxes, np.float32)
