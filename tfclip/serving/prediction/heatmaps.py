"""Draws heatmaps of the answers of a run to a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from tfclip.serving.prediction.heatmap import draw_heatmap, score_maps, window_boxes
from tfclip.serving.served_model import ServedModel

_LABELS = 3
_NAME_LETTERS = 60


class Heatmaps:
    """Draws heatmaps of the labels of pictures.

    Attributes:
        count: the number of heatmaps drawn.
    """

    def __init__(self, served: ServedModel, labels: Sequence[str], folder: Path):
        self._score = served.view_scorer(window_boxes())
        self._labels, self._folder = list(labels), folder
        self._pictures = self.count = 0

    def draw(self, picture: str, content: bytes, rows: Sequence[Mapping]) -> None:
        """Draw heatmaps of at most three predicted labels of a picture, or of its first label."""
        self._pictures += 1
        maps = score_maps(self._score(tf.constant([content]))[0].numpy())
        chosen = [row for row in rows if row.get("predicted")][:_LABELS] or rows[:1]
        for row in chosen:
            label = row["label"]
            named = f"{self._pictures:05d}-{Path(picture).stem}-{label}"
            name = re.sub(r"[^\w.-]+", "_", named)[:_NAME_LETTERS]
            title = f"{label} {row['cosine']:.3f}"
            one_map = maps[self._labels.index(label)]
            draw_heatmap(content, one_map, title, self._folder / f"{name}.png")
            self.count += 1
