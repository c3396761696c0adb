"""A weight that an export stores in half precision and uses in float32."""

from __future__ import annotations

import hashlib

import keras
import tensorflow as tf


class HalfWeight(tf.saved_model.experimental.TrackableResource):
    """The values of a variable, rounded to half precision, and their float32 copy.

    Only the rounded values, `stored`, are written to disk. The copy is computed once, when the
    export is loaded, like the content of a lookup table, and not for each request.

    Args:
        variable: a Keras variable.
        precision: "float16" or "bfloat16".

    Raises:
        ValueError: the values exceed the range of the precision.
    """

    def __init__(self, variable: keras.Variable, precision: str):
        super().__init__()
        half = tf.cast(variable.value, precision)
        if not bool(tf.reduce_all(tf.math.is_finite(half))):
            raise ValueError(
                f"the weights {variable.path} exceed the range of {precision}; export with "
                "--precision bfloat16 or float32"
            )
        self.stored = tf.Variable(half, trainable=False, name=variable.name)
        # Exports in one process share resources of one name, so the name must depend on the values.
        content = hashlib.sha256(tf.io.serialize_tensor(half).numpy()).hexdigest()
        self._shared_name = f"{variable.path}-{content}"
        self._initialize()

    def read(self) -> tf.Tensor:
        """Return the float32 values in the shape of the variable."""
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
