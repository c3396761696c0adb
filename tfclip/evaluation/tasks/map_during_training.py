"""Measures the zero-shot mAP of one labelled split repeatedly during training."""

from pathlib import Path

import numpy as np

from tfclip.evaluation.datasets.multilabel_images import labelled_records
from tfclip.evaluation.datasets.views import WHOLE_PICTURE
from tfclip.evaluation.embedding.embed import embed_classes, embed_pictures
from tfclip.evaluation.embedding.from_features import FrozenParts
from tfclip.evaluation.embedding.prompts import class_prompts
from tfclip.evaluation.metrics.multilabel import average_precision, mean_defined
from tfclip.models.saving import TrainedModel

# The limit for decoded pictures that are kept in memory between measurements.
KEPT_BYTES = 512 * 2**20


class SplitScorer:
    """The zero-shot mAP of a split of records with one view per picture.

    The pictures are decoded once and kept in memory if they fit into `KEPT_BYTES`. With `frozen`,
    the stored outputs of a frozen image tower, none is decoded.
    """

    def __init__(
        self,
        model: TrainedModel,
        directory: Path,
        split: str,
        templates: str = "single",
        frozen: FrozenParts | None = None,
    ):
        self._model, self._frozen = model, frozen
        self._pictures = labelled_records(directory, split)
        self._prompts = class_prompts(self._pictures.class_names, templates, {})
        size = model.config.picture_size
        self._views = self._pictures.views(size, WHOLE_PICTURE)
        if frozen is None and len(self._pictures.keys) * size * size * 3 <= KEPT_BYTES:
            self._views = self._views.cache()

    def map(self) -> float:
        """Return the mean all-points average precision, `map` of `evaluate_multilabel`."""
        classes = embed_classes(self._model, self._prompts)
        scores: np.ndarray = self._embeddings() @ classes.T
        return float(mean_defined(average_precision(scores, self._pictures.present)))

    def _embeddings(self) -> np.ndarray:
        """Embed the whole pictures: (N,D) float32."""
        count = len(self._pictures.keys)
        embedded = None if self._frozen is None else self._frozen.pictures(count)
        if embedded is None:
            embedded = embed_pictures(self._model, self._views, total=count)[1][:, 0]
        return embedded
