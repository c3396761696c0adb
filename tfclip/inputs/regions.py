"""Random boxes that show a region of a picture, computed in the graph."""

import tensorflow as tf

from tfclip.inputs.example_rng import hashed

_SIDES = r"(?is).*\b(left|right)(most|hand|handed|side|ward|wards)?\b.*"
_STREAM = 4


def says_side(texts: tf.Tensor) -> tf.Tensor:
    """Return whether any of the texts (...) string mentions left or right: () bool. Such a text is
    wrong for the mirrored picture.

    >>> bool(says_side(tf.constant(["the leftmost dog"]))), bool(says_side(tf.constant(["a dog"])))
    (True, False)
    """
    return tf.reduce_any(tf.strings.regex_full_match(texts, _SIDES))


def phrases_kept(seed: tf.Tensor, image_id: tf.Tensor, phrases: tf.Tensor, most: int) -> tf.Tensor:
    """Return the positions of the phrases (r,) of a picture that a run uses: at most `most`,
    ascending, int32.

    They depend on the seed of the run and the picture; the run never uses the others.
    """
    places = tf.range(tf.size(phrases, tf.int64))
    hashes = hashed(seed, image_id + places, _STREAM)
    return tf.sort(tf.argsort(hashes)[:most])


def crop_box(box: tf.Tensor, seeds: list[tf.Tensor], margin: float) -> tf.Tensor:
    """Return the box (4,) y0,x0,y1,x1 of a region with a random margin of up to `margin` times its
    size on each side, clipped to the picture."""
    height, width = box[2] - box[0], box[3] - box[1]
    # A common random factor for all four sides makes narrow and wide crops equally likely.
    margins = tf.random.stateless_uniform([4], seeds[0]) * margin
    margins *= tf.random.stateless_uniform([], seeds[1])
    return tf.clip_by_value(box + margins * tf.stack([-height, -width, height, width]), 0.0, 1.0)


def context_box(boxes: tf.Tensor, at: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return a random box (4,) that contains one region and at least half of the others.

    The others are those that enlarge the box least. Each side is uniform between the bounding box
    of these regions and the edge of the picture.

    Args:
        boxes: (r, 4) float32 y0,x0,y1,x1 of all regions, as fractions of the sides of the picture.
        at: () int32, the region.
        seed: (2,) int32; equal seeds give equal boxes.
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
    random = tf.random.stateless_uniform([4], seed)
    return tf.concat([start * random[:2], stop + (1.0 - stop) * random[2:]], axis=0)
