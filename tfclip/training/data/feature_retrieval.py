"""Retrieval metrics during training from stored features: only the heads run."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfclip.evaluation.metrics.retrieval import retrieval_metrics
from tfclip.models.dual_encoder import DualEncoder
from tfclip.training.data.feature_batches import text_rows
from tfclip.training.data.feature_cache import ImageFeatures, TextFeatures

ROWS_AT_ONCE = 256


class StoredRetrieval:
    """The metrics of `evaluation.tasks.retrieval` for a model with both towers frozen.

    Args:
        model: the model; `metrics` uses its current weights.
        image, text: the stored outputs of its towers over the validation split.

    Raises:
        ValueError: the split has no captions.
    """

    def __init__(self, model: DualEncoder, image: ImageFeatures, text: TextFeatures):
        self._image, self._text = image, text
        self._captions = int(text.text_starts[-1])
        if not self._captions:
            raise ValueError("the validation records have no captions, which retrieval needs")
        self._image_of_text = np.repeat(np.arange(len(image.image_id)), np.diff(text.text_starts))
        self._embed_images = tf.function(
            model.embed_image_features, reduce_retracing=True, autograph=False
        )
        self._embed_texts = tf.function(
            model.embed_text_features, reduce_retracing=True, autograph=False
        )

    def metrics(self) -> dict:
        """Return the metrics of `evaluation.metrics.retrieval.retrieval_metrics`."""
        images = [
            self._embed_images(tf.constant(self._image.features[at : at + ROWS_AT_ONCE, 0]))
            for at in range(0, len(self._image.image_id), ROWS_AT_ONCE)
        ]
        texts = []
        for at in range(0, self._captions, ROWS_AT_ONCE):
            rows = np.arange(at, min(at + ROWS_AT_ONCE, self._captions))
            features, mask = text_rows(self._text, rows)
            texts.append(self._embed_texts(tf.constant(features), tf.constant(mask)))
        text_id = self._text.caption_id[: self._captions]
        return retrieval_metrics(
            np.concatenate(images), np.concatenate(texts), self._image_of_text, text_id
        )
