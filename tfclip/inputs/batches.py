"""Training batches: records to the dict of tensors of which one replica gets a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from tfclip.inputs.images import augment, crop_region, decode_record_jpeg, resize_picture
from tfclip.inputs.text import WordPieceTokenizer
from tfclip.records import schema
from tfclip.records.reader import Record, endless_shards, read_shards

FEATURES = (schema.IMAGE, schema.KEY, schema.ID, schema.CAPTION, schema.PHRASE, *schema.BOX)
# Ids are hashes below 2 ** 62: far apart enough that two among a million collide with 1e-7.
_BUCKETS = 2**62


@dataclass(frozen=True)
class Drawing:
    """How an example is drawn from a record.

    `region_share` of the examples of records with regions show a region and its phrase, cut out
    with a random margin of up to `region_margin` times its size on each side; the others show the
    whole picture with one of its captions and phrases. Pictures vary by `crop_scale` and `flip`.
    """

    image_size: int
    region_share: float = 0.0
    region_margin: float = 0.0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = False


def training_batches(
    files: Sequence[str],
    tokenizer: WordPieceTokenizer,
    drawing: Drawing,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> tf.data.Dataset:
    """Return endless training batches; (seed, step) alone decides what batch `step` holds.

    Args:
        files: shards of one split, from `records.reader.split_files`.
        tokenizer: turns captions into ids.
        drawing: how examples are drawn from records.
        batch_size: examples in a batch, over all replicas.
        seed: of the order of the records and of every draw.
        start_step: batches to leave out at the start; they are skipped before decoding.

    Returns:
        Batches of `image` (B,S,S,3) uint8, `token_ids` (B,L) int32, `text_mask` (B,L) int32,
        `image_id` (B,) int64 and `caption_id` (B,) int64.
    """

    def draw(number: tf.Tensor, record: Record) -> dict[str, tf.Tensor]:
        return draw_example(record, tf.stack([seed, tf.cast(number % 2**31, tf.int32)]), drawing)

    examples = endless_shards(
        files,
        shuffle_seed=seed,
        start=start_step * batch_size,
        features=FEATURES,
        then=draw,
    )
    return _batches(examples, tokenizer, batch_size)


def validation_batches(
    files: Sequence[str], tokenizer: WordPieceTokenizer, image_size: int, *, batch_size: int
) -> tf.data.Dataset:
    """Return one pass of whole batches for the validation loss: whole pictures, the same each time.

    Records after the last whole batch are left out: the contrastive loss depends on the size of the
    batch, and a smaller one would look better than it is.
    """
    examples = read_shards(
        files,
        features=FEATURES,
        then=lambda record: draw_example(record, tf.constant([0, 0]), Drawing(image_size)),
    )
    return _batches(examples, tokenizer, batch_size)


def _batches(
    examples: tf.data.Dataset, tokenizer: WordPieceTokenizer, batch_size: int
) -> tf.data.Dataset:
    def finish(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        caption = example.pop("caption")
        tokens = tokenizer(caption)
        # No bool reaches a strategy: cutting the end of a finite dataset into replicas raises on
        # it.
        tokens["text_mask"] = tf.cast(tokens["text_mask"], tf.int32)
        return {**example, **tokens, "caption_id": caption_id(caption)}

    return (
        examples.batch(batch_size, drop_remainder=True)
        .map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(2)
    )


def draw_example(record: Record, seed: tf.Tensor, drawing: Drawing) -> dict[str, tf.Tensor]:
    """Draw one example from a parsed record: `image`, `caption` and `image_id`.

    Args:
        record: from `records.schema.parse`, with `FEATURES`.
        seed: (2,) int32; equal seeds draw equal examples.
        drawing: what may be drawn.
    """
    seeds = tf.unstack(tf.random.split(seed, 5))
    picture = decode_record_jpeg(record[schema.IMAGE])
    phrases, captions = record[schema.PHRASE], record[schema.CAPTION]
    regions = tf.shape(phrases)[0]

    def region():
        at = _below(regions, seeds[0])
        xmin, ymin, xmax, ymax = (record[name][at] for name in schema.BOX)
        width, height = xmax - xmin, ymax - ymin
        # One factor for all four sides beside their own draws: narrow and wide cuts are as likely.
        margin = tf.random.stateless_uniform([4], seeds[1]) * drawing.region_margin
        margin *= tf.random.stateless_uniform([], seeds[2])
        box = tf.stack([ymin, xmin, ymax, xmax]) + margin * tf.stack(
            [-height, -width, height, width]
        )
        image = crop_region(picture, tf.clip_by_value(box, 0.0, 1.0), drawing.image_size)
        key = tf.strings.join([record[schema.KEY], tf.strings.as_string(at)], "#")
        return image, phrases[at], tf.strings.to_hash_bucket_fast(key, _BUCKETS)

    def whole():
        texts = tf.concat([captions, phrases], axis=0)
        text = tf.cond(
            tf.size(texts) > 0, lambda: texts[_below(tf.size(texts), seeds[0])], lambda: ""
        )
        return resize_picture(picture, drawing.image_size), text, record[schema.ID]

    if drawing.region_share > 0:
        drawn = tf.random.stateless_uniform([], seeds[3]) < drawing.region_share
        image, caption, image_id = tf.cond(drawn & (regions > 0), region, whole)
    else:
        image, caption, image_id = whole()
    image = augment(image, seeds[4], crop_scale=drawing.crop_scale, flip=drawing.flip)
    return {"image": image, "caption": caption, "image_id": image_id}


def caption_id(captions: tf.Tensor) -> tf.Tensor:
    """The hash of captions (B,) string without case, outer space and closing full stop: (B,) int64.

    Equal ids make two rows of a batch each other's positives.
    """
    plain = tf.strings.lower(tf.strings.strip(captions), encoding="utf-8")
    plain = tf.strings.regex_replace(plain, r"[\s.]+$", "")
    return tf.strings.to_hash_bucket_fast(plain, _BUCKETS)


def _below(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, maxval=count, dtype=tf.int32)
