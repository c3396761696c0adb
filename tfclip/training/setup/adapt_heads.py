"""Initialises heads that standardise features, by the mean and deviation of training examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.evaluation.embedding.features.eight_bits import EightBits
from tfclip.evaluation.embedding.features.feature_cache import ImageFeatures, TextFeatures
from tfclip.evaluation.embedding.features.joined_arrays import JoinedArrays
from tfclip.evaluation.embedding.text_batches import embed_by_length
from tfclip.inputs.images import decode_record_jpeg, resize_picture
from tfclip.models.saving import TrainedModel
from tfclip.records import schema
from tfclip.records.reader import read_split

# Enough to estimate a mean and a deviation.
EXAMPLES = 2048
AT_ONCE = 128


def adapt_heads(
    trained: TrainedModel,
    records: Path,
    split: str,
    image: ImageFeatures | None = None,
    text: TextFeatures | None = None,
) -> None:
    """Call `adapt` of heads that have it with the first pictures and texts of a split.

    Args:
        trained: a model whose towers have their initial weights.
        records, split: the records with the examples.
        image, text: stored outputs of the towers over the split, or over several sets, of which
            all give examples; None runs the tower.
    """
    encoder = trained.dual_encoder
    if hasattr(encoder.image_head, "adapt"):
        features = (
            _image_features(trained, records, split)
            if image is None
            else _examples(image.features)[:, 0]
        )
        encoder.image_head.adapt(features)
    if hasattr(encoder.text_head, "adapt"):
        features = (
            _text_features(trained, records, split) if text is None else _examples(text.features)
        )
        encoder.text_head.adapt(features)


def _examples(features: np.ndarray | EightBits | JoinedArrays) -> np.ndarray:
    if isinstance(features, JoinedArrays):
        return features.spread(EXAMPLES)
    return features[:EXAMPLES]


def _image_features(trained: TrainedModel, records: Path, split: str) -> np.ndarray:
    size = trained.config.picture_size
    pictures = read_split(
        records,
        split,
        features=(schema.IMAGE,),
        then=lambda record: resize_picture(decode_record_jpeg(record[schema.IMAGE]), size),
    )
    run = tf.function(trained.dual_encoder.image_features, reduce_retracing=True, autograph=False)
    return np.concatenate([run(batch) for batch in pictures.take(EXAMPLES).batch(AT_ONCE)])


def _text_features(trained: TrainedModel, records: Path, split: str) -> np.ndarray:
    listed = read_split(records, split, features=(schema.CAPTION, schema.PHRASE))
    texts = []
    for record in listed.as_numpy_iterator():
        texts += [*record[schema.CAPTION], *record[schema.PHRASE]]
        if len(texts) >= EXAMPLES:
            break
    run = tf.function(trained.dual_encoder.text_features, reduce_retracing=True, autograph=False)
    width = trained.dual_encoder.text_tower.output_shape[-1]
    return embed_by_length(run, trained.tokenizer, texts[:EXAMPLES], width)
