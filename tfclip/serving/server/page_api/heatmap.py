"""Where labels score in a picture, for the page: its windows, asked as pictures of their own.

The same windows and maps as `predict --heatmap`, computed with the signatures of the export alone:
the labels of the export by `classify`, typed ones by `encode_image` and `encode_text`.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfclip.records.check import BadPicture
from tfclip.serving import signatures as names
from tfclip.serving.prediction.heatmap import (
    GRID,
    highest_place,
    normalized,
    score_maps,
)
from tfclip.serving.prediction.windows import cut_windows
from tfclip.serving.server.options import Limits
from tfclip.serving.server.picture_limits import declared_pixels
from tfclip.serving.server.refusals import Refused, invalid

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
        except BadPicture:
            raise invalid("the picture does not decode") from None
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
