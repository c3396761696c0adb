"""Converts a TensorFlow function to an ONNX graph with tf2onnx, which must be installed."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfclip.failures import first_line

# The newest operator set that tf2onnx knows. onnxruntime 1.14 (2023) and later read it.
OPSET = 18
_COPIES = "TF2ONNX_CATCH_ERRORS"


def to_onnx(
    function: Callable[..., tf.Tensor], inputs: Sequence[tf.TensorSpec], output: str
) -> Any:
    """Convert a function with its variables to an ONNX model.

    Args:
        function: from tensors to one tensor.
        inputs: the named inputs; a dimension of None may have any size.
        output: the name of the output.

    Returns:
        The `onnx.ModelProto`.

    Raises:
        ValueError: the function has an operation that tf2onnx does not convert.
    """
    import tf2onnx

    names = [spec.name for spec in inputs]

    @tf.function(input_signature=list(inputs), autograph=False)
    def named(*tensors):
        tensors = [tf.identity(tensor, f"in_{n}") for n, tensor in zip(names, tensors, strict=True)]
        return tf.identity(function(*tensors), output)

    with _quiet():
        graph_def, places, result = _frozen(named.get_concrete_function())
    try:
        with _quiet():
            model, _ = tf2onnx.convert.from_graph_def(
                graph_def,
                name="tfclip",
                input_names=places,
                output_names=[result],
                opset=OPSET,
                custom_op_handlers={"Erfc": (_erfc, [])},
                tensors_to_rename={**dict(zip(places, names, strict=True)), result: output},
            )
    # tf2onnx has no error class of its own.
    except Exception as error:
        raise ValueError(f"this tower cannot be converted to ONNX: {first_line(error)}") from error
    _check_operations(model)
    return model


def _frozen(concrete) -> tuple[tf.compat.v1.GraphDef, list[str], str]:
    """Return the graph with variables and captured tensors as constants, its inputs and output.

    TensorFlow's converter makes constants of variables alone. Tensors that a layer keeps, such as
    the mean of Keras' `Normalization`, would become inputs without a value.
    """
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)
    kept = {
        inner.op.name: outer
        for outer, inner in concrete.graph.captures
        if outer.dtype != tf.resource
    }
    graph_def = frozen.graph.as_graph_def()
    for node in graph_def.node:
        if node.op == "Placeholder" and node.name in kept:
            value = kept[node.name]
            node.op = "Const"
            node.ClearField("attr")
            node.attr["dtype"].type = value.dtype.as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.numpy()))
    places = [tensor.name for tensor in frozen.inputs if tensor.op.name not in kept]
    return graph_def, places, frozen.outputs[0].name


def _erfc(context, node, name, args) -> None:
    """Write 1 - Erf(x) for TensorFlow's Erfc, which ONNX lacks and exact GELU uses."""
    import numpy as np

    node.type = "Erf"
    one = context.make_const(f"{name}_one", np.array(1.0, "float32")).output[0]
    result = node.output[0]
    erf = context.make_node("Erf", [node.input[0]], name=f"{name}_erf")
    context.remove_node(node.name)
    context.make_node("Sub", [one, erf.output[0]], outputs=[result], name=name)


def _check_operations(model) -> None:
    """Refuse operations that ONNX does not have: tf2onnx copies what it does not know."""
    import onnx

    unknown = sorted(
        {
            node.op_type
            for node in model.graph.node
            if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type)
        }
    )
    if unknown:
        raise ValueError(f"this tower has operations without an ONNX form: {', '.join(unknown)}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converters' notes, and let tf2onnx keep no copies of the graph.

    By default it copies the graph before each optimisation, to go on with the copy after an error,
    which takes a third of the time. Both settings are restored.
    """
    copies = os.environ.get(_COPIES)
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        os.environ[_COPIES] = "FALSE"
        yield
    finally:
        os.environ.pop(_COPIES)
        if copies is not None:
            os.environ[_COPIES] = copies
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
