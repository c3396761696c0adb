"""Builds a model without drawing random weights, which loading replaces at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
from keras.src.backend.tensorflow import core

# Smaller variables, such as random states, keep their initial values: they cost nothing.
LEAST_SIZE = 4096


@contextmanager
def without_random_weights() -> Iterator[None]:
    """Context in which new large Keras variables are zeros instead of random numbers.

    Drawing 25 million numbers takes a second. Variables of the same shape share their zeros until
    they are assigned, so that they take little memory. Only for a model whose weights are all
    loaded afterwards, by functions that raise an error for missing ones.
    """
    zeros = functools.cache(tf.zeros)
    own = core.Variable._initialize_with_initializer

    def initialize(variable, initializer) -> None:
        if math.prod(variable._shape) < LEAST_SIZE:
            own(variable, initializer)
        else:
            variable._initialize(zeros(tuple(variable._shape), variable._dtype))

    core.Variable._initialize_with_initializer = initialize
    try:
        yield
    finally:
        core.Variable._initialize_with_initializer = own
