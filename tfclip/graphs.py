"""Functions that TensorFlow traces as they are written, without AutoGraph.

AutoGraph rewrites the source of each function that it meets, so that `if` and `for` may be asked of
tensors: a tenth of a second for each, seconds at the start of every command. Nothing here needs it:
choices are `tf.cond`, loops `tf.while_loop`. `tf.function(..., autograph=False)` says so of a graph
and of all that is traced within it; functions of data sets are given through `as_written`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)


def as_written(function: Function) -> Function:
    """Return a function that `tf.data.Dataset.map` and its like trace without AutoGraph."""
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)
