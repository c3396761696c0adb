"""Measures the zero-shot mAP of one labelled split repeatedly during training."""

from pathlib import Path

import numpy as np

from tfclip.evaluation.datasets.multilabel_images import labelled_records
from tfclip.evaluation.datasets.views import WHOLE_PICTURE
from tfclip.evaluation.embedding.embed import embed_classes, embed_pictures
from tfclip.evaluation.embedding.prompts import class_prompts
from tfclip.evaluation.metrics.multilabel import average_precision, mean_defined
from tfclip.models.saving import TrainedModel

# The limit for decoded pictures that are kept in memory between measurements.
KEPT_BYTES = 512 * 2**20


class SplitScorer:
    """The zero-shot mAP of a split of records with one view per picture.

    The pictures are decoded once and kept in memory if they fit into `KEPT_BYTES`.
    """

    def __init__(self, model: TrainedModel, directory: Path, split: str, templates: str = "single"):
        self._model = model
        self._pictures = labelled_records(directory, split)
        self._prompts = class_prompts(self._pictures.class_names, templates, {})
        size = model.config.picture_size
        self._views = self._pictures.views(size, WHOLE_PICTURE)
        if len(self._pictures.keys) * size * size * 3 <= KEPT_BYTES:
            self._views = self._views.cache()

    def map(self) -> float:
        """Return the mean all-points average precision, `map` of `evaluate_multilabel`."""
        classes = embed_classes(self._model, self._prompts)
        _, embeddings = embed_pictures(self._model, self._views, total=len(self._pictures.keys))
        scores: np.ndarray = embeddings[:, 0] @ classes.T
        return float(mean_defined(average_precision(scores, self._pictures.present)))
