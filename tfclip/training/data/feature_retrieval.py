"""Retrieval metrics during training from stored features: only the heads run."""

from __future__ import annotations

import numpy as np

from tfclip.evaluation.embedding.features.feature_cache import ImageFeatures, TextFeatures
from tfclip.evaluation.embedding.from_features import FeatureEmbedder
from tfclip.evaluation.metrics.retrieval import retrieval_metrics
from tfclip.models.dual_encoder import DualEncoder


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
        self._embedder = FeatureEmbedder(model)

    def metrics(self) -> dict:
        """Return the metrics of `evaluation.metrics.retrieval.retrieval_metrics`."""
        images = self._embedder.images(self._image)
        texts = self._embedder.texts(self._text, np.arange(self._captions))
        text_id = self._text.caption_id[: self._captions]
        return retrieval_metrics(images, texts, self._image_of_text, text_id)
