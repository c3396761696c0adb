"""Cuts a picture into the windows of its heatmaps, for models that take encoded pictures only."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from tfclip.records.check import check_picture
from tfclip.serving.prediction.heatmap import WINDOWS, window_boxes

_SMALLEST_WINDOW = min(side for side, _ in WINDOWS)
# Bounds the windows of a picture that is much longer than wide.
_LONGEST = 2048


def cut_windows(content: bytes, image_size: int) -> np.ndarray:
    """Return the windows (T,) of an encoded picture, each an encoded picture, upright and over
    white. They are about as large as the model sees them, or as they are where that is smaller.

    Raises:
        BadPicture: the picture does not decode.
    """
    checked = check_picture(content, round(image_size / _SMALLEST_WINDOW))
    with Image.open(io.BytesIO(checked.jpeg)) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((_LONGEST, _LONGEST))
    boxes = window_boxes()
    windows = np.empty(len(boxes), object)
    for place, (y0, x0, y1, x1) in enumerate(boxes.tolist()):
        left, top = int(x0 * picture.width), int(y0 * picture.height)
        right = max(left + 1, round(x1 * picture.width))
        bottom = max(top + 1, round(y1 * picture.height))
        file = io.BytesIO()
        # Without a loss and without compression: it is decoded at once.
        picture.crop((left, top, right, bottom)).save(file, "BMP")
        windows[place] = file.getvalue()
    return windows
