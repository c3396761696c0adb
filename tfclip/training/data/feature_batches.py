"""Training batches with stored features instead of the inputs of frozen towers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfclip.evaluation.embedding.features.feature_cache import ImageFeatures, TextFeatures
from tfclip.evaluation.embedding.from_features import text_rows
from tfclip.graphs import as_written
from tfclip.inputs.batches import TeacherEmbeddings, tokenized
from tfclip.inputs.examples import ExampleRng, example_seed, several_of, view_of
from tfclip.inputs.images import decode_record_jpeg
from tfclip.inputs.input_shards import ALL, InputShard
from tfclip.inputs.mixture import Mixture, endless_examples
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.text import Tokenizer
from tfclip.inputs.view_sets import view_set
from tfclip.inputs.words import RecordWords
from tfclip.records import schema
from tfclip.records.reader import ROW, Record


def feature_batches(
    files: Sequence[str] | Mixture,
    counts: Sequence[int],
    tokenizer: Tokenizer,
    image_size: int,
    sampling: SamplingOptions,
    *,
    image: ImageFeatures | None,
    text: TextFeatures | None,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    words: RecordWords | None = None,
    teachers: TeacherEmbeddings | None = None,
    input_shard: InputShard = ALL,
) -> tf.data.Dataset:
    """Return endless training batches with the same examples as `training_batches`.

    The same seed results in the same order, views and texts; stored outputs of towers are looked
    up. If both modalities are stored, no picture is read.

    Args:
        files: the shards whose features are stored, or a mixture of sets.
        counts: the number of records in each shard; a mixture has its own.
        tokenizer, image_size, sampling, batch_size, seed, start_step, words, teachers, input_shard:
            see `inputs.batches.training_batches`.
        image: replaces `image` (B,S,S,3) by `image_features` (B,F) or (B,P,F). For a mixture, the
            features of all its sets, one after the other.
        text: replaces `token_ids` (B,L) by `text_features` (B,F) or (B,L,F).

    Returns:
        Batches of these, and of `text_mask` (B,L) int32, `image_id` and `caption_id` (B,) int64.
        With K captions per picture, texts are (B,K,...) and `caption_id` is (B,K).
    """
    needed = []
    if image is None:
        needed += [schema.IMAGE, schema.ID]
    if text is None:
        needed += [schema.CAPTION, schema.PHRASE]

    # Sampling each example separately would take longer than a step of the heads.
    samples_batches = image is not None and text is not None and sampling.captions > 1

    def sample(own: int | tf.Tensor, number: tf.Tensor, record: Record) -> dict[str, tf.Tensor]:
        if samples_batches:
            return {ROW: record[ROW], "number": number, "seed": tf.cast(own, tf.int64)}
        rng = ExampleRng(example_seed(own, number))
        example = {ROW: record[ROW], "view": rng.view_at(sampling.views)}
        if image is None:
            picture = decode_record_jpeg(record[schema.IMAGE])
            image_id = record[schema.ID]
            seen = rng.view(picture, image_id, image_size, sampling.views)
            example |= {"image": seen, "image_id": image_id}
        if text is None:
            example["caption"] = rng.text(record, sampling)
            count = tf.size(record[schema.CAPTION]) + tf.size(record[schema.PHRASE])
            example["place"] = rng.text_places(count, sampling.captions)
            return example
        starts = tf.constant(text.text_starts)
        first, last = starts[record[ROW]], starts[record[ROW] + 1]
        count = tf.cast(last - first, tf.int32)
        place = rng.text_places(count, sampling.captions)
        # The last text is the empty one.
        at = tf.where(count > 0, first + tf.cast(place, tf.int64), len(text.caption_id) - 1)
        return {**example, "place": place, "text": at}

    examples = endless_examples(
        files,
        seed=seed,
        start=start_step * batch_size,
        features=needed,
        sample=sample,
        keep=input_shard.keep(batch_size),
        counts=counts,
    )

    def finish(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if samples_batches and text is not None:
            numbers, seeds = example["number"] % 2**31, example["seed"]
            views = len(view_set(sampling.views))
            example["view"] = view_of(seeds, numbers, views)
            starts = tf.constant(text.text_starts)
            first = tf.gather(starts, example[ROW])
            count = tf.gather(starts, example[ROW] + 1) - first
            chosen = several_of(seeds, numbers, tf.maximum(count, 1), sampling.captions)
            at = first[:, None] + tf.cast(chosen, tf.int64)
            example["text"] = tf.where(count[:, None] > 0, at, len(text.caption_id) - 1)
            example["place"] = tf.where(tf.cast(count, tf.int32)[:, None] > 0, chosen, -1)
        names = ("image", "image_id")
        batch: dict[str, tf.Tensor] = {name: example[name] for name in names if name in example}
        if image is not None:
            batch |= _look_up_images(image, example[ROW], example["view"])
        if words is not None:
            batch["words"] = words.look_up(example[ROW])
        if teachers is not None:
            batch |= teachers.look_up(example[ROW], example["view"], example["place"])
        if text is not None:
            return batch | _look_up_texts(text, example["text"])
        return batch | tokenized(tokenizer, example["caption"])

    return (
        examples.batch(batch_size // input_shard.count, drop_remainder=True)
        .map(as_written(finish), num_parallel_calls=2, deterministic=True)
        .prefetch(2)
    )


def stored_validation_batches(
    image: ImageFeatures, text: TextFeatures, *, batch_size: int
) -> tf.data.Dataset:
    """Return one pass of whole batches with the first view and a fixed text of each record: the
    batches of `inputs.batches.validation_batches` from stored features of both modalities."""
    rng = ExampleRng(tf.constant([0, 0]))
    counts = np.diff(text.text_starts).astype(np.int32)
    choice = tf.map_fn(rng.below, tf.constant(np.maximum(counts, 1)))
    texts = np.where(counts > 0, text.text_starts[:-1] + choice.numpy(), len(text.caption_id) - 1)
    rows = tf.data.Dataset.from_tensor_slices((np.arange(len(counts)), texts))

    def look_up(rows: tf.Tensor, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return _look_up_images(image, rows, tf.zeros_like(rows)) | _look_up_texts(text, texts)

    return rows.batch(batch_size, drop_remainder=True).map(as_written(look_up)).prefetch(2)


def _look_up_images(stored: ImageFeatures, rows: tf.Tensor, views: tf.Tensor) -> dict:
    def look_up(rows: np.ndarray, views: np.ndarray):
        return stored.features[rows, views], stored.image_id[rows]

    features, image_id = tf.numpy_function(
        look_up, [rows, views], [stored.features.dtype, tf.int64]
    )
    return {
        "image_features": tf.ensure_shape(features, [*rows.shape, *stored.features.shape[2:]]),
        "image_id": tf.ensure_shape(image_id, rows.shape),
    }


def _look_up_texts(stored: TextFeatures, texts: tf.Tensor) -> dict:
    def look_up(texts: np.ndarray):
        features, mask = text_rows(stored, texts.reshape(-1))
        shaped = (part.reshape(*texts.shape, *part.shape[1:]) for part in (features, mask))
        return *shaped, stored.caption_id[texts]

    kinds = [stored.features.dtype, tf.int32, tf.int64]
    features, mask, ids = tf.numpy_function(look_up, [texts], kinds)
    width = stored.features.shape[-1]
    shape = [*texts.shape, width] if stored.token_starts is None else [*texts.shape, None, width]
    return {
        "text_features": tf.ensure_shape(features, shape),
        "text_mask": tf.ensure_shape(mask, [*texts.shape, None]),
        "caption_id": tf.ensure_shape(ids, texts.shape),
    }
