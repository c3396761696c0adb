"""Runs that are measured together: the features of equal frozen towers are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfclip.console import say


class Tower:
    """The features of the frozen towers of several runs, computed once for all of them."""

    def __init__(self, model):
        self.model = model
        self._images: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._texts: dict[str, np.ndarray] = {}

    def fits(self, model) -> bool:
        """Return whether the towers of another model have the same weights and inputs."""
        own, other = self.model.dual_encoder, model.dual_encoder
        if self.model.config.picture_size != model.config.picture_size:
            return False
        pairs = (own.image_tower, other.image_tower), (own.text_tower, other.text_tower)
        for one, two in pairs:
            if [w.shape for w in one.weights] != [w.shape for w in two.weights]:
                return False
            if not all(map(np.array_equal, one.get_weights(), two.get_weights())):
                return False
        return self.model.tokenizer.describe() == model.tokenizer.describe()

    def images(self, key: str, views) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (N,) and features (N, T, F) of a dataset of views, by a key."""
        import tensorflow as tf

        from tfclip.console import progress
        from tfclip.evaluation.embedding.embed import view_batches

        if key not in self._images:
            encoder = self.model.dual_encoder
            run = tf.function(encoder.image_features, reduce_retracing=True, autograph=False)
            rows, parts = [], []
            for row, batch in progress(view_batches(views()), total=None, what=key):
                flat = run(tf.reshape(batch, [-1, *batch.shape[2:]])).numpy()
                parts.append(flat.reshape(*batch.shape[:2], -1))
                rows.append(row.numpy())
            self._images[key] = np.concatenate(rows), np.concatenate(parts)
        return self._images[key]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return the features (M, F) of M texts."""
        from tfclip.evaluation.embedding.text_batches import embed_by_length

        model = self.model
        if missing := [text for text in dict.fromkeys(texts) if text not in self._texts]:
            width = model.dual_encoder.text_tower.output_shape[-1]
            features = embed_by_length(
                model.dual_encoder.text_features, model.tokenizer, missing, width
            )
            self._texts |= dict(zip(missing, features, strict=True))
        return np.stack([self._texts[text] for text in texts])


class Measured:
    """A run to measure: its own heads on shared towers (`evaluation.embedding.Embeddings`)."""

    def __init__(self, tower: Tower, model):
        self.tower, self.model = tower, model
        self.trained_on = model.trained_on
        self.logit_scale = float(model.dual_encoder.temperature())

    def images(self, key: str, views) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (N,) and unit-norm embeddings (N, T, D) of a dataset of views."""
        rows, features = self.tower.images(key, views)
        embed = self.model.dual_encoder.embed_image_features
        return rows, np.stack([embed(features[:, t]).numpy() for t in range(features.shape[1])], 1)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit-norm embeddings (M, D) of texts."""
        features = self.tower.texts(texts)
        mask = np.ones((len(features), 1), np.int32)
        return self.model.dual_encoder.embed_text_features(features, mask).numpy()

    def views(self, pictures, tiles: str) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and embeddings of the views of labelled pictures."""
        from tfclip.inputs.tiles import tile_boxes

        size = self.model.config.picture_size
        key = f"{pictures.reference} {tiles}"
        return self.images(key, lambda: pictures.views(size, tile_boxes(tiles)))


def opened(runs: list[Path]) -> list[Measured]:
    """Load the runs; those with equal towers share their features."""
    from tfclip.models.saving import load_model

    towers: list[Tower] = []
    found = []
    for run in runs:
        model = load_model(run)
        tower = next((one for one in towers if one.fits(model)), None)
        if tower is None:
            towers.append(tower := Tower(model))
        found.append(Measured(tower, model))
    if len(towers) < len(runs):
        say(f"{len(runs)} runs share the features of {len(towers)} pair(s) of towers")
    return found
