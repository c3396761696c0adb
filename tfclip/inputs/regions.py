"""Which part of a picture a region phrase is shown with: boxes drawn by seed, in the graph."""

import tensorflow as tf

from tfclip.inputs.example_rng import hashed

_SIDES = r"(?is).*\b(left|right)(most|hand|handed|side|ward|wards)?\b.*"
_STREAM = 4


def says_side(texts: tf.Tensor) -> tf.Tensor:
    """Whether any of the texts (...) string says left or right: () bool. Mirrored, a picture would
    not show that any more."""
    return tf.reduce_any(tf.strings.regex_full_match(texts, _SIDES))


def phrases_kept(seed: tf.Tensor, image_id: tf.Tensor, phrases: tf.Tensor, most: int) -> tf.Tensor:
    """Which of a picture's phrases (r,) a run uses: at most so many places, ascending, int32.

    The run's seed and the picture decide, not the example: the others are never seen.
    """
    places = tf.range(tf.size(phrases, tf.int64))
    drawn = hashed(seed, image_id + places, _STREAM)
    return tf.sort(tf.argsort(drawn)[:most])


def crop_box(box: tf.Tensor, seeds: list[tf.Tensor], margin: float) -> tf.Tensor:
    """The box (4,) y0,x0,y1,x1 of a region with a random margin of up to `margin` times its size
    on each side, cut at the picture's sides."""
    height, width = box[2] - box[0], box[3] - box[1]
    # One factor for all four sides beside their own draws: narrow and wide cuts are as likely.
    drawn = tf.random.stateless_uniform([4], seeds[0]) * margin
    drawn *= tf.random.stateless_uniform([], seeds[1])
    return tf.clip_by_value(box + drawn * tf.stack([-height, -width, height, width]), 0.0, 1.0)


def context_box(boxes: tf.Tensor, at: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A random box (4,) that contains one region, and at least half of the picture's other ones.

    These are the ones for which the box has to grow least. Each side lies anywhere between theirs
    and the picture's.

    Args:
        boxes: (r, 4) float32 y0,x0,y1,x1 of all regions, in shares of the picture's sides.
        at: () int32, the region.
        seed: (2,) int32; equal seeds draw equal boxes.
    """
    own = boxes[at]
    low, high = tf.minimum(boxes[:, :2], own[:2]), tf.maximum(boxes[:, 2:], own[2:])
    grown = tf.reduce_prod(high - low, axis=1)
    itself = tf.range(tf.shape(boxes)[0]) == at
    nearest = tf.argsort(tf.where(itself, -1.0, grown), stable=True)
    # Of n others (n + 1) // 2: at least half.
    kept = nearest[: 1 + tf.shape(boxes)[0] // 2]
    start = tf.reduce_min(tf.gather(low, kept), axis=0)
    stop = tf.reduce_max(tf.gather(high, kept), axis=0)
    drawn = tf.random.stateless_uniform([4], seed)
    return tf.concat([start * drawn[:2], stop + (1.0 - stop) * drawn[2:]], axis=0)
