"""Writes an ONNX file whose large weights are copied from the model's variables one by one.

The bytes are those of one `onnx.ModelProto` with all initializers, which would need the weights
two more times in memory: in the message, and in its serialised form. Encoding:
https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfclip.serving.formats.onnx_graph import LargeWeight, OnnxGraph

# Protocol buffers end at 2 GiB.
LARGEST_BYTES = 2**31 - 2**20
# Numbers of fields in onnx.proto3.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


def file_size(graph: OnnxGraph) -> int:
    """Return the bytes that `write_onnx_file` will write, to a few hundred for each weight."""
    return graph.model.ByteSize() + sum(map(_byte_size, graph.weights.values()))


def write_onnx_file(graph: OnnxGraph, path: Path) -> None:
    """Write the model with its weights as initializers."""
    import onnx

    body = graph.model.graph.SerializeToString()
    rest = onnx.ModelProto()
    rest.CopyFrom(graph.model)
    rest.ClearField("graph")
    headers = {name: _header(name, one) for name, one in graph.weights.items()}
    sizes = {name: len(headers[name]) + _byte_size(one) for name, one in graph.weights.items()}
    fields = {name: _field(_INITIALIZER, size) for name, size in sizes.items()}
    size = len(body) + sum(sizes.values()) + sum(map(len, fields.values()))
    with path.open("wb") as file:
        file.write(rest.SerializeToString())
        file.write(_field(_GRAPH, size))
        file.write(body)
        for name, weight in graph.weights.items():
            file.write(fields[name])
            file.write(headers[name])
            file.write(weight.value().data)


def _header(name: str, weight: LargeWeight) -> bytes:
    """Return a TensorProto up to the values of its raw data."""
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(weight.variable.dtype))
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=weight.shape)
    return tensor.SerializeToString() + _field(_RAW_DATA, _byte_size(weight))


def _byte_size(weight: LargeWeight) -> int:
    return math.prod(weight.shape) * np.dtype(weight.variable.dtype).itemsize


def _field(number: int, size: int) -> bytes:
    """Return the tag and the length of a field that holds bytes."""
    return bytes([*_varint(number << 3 | 2), *_varint(size)])


def _varint(number: int) -> Iterator[int]:
    while number > 127:
        yield number & 127 | 128
        number >>= 7
    yield number
