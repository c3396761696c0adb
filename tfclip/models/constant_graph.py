"""A graph with its weights as constants, and normalisations as parts of the convolutions before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

_DEPTHWISE = "DepthwiseConv2dNative"
_CONVOLUTIONS = (_DEPTHWISE, "Conv2D")


def constant_graph(function: Callable, specs: Sequence[tf.TensorSpec]) -> Callable:
    """Return a function with one result as a graph; the weights are those that it has now.

    TensorFlow makes a normalisation a part of the convolution before it once the weights are
    constants, but not of a depthwise convolution; `fold_normalizations` does that here.

    Args:
        function: takes tensors as `specs` say; returns one tensor.
        specs: the types of its inputs.
    """
    traced = tf.function(function, input_signature=specs, autograph=False).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced)
    definition, found = fold_normalizations(frozen.graph)
    if not found:
        return lambda *inputs: frozen(*map(tf.convert_to_tensor, inputs))[0]
    imported = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(definition, name=""), []
    )
    names = [tensor.name for tensor in (*frozen.inputs, frozen.outputs[0])]
    *inputs, output = (imported.graph.get_tensor_by_name(name) for name in names)
    folded = imported.prune(inputs, output)
    return lambda *given: folded(*map(tf.convert_to_tensor, given))


def fold_normalizations(graph: tf.Graph) -> tuple[tf.compat.v1.GraphDef, int]:
    """Make factors of the channels after a convolution a part of its kernel, and what is added a
    bias; return the changed graph, and how many of both were found.

    The results stay the same: the convolution's kernel is multiplied, once, by what its result was.
    TensorFlow then adds the bias in the same pass as the convolution, and ReLU6 too.
    """
    definition = graph.as_graph_def()
    nodes = {node.name: node for node in definition.node}
    readers = Counter(_plain(name) for node in definition.node for name in node.input)
    constants = _constants(nodes)
    kernels = {n.name: _shape(graph, n.input[1]) for n in definition.node if n.op in _CONVOLUTIONS}
    folded = 0
    # In the order of computation: what is added comes after the factor.
    for node in list(definition.node):
        if node.op not in ("Mul", "AddV2"):
            continue
        names = [_plain(name) for name in node.input]
        for source, factor in (names, names[::-1]):
            convolution = _through(nodes, readers, source)
            if convolution is None or factor not in constants:
                continue
            channels, own = _shape(graph, source)[-1:], _shape(graph, factor)
            if own[-1:] == channels and own.num_elements() == channels.num_elements():
                break
        else:
            continue
        if node.op == "Mul":
            to = (
                [1, 1, *kernels[convolution.name][2:]]
                if convolution.op == _DEPTHWISE
                else [1, 1, 1, -1]
            )
            rows = _reshaped(definition, node, factor, to)
            name = f"{node.name}/kernel"
            product = definition.node.add(name=name, op="Mul", input=[convolution.input[1], rows])
            product.attr["T"].CopyFrom(node.attr["T"])
            convolution.input[1] = name
            node.op = "Identity"
            inputs = [source]
        else:
            inputs = [source, _reshaped(definition, node, factor, [-1])]
            node.op = "BiasAdd"
        node.ClearField("input")
        node.input.extend(inputs)
        for name in set(node.attr) - {"T"}:
            del node.attr[name]
        folded += 1
    return definition, folded


def _shape(graph: tf.Graph, name: str) -> tf.TensorShape:
    """Return the shape of the result of a node, known or not."""
    return graph.get_tensor_by_name(f"{_plain(name)}:0").shape


def _through(nodes: dict, readers: Mapping[str, int], name: str):
    """Return the convolution whose result alone a node passes on, or None."""
    node = nodes[name]
    while node.op == "Identity" and readers[node.name] == 1:
        node = nodes[_plain(node.input[0])]
    is_convolution = node.op in _CONVOLUTIONS and node.attr["data_format"].s == b"NHWC"
    return node if is_convolution and readers[node.name] == 1 else None


def _reshaped(definition, node, constant: str, shape: list[int]) -> str:
    """Add a node with the values of a constant in another shape; return its name."""
    to, name = f"{node.name}/shape", f"{node.name}/reshaped"
    definition.node.append(_constant(to, np.array(shape, np.int32)))
    reshaped = definition.node.add(name=name, op="Reshape", input=[constant, to])
    reshaped.attr["T"].CopyFrom(node.attr["T"])
    reshaped.attr["Tshape"].type = tf.int32.as_datatype_enum
    return name


def _constants(nodes: dict) -> set[str]:
    """Return the names of the nodes that depend on constants alone."""
    known: dict[str, bool] = {}

    def is_constant(name: str) -> bool:
        if name not in known:
            node = nodes[name]
            known[name] = False  # a loop is none
            inputs = [_plain(one) for one in node.input]
            known[name] = node.op == "Const" or bool(inputs) and all(map(is_constant, inputs))
        return known[name]

    return {name for name in nodes if is_constant(name)}


def _plain(name: str) -> str:
    """Return the name of the node of an input.

    >>> _plain("^a"), _plain("b:1")
    ('a', 'b')
    """
    return name.removeprefix("^").partition(":")[0]


def _constant(name: str, value: np.ndarray):
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    return node
