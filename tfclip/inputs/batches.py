"""Training batches: records to the dict of tensors of which one replica gets a part."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfclip.inputs.examples import (
    FEATURES,
    ID_BUCKETS,
    example_seed,
    sample_example,
)
from tfclip.inputs.input_shards import ALL, InputShard
from tfclip.inputs.mixture import Mixture
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.text import Tokenizer
from tfclip.inputs.words import RecordWords
from tfclip.records.reader import ROW, Record, endless_shards, read_shards


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
    share: InputShard = ALL,
) -> tf.data.Dataset:
    """Return endless training batches; (seed, step) alone decides what batch `step` holds.

    Args:
        files: shards of one split, from `records.reader.split_files`; or of several sets.
        tokenizer: turns captions into ids.
        image_size: height and width S of the pictures; a `PictureSize` also says how a whole
            picture is resized.
        sampling: how examples are drawn from records.
        batch_size: examples in a batch, over all replicas and machines.
        seed: of the order of the records and of every draw.
        start_step: batches to leave out at the start; they are skipped before decoding.
        epoch_size: records in `files`, where those are of one set: then earlier epochs are not even
            read.
        words: which words the captions of each record hold; adds them. For one set only.
        share: which rows of each batch to make; of one set, no other picture is decoded.

    Returns:
        Batches of `image` (B,S,S,3) uint8, `token_ids` (B,L) int32, `text_mask` (B,L) int32,
        `image_id` (B,) int64 and `caption_id` (B,) int64; with K captions (B,K,L) and (B,K). With
        `words`, `words` (B,M) int32.
    """

    def draw(number: tf.Tensor, record: Record) -> dict[str, tf.Tensor]:
        example = sample_example(record, example_seed(seed, number), image_size, sampling)
        return example if words is None else {**example, ROW: record[ROW]}

    if isinstance(files, Mixture):
        if words is not None:
            raise ValueError("words are those of one set of records, not of several")
        examples = files.examples(
            seed,
            start_step * batch_size,
            FEATURES,
            lambda own, number, record: sample_example(
                record, example_seed(own, number), image_size, sampling
            ),
        )
        keep = share.keep(batch_size)
        if keep is not None:
            # Only in the order of all is it known which set an example is from: each machine draws
            # all of them.
            numbered = examples.enumerate(start_step * batch_size)
            examples = numbered.filter(lambda number, example: keep(number)).map(
                lambda number, example: example
            )
        return _batches(examples, tokenizer, batch_size // share.count)
    examples = endless_shards(
        files,
        shuffle_seed=seed,
        start=start_step * batch_size,
        epoch_size=epoch_size,
        features=FEATURES,
        counts=None if words is None else words.counts,
        keep=share.keep(batch_size),
        then=draw,
    )
    return _batches(examples, tokenizer, batch_size // share.count, words)


def validation_batches(
    files: Sequence[str], tokenizer: Tokenizer, image_size: int, *, batch_size: int
) -> tf.data.Dataset:
    """Return one pass of whole batches for the validation loss: whole pictures, the same each time.

    Records after the last whole batch are left out: the contrastive loss depends on the size of the
    batch, and a smaller one would look better than it is.
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
) -> tf.data.Dataset:
    def finish(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        caption = example.pop("caption")
        if words is not None:
            example["words"] = words.look_up(example.pop(ROW))
        return {**example, **tokenized(tokenizer, caption)}

    return (
        examples.batch(batch_size, drop_remainder=True)
        .map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(2)
    )


def tokenized(tokenizer: Tokenizer, captions: tf.Tensor) -> dict[str, tf.Tensor]:
    """`token_ids` and `text_mask` (B,L) int32, and `caption_id` (B,) int64, of captions (B,); or
    (B,K,L) and (B,K) of (B,K)."""
    flat = tf.reshape(captions, [-1])
    tokens = tokenizer(flat)
    shape = [*captions.shape, tokenizer.context_length]
    return {
        "token_ids": tf.reshape(tokens["token_ids"], shape),
        # No bool reaches a strategy: cutting the end of a finite dataset into replicas raises on
        # it.
        "text_mask": tf.reshape(tf.cast(tokens["text_mask"], tf.int32), shape),
        "caption_id": tf.reshape(caption_id(flat), captions.shape),
    }


def caption_id(captions: tf.Tensor) -> tf.Tensor:
    """The hash of captions (B,) string without case, outer space and closing full stop: (B,) int64.

    Equal ids make two rows of a batch each other's positives.
    """
    plain = tf.strings.lower(tf.strings.strip(captions), encoding="utf-8")
    plain = tf.strings.regex_replace(plain, r"[\s.]+$", "")
    return tf.strings.to_hash_bucket_fast(plain, ID_BUCKETS)
