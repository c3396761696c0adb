"""Sample one training example from a record, as a function of its seed alone."""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from tfclip.inputs.example_rng import hashed
from tfclip.inputs.images import (
    augment,
    crop_region,
    decode_record_jpeg,
    picture_view,
)
from tfclip.inputs.regions import context_box, crop_box, phrases_kept, says_side
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.view_sets import view_set
from tfclip.records import schema
from tfclip.records.reader import Record

# Ids are hashes below 2 ** 62: among a million, two collide with a probability of 1e-7.
ID_BUCKETS = 2**62
FEATURES = (schema.IMAGE, schema.KEY, schema.ID, schema.CAPTION, schema.PHRASE, *schema.BOX)


def example_seed(seed: int, number: tf.Tensor) -> tf.Tensor:
    """Return the seed of example `number`, () int64: (2,) int32."""
    return tf.stack([seed, tf.cast(number % 2**31, tf.int32)])


def sample_example(
    record: Record, seed: tf.Tensor, image_size: int, sampling: SamplingOptions
) -> dict[str, tf.Tensor]:
    """Sample one example from a parsed record.

    Args:
        record: the record, from `records.schema.parse`, with `FEATURES`.
        seed: (2,) int32; equal seeds give equal examples.
        image_size: the height and width S of the picture, in pixels.
        sampling: how to sample.

    Returns:
        `image` (S,S,3) uint8; `caption` () string, or (K,) for K > 1 captions; `image_id` () int64.

    >>> jpeg = tf.io.encode_jpeg(tf.zeros([40, 60, 3], tf.uint8))
    >>> record = {schema.IMAGE: jpeg, schema.KEY: "coco/1", schema.ID: tf.constant(7, tf.int64)}
    >>> record[schema.CAPTION] = tf.constant(["a dog"])
    >>> record[schema.PHRASE] = tf.constant([], tf.string)
    >>> record |= dict.fromkeys(schema.BOX, tf.constant([], tf.float32))
    >>> example = sample_example(record, tf.constant([0, 1]), 32, SamplingOptions())
    >>> example["image"].shape, example["caption"].numpy(), int(example["image_id"])
    (TensorShape([32, 32, 3]), b'a dog', 7)
    """
    rng = ExampleRng(seed)
    picture = decode_record_jpeg(record[schema.IMAGE])
    if sampling.max_phrases is None:
        kept = tf.range(tf.size(record[schema.PHRASE]))
    else:
        kept = phrases_kept(seed[0], record[schema.ID], record[schema.PHRASE], sampling.max_phrases)
    texts = {**record, schema.PHRASE: tf.gather(record[schema.PHRASE], kept)}

    def region():
        at = kept[rng.below(tf.size(kept))]
        image = crop_region(picture, rng.region_box(record, at, sampling), image_size)
        key = tf.strings.join([record[schema.KEY], tf.strings.as_string(at)], "#")
        return image, record[schema.PHRASE][at], tf.strings.to_hash_bucket_fast(key, ID_BUCKETS)

    def whole():
        image = rng.view(picture, record[schema.ID], image_size, sampling.views)
        return image, rng.text(texts, sampling), record[schema.ID]

    if sampling.share_of_regions > 0:
        is_region = tf.random.stateless_uniform([], rng.seeds[3]) < sampling.share_of_regions
        image, caption, image_id = tf.cond(is_region & (tf.size(kept) > 0), region, whole)
    else:
        image, caption, image_id = whole()
    flip = ~says_side(caption) if sampling.flip else False
    image = augment(image, rng.seeds[4], crop_scale=sampling.crop_scale, flip=flip)
    return {"image": image, "caption": caption, "image_id": image_id}


def view_of(seed: tf.Tensor, number: tf.Tensor, views: int) -> tf.Tensor:
    """Return which of the `views` the examples `number` (...) show: (...) int32."""
    return tf.cast(hashed(seed, number, 0) % views, tf.int32)


def several_of(seed: tf.Tensor, number: tf.Tensor, count: tf.Tensor, wanted: int) -> tf.Tensor:
    """Return which `wanted` of their `count` (...) texts the examples `number` (...) have.

    Consecutive texts of the record, cyclically, from a random one on. Returns (..., wanted) int32.
    """
    count = tf.cast(count, tf.int64)
    first = hashed(seed, number, 1) % count
    places = first[..., None] + tf.range(wanted, dtype=tf.int64)
    return tf.cast(places % count[..., None], tf.int32)


class ExampleRng:
    """The random choices of one example; also used where stored features replace pictures or texts.

    Args:
        seed: (2,) int32; equal seeds give equal choices.
    """

    def __init__(self, seed: tf.Tensor):
        self.seed = seed
        self.seeds = tf.unstack(tf.random.split(seed, 5))

    def several(self, count: tf.Tensor, wanted: int) -> tf.Tensor:
        """Return `wanted` of `count` () int32 texts, all distinct if there are enough: (wanted,)
        int32."""
        if wanted == 1:
            return self.below(count)[None]
        return several_of(self.seed[0], self.seed[1], count, wanted)

    def text_places(self, count: tf.Tensor, wanted: int) -> tf.Tensor:
        """Return the places of the chosen texts among the `count` () int32 texts of a record: ()
        int32, or (wanted,) for several; -1 without texts. `text` chooses the same ones."""
        chosen = self.several(tf.maximum(count, 1), wanted)
        chosen = tf.where(count > 0, chosen, -1)
        return chosen[0] if wanted == 1 else chosen

    def below(self, count: tf.Tensor) -> tf.Tensor:
        """Return a random number from 0 to `count` - 1: () int32."""
        return _below(count, self.seeds[0])

    def view_at(self, views: str) -> tf.Tensor:
        """Return which view of the set `views` is shown: () int32."""
        return view_of(self.seed[0], self.seed[1], len(view_set(views)))

    def view(
        self, picture: tf.Tensor, image_id: tf.Tensor, image_size: int, views: str
    ) -> tf.Tensor:
        """Return the chosen view of `picture` (H,W,3) uint8: (S,S,3) uint8."""
        choices = [
            partial(picture_view, picture, view, image_size, image_id, number)
            for number, view in enumerate(view_set(views))
        ]
        if len(choices) == 1:
            return choices[0]()
        return tf.switch_case(self.view_at(views), choices)

    def region_box(self, record: Record, at: tf.Tensor, sampling: SamplingOptions) -> tf.Tensor:
        """Return the box to show for region `at` () int32: (4,) y0,x0,y1,x1 from 0 to 1."""
        xmin, ymin, xmax, ymax = (record[name] for name in schema.BOX)
        boxes = tf.stack([ymin, xmin, ymax, xmax], axis=1)

        def crop():
            return crop_box(boxes[at], self.seeds[1:3], sampling.region_margin)

        def context():
            return context_box(boxes, at, self.seeds[1])

        if sampling.regions == "mix":
            coin = tf.random.stateless_uniform([], tf.random.fold_in(self.seeds[3], 1))
            return tf.cond(coin < 0.5, crop, context)
        return context() if sampling.regions == "context" else crop()

    def text(self, record: Record, sampling: SamplingOptions) -> tf.Tensor:
        """Return the chosen text of a record, () string, or (K,) for K > 1 captions; "" if it has
        none."""
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
            return tf.gather(texts, self.several(tf.size(texts), sampling.captions))

        if sampling.captions > 1:
            none = tf.fill([sampling.captions], "")
            return tf.cond(tf.size(texts) > 0, several, lambda: none)
        return tf.cond(tf.size(texts) > 0, one_or_two if sampling.phrases == 2 else one, lambda: "")


def _below(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, maxval=count, dtype=tf.int32)
