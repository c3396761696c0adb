"""Heatmaps of labels in a picture, from the cosines of many windows.

Each window of a grid is embedded as a separate picture, which works with any image tower. The value
at a position is a weighted sum of the cosines of the windows around it.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tfclip import files

GRID = 24
"""The number of cells along each side of a map."""
WINDOWS = ((0.5, 5), (0.3, 7))
"""The side of windows as a fraction of the picture's side, and their number along each side."""
SPREAD = 0.4
"""Standard deviation of the Gaussian weight of a window, as a fraction of its side."""
LONGEST = 640
"""The longer side of drawn heatmaps, in pixels."""


def window_boxes() -> np.ndarray:
    """Return the windows: (T,4) float32 y0,x0,y1,x1 as fractions of the sides."""
    boxes = []
    for side, across in WINDOWS:
        starts = np.round(np.linspace(0, 1 - side, across), 6)
        boxes += [(y, x, y + side, x + side) for y in starts for x in starts]
    return np.array(boxes, np.float32)


def score_maps(cosines: np.ndarray) -> np.ndarray:
    """Return a map (C,GRID,GRID) float64 of each label from the cosines (T,C) of the windows.

    The cosines of each window size are centred to mean 0, and weighted by a Gaussian around the
    centre of each window. Maps decrease to 0 towards the edges, where there are fewer windows.
    """
    cosines = np.asarray(cosines, np.float64)
    places = (np.arange(GRID) + 0.5) / GRID
    boxes = window_boxes().astype(np.float64)
    sides = boxes[:, 2] - boxes[:, 0]
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    along_y, along_x = (
        np.exp(-0.5 * ((places - middles[:, [axis]]) / (SPREAD * sides[:, None])) ** 2)
        for axis in (0, 1)
    )
    maps, start = np.zeros((cosines.shape[1], GRID, GRID)), 0
    for _, across in WINDOWS:
        part = slice(start, start + across * across)
        centred = cosines[part] - cosines[part].mean(axis=0)
        maps += np.einsum("tc,ty,tx->cyx", centred, along_y[part], along_x[part])
        start = part.stop
    return maps


def highest_place(one_map: np.ndarray) -> tuple[float, float]:
    """Return the centre of the highest cell, x and y as fractions of the sides."""
    y, x = np.unravel_index(int(np.argmax(one_map)), one_map.shape)
    return (x + 0.5) / GRID, (y + 0.5) / GRID


def normalized(one_map: np.ndarray) -> np.ndarray:
    """Return a map scaled to 0 at its lowest and 1 at its highest cell."""
    low, high = float(one_map.min()), float(one_map.max())
    return (one_map - low) / max(high - low, 1e-12)


def draw_heatmap(content: bytes, one_map: np.ndarray, title: str, out: Path) -> None:
    """Draw a map in red over the picture, with a circle at its maximum, to a PNG file.

    Raises:
        OSError: Pillow cannot read the picture, or the file cannot be written.
    """
    with Image.open(BytesIO(content)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    picture.thumbnail((LONGEST, LONGEST))
    alpha = Image.fromarray(np.round(190 * normalized(one_map) ** 2).astype(np.uint8)).resize(
        picture.size, Image.Resampling.BICUBIC
    )
    drawn = ImageOps.grayscale(picture).convert("RGB")
    drawn.paste("#e60000", (0, 0), alpha)
    draw = ImageDraw.Draw(drawn)
    x, y = (at * side for at, side in zip(highest_place(one_map), drawn.size, strict=True))
    draw.ellipse((x - 7, y - 7, x + 7, y + 7), outline="white", width=2)
    font = ImageFont.load_default(14)
    draw.rectangle(draw.textbbox((4, 4), title, font=font), fill="black")
    draw.text((4, 4), title, fill="white", font=font)
    with files.new_file(out) as temporary:
        drawn.save(temporary, "PNG")
