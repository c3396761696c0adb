"""The messages of TensorFlow Serving that a client needs, without TensorFlow.

`tensorflow_serving.apis` imports all of TensorFlow. These messages have the same field numbers, and
therefore the same bytes. They are in a separate pool, so that TensorFlow's can be loaded as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}

_FLOAT, _STRING, _BOOL = 1, 7, 10
_DTYPES = {_FLOAT: np.float32, _STRING: object, _BOOL: np.bool_}

_KINDS = descriptor_pb2.FieldDescriptorProto
_PLAIN = {
    "int32": _KINDS.TYPE_INT32,
    "int64": _KINDS.TYPE_INT64,
    "float": _KINDS.TYPE_FLOAT,
    "bool": _KINDS.TYPE_BOOL,
    "bytes": _KINDS.TYPE_BYTES,
    "string": _KINDS.TYPE_STRING,
}
_WRAPPED_INT = ".google.protobuf.Int64Value"
# By message: field name, number, type ("*" repeated, "map" with string keys). From model.proto,
# predict.proto, get_model_status.proto, status.proto, tensor.proto and tensor_shape.proto.
_MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "ModelSpec": [("name", 1, "string"), ("version", 2, _WRAPPED_INT)]
    + [("signature_name", 3, "string"), ("version_label", 4, "string")],
    "Dim": [("size", 1, "int64")],
    "TensorShape": [("dim", 2, "*.Dim")],
    "Tensor": [("dtype", 1, "int32"), ("tensor_shape", 2, ".TensorShape")]
    + [("tensor_content", 4, "bytes"), ("float_val", 5, "*float"), ("string_val", 8, "*bytes")]
    + [("bool_val", 11, "*bool")],
    "PredictRequest": [("model_spec", 1, ".ModelSpec"), ("inputs", 2, "map.Tensor")],
    "PredictResponse": [("outputs", 1, "map.Tensor"), ("model_spec", 2, ".ModelSpec")],
    "GetModelStatusRequest": [("model_spec", 1, ".ModelSpec")],
    "VersionStatus": [("version", 1, "int64"), ("state", 2, "int32")],
    "GetModelStatusResponse": [("model_version_status", 1, "*.VersionStatus")],
}
_PACKAGE = "tfclip.wire"


def _make_messages() -> dict[str, Any]:
    # Typed as Any: their fields exist only when the program runs.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(wrappers_pb2.DESCRIPTOR.serialized_pb))
    file = descriptor_pb2.FileDescriptorProto(
        name="tfclip_wire.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message, fields in _MESSAGES.items():
        added = file.message_type.add(name=message)
        for name, number, kind in fields:
            is_map, kind = kind.startswith("map"), kind.removeprefix("map")
            repeated, kind = kind.startswith("*") or is_map, kind.removeprefix("*")
            if is_map:
                entry = added.nested_type.add(name=f"{name.title()}Entry")
                entry.options.map_entry = True
                entry.field.add(name="key", number=1, label=1, type=_KINDS.TYPE_STRING)
                entry.field.add(
                    name="value", number=2, label=1, type=_KINDS.TYPE_MESSAGE,
                    type_name=f".{_PACKAGE}{kind}",
                )  # fmt: skip
                kind = f".{message}.{entry.name}"
            type_name = kind if kind == _WRAPPED_INT else f".{_PACKAGE}{kind}"
            added.field.add(
                name=name,
                number=number,
                label=_KINDS.LABEL_REPEATED if repeated else _KINDS.LABEL_OPTIONAL,
                type=_PLAIN.get(kind, _KINDS.TYPE_MESSAGE),
                type_name=None if kind in _PLAIN else type_name,
            )
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _make_messages()
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
GetModelStatusRequest = _CLASSES["GetModelStatusRequest"]
GetModelStatusResponse = _CLASSES["GetModelStatusResponse"]


def predict_request(
    model: str, version: int | None, signature: str, inputs: dict[str, list[bytes | str]]
):
    """Return a request with one tensor of strings per input."""
    request = PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for name, values in inputs.items():
        tensor = request.inputs[name]
        tensor.dtype = _STRING
        tensor.tensor_shape.dim.add(size=len(values))
        tensor.string_val.extend(v.encode() if isinstance(v, str) else v for v in values)
    return request


def read_outputs(response) -> dict[str, np.ndarray]:
    """Return the outputs of an answer by name; strings as str.

    Raises:
        ValueError: a tensor has another type, or its values do not fit its shape.
    """
    return {name: _array(name, tensor) for name, tensor in response.outputs.items()}


def _array(name: str, tensor) -> np.ndarray:
    if tensor.dtype not in _DTYPES:
        raise ValueError(f"{name} has the TensorFlow type {tensor.dtype}")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == _STRING:
        values: list = [value.decode("utf-8", "replace") for value in tensor.string_val]
    elif tensor.tensor_content:
        values = list(np.frombuffer(tensor.tensor_content, _DTYPES[tensor.dtype]))
    else:
        values = list(tensor.float_val if tensor.dtype == _FLOAT else tensor.bool_val)
    flat: np.ndarray = np.array(values, _DTYPES[tensor.dtype])
    if len(flat) == 1 and math.prod(shape) > 1:  # TensorProto repeats a single value.
        flat = np.repeat(flat, math.prod(shape))
    return flat.reshape(shape)
