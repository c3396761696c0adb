"""Training batches: records to the dict of tensors of which one replica gets a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

from tfclip.inputs.draws import hashed
from tfclip.inputs.images import (
    augment,
    crop_region,
    decode_record_jpeg,
    picture_view,
)
from tfclip.inputs.mixture import Mixture
from tfclip.inputs.regions import context_box, crop_box, phrases_kept, says_side
from tfclip.inputs.shares import ALL, Share
from tfclip.inputs.text import Tokenizer
from tfclip.inputs.view_sets import view_set
from tfclip.inputs.words import RecordWords
from tfclip.records import schema
from tfclip.records.reader import ROW, Record, endless_shards, read_shards

FEATURES = (schema.IMAGE, schema.KEY, schema.ID, schema.CAPTION, schema.PHRASE, *schema.BOX)
# Ids are hashes below 2 ** 62: far apart enough that two among a million collide with 1e-7.
_BUCKETS = 2**62


@dataclass(frozen=True)
class Drawing:
    """How an example is drawn from a record.

    `region_share` of the examples of records with regions show a region and its phrase, as
    `regions` says (see `inputs.regions`): cut out with a random margin of up to `region_margin`
    times its size on each side ("crop"), with at least half of the other regions ("context"), or
    either ("mix"). The others show the whole picture with one of its captions and phrases, or,
    where `phrases` is 2, with two of its phrases as one text. At most `max_phrases` phrases of a
    picture are used, drawn by seed. A whole picture is seen in one of its `views`, by name (see
    `inputs.view_sets`), and varies by `crop_scale` and `flip`, which mirrors every second picture
    whose text does not say left or right. With `captions` K above 1 it comes with K of its texts,
    as different as it has.
    """

    image_size: int
    regions: str = "whole"
    region_share: float = 0.0
    max_phrases: int | None = None
    region_margin: float = 0.0
    crop_scale: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    phrases: int = 1
    views: str = "1"
    captions: int = 1


def training_batches(
    files: Sequence[str] | Mixture,
    tokenizer: Tokenizer,
    drawing: Drawing,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    epoch_size: int | None = None,
    words: RecordWords | None = None,
    share: Share = ALL,
) -> tf.data.Dataset:
    """Return endless training batches; (seed, step) alone decides what batch `step` holds.

    Args:
        files: shards of one split, from `records.reader.split_files`; or of several sets.
        tokenizer: turns captions into ids.
        drawing: how examples are drawn from records.
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
        example = draw_example(record, example_seed(seed, number), drawing)
        return example if words is None else {**example, ROW: record[ROW]}

    if isinstance(files, Mixture):
        if words is not None:
            raise ValueError("words are those of one set of records, not of several")
        examples = files.examples(
            seed,
            start_step * batch_size,
            FEATURES,
            lambda own, number, record: draw_example(record, example_seed(own, number), drawing),
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


def example_seed(seed: int, number: tf.Tensor) -> tf.Tensor:
    """The seed (2,) int32 of the draws of example `number`, () int64."""
    return tf.stack([seed, tf.cast(number % 2**31, tf.int32)])


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
        then=lambda record: draw_example(record, tf.constant([0, 0]), Drawing(image_size)),
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


def draw_example(record: Record, seed: tf.Tensor, drawing: Drawing) -> dict[str, tf.Tensor]:
    """Draw one example from a parsed record: `image`, `caption` and `image_id`.

    Args:
        record: from `records.schema.parse`, with `FEATURES`.
        seed: (2,) int32; equal seeds draw equal examples.
        drawing: what may be drawn.
    """
    draws = Draws(seed)
    picture = decode_record_jpeg(record[schema.IMAGE])
    if drawing.max_phrases is None:
        kept = tf.range(tf.size(record[schema.PHRASE]))
    else:
        kept = phrases_kept(seed[0], record[schema.ID], record[schema.PHRASE], drawing.max_phrases)
    texts = {**record, schema.PHRASE: tf.gather(record[schema.PHRASE], kept)}

    def region():
        at = kept[draws.below(tf.size(kept))]
        image = crop_region(picture, draws.region_box(record, at, drawing), drawing.image_size)
        key = tf.strings.join([record[schema.KEY], tf.strings.as_string(at)], "#")
        return image, record[schema.PHRASE][at], tf.strings.to_hash_bucket_fast(key, _BUCKETS)

    def whole():
        image = draws.view(picture, record[schema.ID], drawing)
        return image, draws.text(texts, drawing), record[schema.ID]

    if drawing.region_share > 0:
        drawn = tf.random.stateless_uniform([], draws.seeds[3]) < drawing.region_share
        image, caption, image_id = tf.cond(drawn & (tf.size(kept) > 0), region, whole)
    else:
        image, caption, image_id = whole()
    flip = ~says_side(caption) if drawing.flip else False
    image = augment(image, draws.seeds[4], crop_scale=drawing.crop_scale, flip=flip)
    return {"image": image, "caption": caption, "image_id": image_id}


def view_of(seed: tf.Tensor, number: tf.Tensor, views: int) -> tf.Tensor:
    """Which of so many views examples (...) show: (...) int32, by their number alone."""
    return tf.cast(hashed(seed, number, 0) % views, tf.int32)


def several_of(seed: tf.Tensor, number: tf.Tensor, count: tf.Tensor, wanted: int) -> tf.Tensor:
    """Which `wanted` of `count` (...) texts examples (...) have: (..., wanted) int32.

    One after the other in the record, from a drawn one on and round.
    """
    count = tf.cast(count, tf.int64)
    first = hashed(seed, number, 1) % count
    places = first[..., None] + tf.range(wanted, dtype=tf.int64)
    return tf.cast(places % count[..., None], tf.int32)


class Draws:
    """What is drawn for one example; also where stored features stand in for pictures or texts.

    Args:
        seed: (2,) int32; equal seeds draw equal examples.
    """

    def __init__(self, seed: tf.Tensor):
        self.seed = seed
        self.seeds = tf.unstack(tf.random.split(seed, 5))

    def several(self, count: tf.Tensor, wanted: int) -> tf.Tensor:
        """Which `wanted` of `count` () int32 texts, each once before any comes again: (wanted,)."""
        if wanted == 1:
            return self.below(count)[None]
        return several_of(self.seed[0], self.seed[1], count, wanted)

    def below(self, count: tf.Tensor) -> tf.Tensor:
        """Which of `count` () int32 texts: () int32 in 0..count-1."""
        return _below(count, self.seeds[0])

    def view_at(self, drawing: Drawing) -> tf.Tensor:
        """Which of the drawing's views: () int32."""
        return view_of(self.seed[0], self.seed[1], len(view_set(drawing.views)))

    def view(self, picture: tf.Tensor, image_id: tf.Tensor, drawing: Drawing) -> tf.Tensor:
        """The drawn view of `picture` (H,W,3) uint8: (S,S,3) uint8."""
        seen = [
            partial(picture_view, picture, view, drawing.image_size, image_id, number)
            for number, view in enumerate(view_set(drawing.views))
        ]
        return seen[0]() if len(seen) == 1 else tf.switch_case(self.view_at(drawing), seen)

    def region_box(self, record: Record, at: tf.Tensor, drawing: Drawing) -> tf.Tensor:
        """What of the picture is shown with its region `at` () int32: (4,) y0,x0,y1,x1."""
        xmin, ymin, xmax, ymax = (record[name] for name in schema.BOX)
        boxes = tf.stack([ymin, xmin, ymax, xmax], axis=1)

        def crop():
            return crop_box(boxes[at], self.seeds[1:3], drawing.region_margin)

        def context():
            return context_box(boxes, at, self.seeds[1])

        if drawing.regions == "mix":
            coin = tf.random.stateless_uniform([], tf.random.fold_in(self.seeds[3], 1))
            return tf.cond(coin < 0.5, crop, context)
        return context() if drawing.regions == "context" else crop()

    def text(self, record: Record, drawing: Drawing) -> tf.Tensor:
        """The drawn text of a record, () string, or (K,) where K captions are asked for; the empty
        text where it has none."""
        captions, phrases = record[schema.CAPTION], record[schema.PHRASE]
        texts = tf.concat([captions, phrases], axis=0)

        def one():
            return texts[self.below(tf.size(texts))]

        def two():
            order = tf.random.experimental.stateless_shuffle(phrases, self.seeds[0])
            return tf.strings.reduce_join(order[:2], separator=" and ")

        def one_or_two():
            return tf.cond(tf.size(phrases) > 1, two, one)

        def several():
            return tf.gather(texts, self.several(tf.size(texts), drawing.captions))

        if drawing.captions > 1:
            none = tf.fill([drawing.captions], "")
            return tf.cond(tf.size(texts) > 0, several, lambda: none)
        return tf.cond(tf.size(texts) > 0, one_or_two if drawing.phrases == 2 else one, lambda: "")


def caption_id(captions: tf.Tensor) -> tf.Tensor:
    """The hash of captions (B,) string without case, outer space and closing full stop: (B,) int64.

    Equal ids make two rows of a batch each other's positives.
    """
    plain = tf.strings.lower(tf.strings.strip(captions), encoding="utf-8")
    plain = tf.strings.regex_replace(plain, r"[\s.]+$", "")
    return tf.strings.to_hash_bucket_fast(plain, _BUCKETS)


def _below(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, maxval=count, dtype=tf.int32)
