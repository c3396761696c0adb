"""Converts a TensorFlow function to an ONNX graph with tf2onnx, which must be installed."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfclip.failures import first_line
from tfclip.memory import free_garbage

# The newest operator set that tf2onnx knows. onnxruntime 1.14 (2023) and later read it.
OPSET = 18
# Variables with as many numbers are kept out of the conversion.
LARGE = 2**14
_COPIES = "TF2ONNX_CATCH_ERRORS"


@dataclass(frozen=True)
class LargeWeight:
    """A variable, and how it is arranged before the graph reads it.

    Attributes:
        variable: the variable.
        shape: in which the graph reads it.
        steps: shapes (as "Reshape") and orders of axes (as "Transpose") that lead there.
    """

    variable: keras.Variable
    shape: tuple[int, ...]
    steps: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def then(self, kind: str, argument: tuple[int, ...]) -> LargeWeight:
        """Return the weight with one more step."""
        shape = _arranged(np.broadcast_to(np.int8(0), self.shape), kind, argument).shape
        return replace(self, shape=shape, steps=(*self.steps, (kind, argument)))

    def value(self) -> np.ndarray:
        """Return the values as the graph reads them, contiguous."""
        result = self.variable.numpy()
        for kind, argument in self.steps:
            result = _arranged(result, kind, argument)
        return np.ascontiguousarray(result)


def _arranged(array: np.ndarray, kind: str, argument: tuple[int, ...]) -> np.ndarray:
    return array.reshape(argument) if kind == "Reshape" else array.transpose(argument)


@dataclass(frozen=True)
class OnnxGraph:
    """An ONNX model, and the weights that are not in it yet.

    tf2onnx and TensorFlow copy every constant several times, which takes 15 times the memory of a
    large tower. Large weights are therefore inputs while a graph is converted, and initializers
    in the file (`onnx_file.write_onnx_file`).

    Attributes:
        model: the `onnx.ModelProto`.
        weights: by the name under which nodes read them.
    """

    model: Any
    weights: Mapping[str, LargeWeight]


def to_onnx(
    function: Callable[..., tf.Tensor],
    inputs: Sequence[tf.TensorSpec],
    output: str,
    variables: Sequence[keras.Variable] = (),
) -> OnnxGraph:
    """Convert a function with its variables to an ONNX model.

    Args:
        function: from tensors to one tensor.
        inputs: the named inputs; a dimension of None may have any size.
        output: the name of the output.
        variables: of which the large ones that the function reads are not put into the model. All
            others, also those that are missing here, are.

    Raises:
        ValueError: the function has an operation that tf2onnx does not convert.
    """
    import tf2onnx

    names = [spec.name for spec in inputs]
    large = {f"weight_{n}": one for n, one in enumerate(variables) if _is_large(one)}
    specs = [tf.TensorSpec(one.shape, one.dtype, name) for name, one in large.items()]

    @tf.function(input_signature=[*inputs, *specs], autograph=False)
    def named(*tensors):
        given, weights = tensors[: len(names)], tensors[len(names) :]
        given = [tf.identity(tensor, f"in_{n}") for n, tensor in zip(names, given, strict=True)]
        with keras.StatelessScope(list(zip(large.values(), weights, strict=True))):
            return tf.identity(function(*given), output)

    with _quiet():
        graph_def, places, result = _frozen(named.get_concrete_function())
    read = {name.removesuffix(":0") for node in graph_def.node for name in node.input}
    renamed = dict(zip(places, [*names, *large], strict=True))
    kept = {
        place: name
        for place, name in renamed.items()
        if name in names or place.removesuffix(":0") in read
    }
    try:
        with _quiet():
            model, _ = tf2onnx.convert.from_graph_def(
                graph_def,
                name="tfclip",
                input_names=list(kept),
                output_names=[result],
                opset=OPSET,
                custom_op_handlers={"Erfc": (_erfc, [])},
                tensors_to_rename={**kept, result: output},
            )
    # tf2onnx has no error class of its own.
    except Exception as error:
        raise ValueError(f"this tower cannot be converted to ONNX: {first_line(error)}") from error
    _check_operations(model)
    del graph_def
    free_garbage()
    weights = {
        name: LargeWeight(large[name], tuple(large[name].shape))
        for name in kept.values()
        if name in large
    }
    _remove_inputs(model, weights)
    return OnnxGraph(model, _arrange(model, weights))


def _is_large(variable: keras.Variable) -> bool:
    return len(variable.shape) > 1 and math.prod(variable.shape) >= LARGE


def _remove_inputs(model: Any, names: Collection[str]) -> None:
    kept = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _arrange(model: Any, weights: Mapping[str, LargeWeight]) -> dict[str, LargeWeight]:
    """Remove the nodes that only reshape or transpose a weight, and do that when it is written.

    ONNX has the kernels of convolutions in another order of axes, and Keras has three axes where
    attention multiplies matrices. Quantisers look for weights where they are used.
    """
    import onnx

    shapes = {
        value.name: tuple(onnx.numpy_helper.to_array(value).tolist())
        for value in model.graph.initializer
        if value.data_type == onnx.TensorProto.INT64 and len(value.dims) == 1
    }
    reads = Counter(name for node in model.graph.node for name in node.input)
    result, kept = dict(weights), []
    for node in model.graph.node:
        argument = None
        if node.op_type == "Transpose":
            argument = next((tuple(one.ints) for one in node.attribute if one.name == "perm"), None)
        elif node.op_type == "Reshape":
            argument = shapes.get(node.input[1])
            if argument is not None and 0 in argument:  # In ONNX, 0 stands for the old size.
                argument = None
        source = node.input[0] if node.input else ""
        if argument is None or source not in result or reads[source] > 1:
            kept.append(node)
            continue
        result[node.output[0]] = result.pop(source).then(node.op_type, argument)
        reads.subtract(node.input)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    read = [one for one in model.graph.initializer if one.name not in shapes or reads[one.name]]
    del model.graph.initializer[:]
    model.graph.initializer.extend(read)
    return result


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
