"""Batches for training and validation: records to dicts of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf

from tfclip.graphs import as_written
from tfclip.inputs.examples import (
    FEATURES,
    ID_BUCKETS,
    ExampleRng,
    example_seed,
    sample_example,
)
from tfclip.inputs.input_shards import ALL, InputShard
from tfclip.inputs.mixture import Mixture, endless_examples
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.text import Tokenizer
from tfclip.inputs.words import RecordWords
from tfclip.records import schema
from tfclip.records.reader import ROW, Record, read_shards


class TeacherEmbeddings(Protocol):
    """Stored embeddings of teachers; see `training.data.teachers`."""

    @property
    def counts(self) -> Sequence[int]:
        """The number of records of each shard."""

    def look_up(self, rows: tf.Tensor, views: tf.Tensor, places: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the columns that are added to a batch."""


def training_batches(
    files: Sequence[str] | Mixture,
    tokenizer: Tokenizer,
    image_size: int,
    sampling: SamplingOptions,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    epoch_size: int | None = None,
    words: RecordWords | None = None,
    teachers: TeacherEmbeddings | None = None,
    input_shard: InputShard = ALL,
) -> tf.data.Dataset:
    """Return endless training batches. The content of batch `step` depends on seed and step alone.

    Args:
        files: the shards of one split, from `records.reader.split_files`, or a mixture of sets.
        tokenizer: the tokenizer of the captions.
        image_size: height and width S of the pictures; a `PictureSize` also says how a whole
            picture is resized.
        sampling: how examples are sampled from records.
        batch_size: examples in a batch, over all replicas and machines.
        seed: seed of the order of the records and of all random choices.
        start_step: the number of batches to skip at the start; they are not decoded.
        epoch_size: the number of records in `files` of a single set; with it earlier epochs are not
            read.
        words: the words in the captions of each record, added to the batches; for a mixture those
            of all its sets, one after the other.
        teachers: the embeddings of teachers, added for the view and the texts of each example; a
            single set without regions only.
        input_shard: the rows of each batch to read; only they are decoded.

    Returns:
        Batches of `image` (B,S,S,3) uint8, `token_ids` (B,L) int32, `text_mask` (B,L) int32,
        `image_id` (B,) int64 and `caption_id` (B,) int64; with K captions (B,K,L) and (B,K). With
        `words`, `words` (B,M) int32.
    """

    needs_row = words is not None or teachers is not None

    def sample(own: int | tf.Tensor, number: tf.Tensor, record: Record) -> dict[str, tf.Tensor]:
        example = sample_example(record, example_seed(own, number), image_size, sampling)
        if needs_row:
            example[ROW] = record[ROW]
        if teachers is not None:
            rng = ExampleRng(example_seed(own, number))
            count = tf.size(record[schema.CAPTION]) + tf.size(record[schema.PHRASE])
            example |= {
                "view": rng.view_at(sampling.views),
                "place": rng.text_places(count, sampling.captions),
            }
        return example

    if teachers is not None and isinstance(files, Mixture):
        raise ValueError("teachers need a single set of records, not a mixture")
    examples = endless_examples(
        files,
        seed=seed,
        start=start_step * batch_size,
        features=FEATURES,
        sample=sample,
        keep=input_shard.keep(batch_size),
        counts=next((given.counts for given in (words, teachers) if given is not None), None),
        epoch_size=epoch_size,
    )
    return _batches(examples, tokenizer, batch_size // input_shard.count, words, teachers)


def validation_batches(
    files: Sequence[str], tokenizer: Tokenizer, image_size: int, *, batch_size: int
) -> tf.data.Dataset:
    """Return one pass of full batches for the validation loss, with whole pictures, always the
    same.

    Records after the last full batch are dropped: the contrastive loss depends on the batch size,
    and that of a smaller batch would be too low.
    """
    examples = read_shards(
        files,
        features=FEATURES,
        then=lambda record: sample_example(
            record, tf.constant([0, 0]), image_size, SamplingOptions()
        ),
    )
    return _batches(examples, tokenizer, batch_size)


def _batches(
    examples: tf.data.Dataset,
    tokenizer: Tokenizer,
    batch_size: int,
    words: RecordWords | None = None,
    teachers: TeacherEmbeddings | None = None,
) -> tf.data.Dataset:
    def finish(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        caption, rows = example.pop("caption"), example.pop(ROW, None)
        if words is not None:
            example["words"] = words.look_up(rows)
        if teachers is not None:
            example |= teachers.look_up(rows, example.pop("view"), example.pop("place"))
        return {**example, **tokenized(tokenizer, caption)}

    return (
        examples.batch(batch_size, drop_remainder=True)
        .map(as_written(finish), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(2)
    )


def tokenized(tokenizer: Tokenizer, captions: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return `token_ids` and `text_mask` (B,L) int32, and `caption_id` (B,) int64, of captions (B,)
    string; for captions (B,K) they are (B,K,L) and (B,K)."""
    flat = tf.reshape(captions, [-1])
    tokens = tokenizer(flat)
    shape = [*captions.shape, tokenizer.context_length]
    return {
        "token_ids": tf.reshape(tokens["token_ids"], shape),
        # int32, because a distribution strategy fails when it splits the last batch of a finite
        # dataset with a bool tensor.
        "text_mask": tf.reshape(tf.cast(tokens["text_mask"], tf.int32), shape),
        "caption_id": tf.reshape(caption_id(flat), captions.shape),
    }


def caption_id(captions: tf.Tensor) -> tf.Tensor:
    """Return a hash of captions (B,) string that ignores case, outer spaces and final periods.

    Two rows of a batch with equal ids are positives of each other. Returns (B,) int64.

    >>> same = caption_id(tf.constant(["A dog.", "a dog"]))
    >>> bool(same[0] == same[1])
    True
    """
    plain = tf.strings.lower(tf.strings.strip(captions), encoding="utf-8")
    plain = tf.strings.regex_replace(plain, r"[\s.]+$", "")
    return tf.strings.to_hash_bucket_fast(plain, ID_BUCKETS)
