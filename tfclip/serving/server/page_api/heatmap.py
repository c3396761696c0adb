"""Where labels score in a picture, for the page: its windows, asked as pictures of their own.

The same windows and maps as `predict --heatmap`, computed with the signatures of the export alone:
the labels of the export by `classify`, typed ones by `encode_image` and `encode_text`.
"""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from tfclip.records.check import BadPicture, check_picture
from tfclip.serving import signatures as names
from tfclip.serving.prediction.heatmap import (
    GRID,
    WINDOWS,
    highest_place,
    normalized,
    score_maps,
    window_boxes,
)
from tfclip.serving.server.options import Limits
from tfclip.serving.server.picture_limits import declared_pixels
from tfclip.serving.server.refusals import Refused, invalid

_SMALLEST_WINDOW = min(side for side, _ in WINDOWS)
# Bounds the windows of a picture that is much longer than wide.
_LONGEST = 2048

Ask = Callable[[str, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class PageHeatmap:
    """Computes heatmaps, one at a time: a picture of 50 million pixels takes 150 MB."""

    def __init__(self) -> None:
        self._one = threading.Lock()

    def maps(
        self,
        content: bytes,
        texts: Sequence[str] | None,
        card: Mapping,
        ask: Ask,
        limits: Limits,
        deadline: float,
    ) -> dict:
        """Return the maps of all labels of one picture.

        Args:
            content: the encoded picture.
            texts: the labels; None takes those of the export.
            card: the model card of the version.
            ask: from the name of a signature and its inputs to its outputs.
            limits: what one picture and one call of `ask` may hold.
            deadline: a time of `time.monotonic`.

        Returns:
            `labels`, the length `grid` of the sides of a map, `maps` (for each label base64 of
            grid * grid bytes, row by row: 0 the lowest, 255 the highest place), and `places`, the x
            and y of the highest cell as fractions of the sides.

        Raises:
            Refused: the picture does not decode, or the export has no such signature.
        """
        if not 0 < (declared_pixels(content) or 0) <= limits.max_pixels:
            raise invalid("the picture does not decode")
        if not self._one.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise Refused("DEADLINE_EXCEEDED", "other heatmaps are still computed; try again")
        try:
            windows = cut_windows(content, card["config"]["image_size"])
        finally:
            self._one.release()
        # Between two parts of a heatmap others are answered.
        size = min(limits.max_pictures, max(names.ALLOWED_BATCH_SIZES))
        parts = [windows[start : start + size] for start in range(0, len(windows), size)]

        def of_windows(signature: str, output: str) -> np.ndarray:
            return np.concatenate(
                [ask(signature, {names.IMAGE_BYTES: part})[output] for part in parts]
            )

        if texts is None:
            labels, cosines = card["labels"], of_windows(names.CLASSIFY, names.SCORES)
        else:
            labels, values = list(texts), np.empty(len(texts), object)
            values[:] = [text.encode("utf-8", "replace") for text in texts]
            embedded = ask(names.ENCODE_TEXT, {names.TEXT: values})[names.EMBEDDING]
            cosines = of_windows(names.ENCODE_IMAGE, names.EMBEDDING) @ embedded.T
        maps = score_maps(cosines)
        return {
            "labels": labels,
            "grid": GRID,
            "maps": [_encoded(one_map) for one_map in maps],
            "places": [[round(at, 4) for at in highest_place(one)] for one in maps],
        }


def cut_windows(content: bytes, image_size: int) -> np.ndarray:
    """Return the windows (T,) of an encoded picture, each an encoded picture, upright and over
    white. They are about as large as the model sees them, or as they are where that is smaller.

    Raises:
        Refused: INVALID_ARGUMENT, the picture does not decode.
    """
    try:
        checked = check_picture(content, round(image_size / _SMALLEST_WINDOW))
    except BadPicture:
        raise invalid("the picture does not decode") from None
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


def read_texts(content: Mapping, most: int) -> list[str] | None:
    """Return the typed labels of a request, None for those of the export.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    texts = content.get("texts")
    if texts is None:
        return None
    is_list = isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts)
    if not is_list or len(texts) > most:
        raise invalid(f"texts must be a list of 1 to {most} strings")
    return texts


def _encoded(one_map: np.ndarray) -> str:
    return base64.b64encode(np.round(255 * normalized(one_map)).astype(np.uint8).tobytes()).decode()
