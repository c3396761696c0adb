"""Converts TensorProtos of gRPC requests to arrays, and outputs to TensorProtos."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from tfclip.serving.server.refusals import invalid

# The size of a shape is limited, since a tensor without values may state any.
_MOST_VALUES = 1_000_000


def read_tensor(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Return an input, which must be a tensor of strings, as an object array of bytes.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if proto.dtype != types_pb2.DT_STRING:
        received = _type_name(proto.dtype)
        raise invalid(f"input {name}: Expects arg[0] to be string but {received} is provided")
    if proto.tensor_shape.unknown_rank or any(dim.size < 0 for dim in proto.tensor_shape.dim):
        raise invalid(f"input {name}: the tensor has no shape")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    size, given = int(np.prod(shape, dtype=object)), len(proto.string_val)
    # As in every TensorProto, a single value is repeated to fill the shape.
    if size > _MOST_VALUES or given > size or (given != size and given != 1):
        raise invalid(f"input {name}: {given} values do not fit the shape {shape}")
    values = np.empty(size, object)
    values[:] = list(proto.string_val) if given == size else list(proto.string_val) * size
    return values.reshape(shape)


def _type_name(number: int) -> str:
    """TensorFlow's name of a type; a message may contain any number."""
    try:
        return types_pb2.DataType.Name(number).lower().removeprefix("dt_")
    except ValueError:
        return f"type {number}"


def write_tensor(values: np.ndarray) -> tensor_pb2.TensorProto:
    """Return an output with its values in the field of its type, which every client can read."""
    values = np.asarray(values)
    proto = tensor_pb2.TensorProto()
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = values.reshape(-1).tolist()
    if values.dtype.kind == "f":
        proto.dtype = types_pb2.DT_FLOAT
        proto.float_val.extend(flat)
    elif values.dtype.kind == "b":
        proto.dtype = types_pb2.DT_BOOL
        proto.bool_val.extend(flat)
    elif values.dtype.kind == "O":
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(flat)
    else:
        return tf.make_tensor_proto(values)
    return proto
