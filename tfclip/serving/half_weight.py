"""A weight that an export stores in half precision, and computes with in float32."""

from __future__ import annotations

import hashlib

import keras
import tensorflow as tf


class HalfWeight(tf.saved_model.experimental.TrackableResource):
    """The numbers of a variable, rounded to half precision, and once more in float32.

    Only `stored`, the rounded ones, go to disk, with whatever tracks that variable. The others are
    made from them when the export is loaded, as a lookup table is filled, and not at each request.

    Args:
        variable: any variable of Keras.
        precision: "float16" or "bfloat16".

    Raises:
        ValueError: where the numbers do not fit into it.
    """

    def __init__(self, variable: keras.Variable, precision: str):
        super().__init__()
        half = tf.cast(variable.value, precision)
        if not bool(tf.reduce_all(tf.math.is_finite(half))):
            raise ValueError(
                f"the weights {variable.path} hold numbers that {precision} cannot; export with "
                "--precision bfloat16 or float32"
            )
        self.stored = tf.Variable(half, trainable=False, name=variable.name)
        # Exports that are loaded into one process share what has one name: equal numbers alone may.
        content = hashlib.sha256(tf.io.serialize_tensor(half).numpy()).hexdigest()
        self._shared_name = f"{variable.path}-{content}"
        self._initialize()

    def read(self) -> tf.Tensor:
        """The float32 numbers, in the shape of the variable."""
        value = tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=tf.float32)
        return tf.ensure_shape(value, self.stored.shape)

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(
            dtype=tf.float32, shape=self.stored.shape, shared_name=self._shared_name
        )

    def _initialize(self) -> None:
        tf.raw_ops.AssignVariableOp(
            resource=self.resource_handle, value=tf.cast(self.stored, tf.float32)
        )
