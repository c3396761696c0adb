"""Draws heatmaps of the answers of a run or an export to a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.serving import signatures as names
from tfclip.serving.open_classifier import OpenedClassifier
from tfclip.serving.prediction.heatmap import draw_heatmap, score_maps, window_boxes
from tfclip.serving.prediction.windows import cut_windows

_LABELS = 3
# Windows of an export in one call.
_AT_ONCE = 32
_NAME_LETTERS = 60


class Heatmaps:
    """Draws heatmaps of the labels of pictures.

    Attributes:
        count: the number of heatmaps drawn.
    """

    def __init__(self, opened: OpenedClassifier, folder: Path):
        served = opened.served
        self._score = None if served is None else served.view_scorer(window_boxes())
        self._opened, self._labels, self._folder = opened, list(opened.labels), folder
        self._pictures = self.count = 0

    def draw(self, picture: str, content: bytes, rows: Sequence[Mapping]) -> None:
        """Draw heatmaps of at most three predicted labels of a picture, or of its first label."""
        self._pictures += 1
        maps = score_maps(self._cosines(content))
        chosen = [row for row in rows if row.get("predicted")][:_LABELS] or rows[:1]
        for row in chosen:
            label = row["label"]
            named = f"{self._pictures:05d}-{Path(picture).stem}-{label}"
            name = re.sub(r"[^\w.-]+", "_", named)[:_NAME_LETTERS]
            title = f"{label} {row['cosine']:.3f}"
            one_map = maps[self._labels.index(label)]
            draw_heatmap(content, one_map, title, self._folder / f"{name}.png")
            self.count += 1

    def _cosines(self, content: bytes) -> np.ndarray:
        """Return the cosines (T,C) of the windows of a picture with the labels."""
        if self._score is not None:
            return self._score(tf.constant([content]))[0].numpy()
        windows = cut_windows(content, self._opened.image_size).tolist()
        parts = [windows[at : at + _AT_ONCE] for at in range(0, len(windows), _AT_ONCE)]
        return np.concatenate([self._opened(part)[names.SCORES] for part in parts])
