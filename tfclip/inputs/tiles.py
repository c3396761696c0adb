"""Tile layouts: the parts of a picture that are scored in addition to the whole. No TensorFlow.

The parts are crops that pass through the image tower one by one; or, by the layout `dense`, windows
of the tower's feature maps or patches, from one pass of the whole picture.
"""

import math

import numpy as np

from tfclip.naming import unknown

# The size of a tile, as a fraction of the side, by the number of tiles in its group: neighbours
# overlap by a fifth of the picture (four tiles) or a tenth of it (nine).
_SIDES = {1: 1.0, 4: 0.6, 9: 0.4}
DENSE = "dense"
TILE_LAYOUTS: dict[str, tuple[int, ...]] = {
    "1": (1,),
    "1+4": (1, 4),
    "1+9": (1, 9),
    "1+4+9": (1, 4, 9),
    DENSE: (1, 4, 9),
}
"""The number of tiles in each group of a layout; the first group is the whole picture."""


def tile_groups(layout: str) -> tuple[int, ...]:
    """Return the number of tiles in each group of a layout.

    >>> tile_groups("1+4+9")
    (1, 4, 9)

    Raises:
        ValueError: an unknown layout; lists the known ones.
    """
    if layout not in TILE_LAYOUTS:
        raise unknown("tile layout", layout, TILE_LAYOUTS)
    return TILE_LAYOUTS[layout]


def tile_boxes(layout: str) -> np.ndarray:
    """Return the boxes of a layout, group by group: (T,4) float32 y0,x0,y1,x1 from 0 to 1."""
    return np.concatenate([group_boxes(tiles) for tiles in tile_groups(layout)])


def cut_boxes(layout: str) -> np.ndarray:
    """Return the boxes of a layout that are cut from the picture: (V,4); with `dense` the whole."""
    return group_boxes(1) if layout == DENSE else tile_boxes(layout)


def group_boxes(tiles: int) -> np.ndarray:
    """Return the boxes of one group, row by row: (tiles,4) float32."""
    side, across = _SIDES[tiles], math.isqrt(tiles)
    step = (1.0 - side) / max(1, across - 1)
    starts = [round(step * at, 6) for at in range(across)]
    # Rounded, so that the last tile ends exactly at 1.
    boxes = [(y, x, round(y + side, 6), round(x + side, 6)) for y in starts for x in starts]
    return np.array(boxes, np.float32)
