"""Random numbers as a function of seed and example number, for a whole batch at once."""

import tensorflow as tf

_GOLDEN, _STREAM = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95


def hashed(seed: tf.Tensor | int, number: tf.Tensor, stream: int) -> tf.Tensor:
    """Return a hash of each number: the mixing function of SplitMix64 (Steele et al. 2014).

    Unlike TensorFlow's stateless random functions it takes a batch of numbers.

    Args:
        seed: () integer.
        number: (...) integers.
        stream: distinguishes independent uses of the same seed and numbers.

    Returns:
        (...) int64, 0 or more.
    """
    seed, number = tf.cast(seed, tf.uint64), tf.cast(number, tf.uint64)
    mixed = number * _word(_GOLDEN) + seed * _word(_STREAM) + tf.constant(stream, tf.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, _word(shift)))
        mixed *= _word(factor)
    mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, _word(31)))
    return tf.cast(tf.bitwise.right_shift(mixed, _word(1)), tf.int64)


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)
