"""Counts the floating point operations of a graph: matrix products and convolutions.

A multiplication and an addition are two operations, as in open_clip's table of model profiles.
Other ops are not counted: they take time, but no part of a GPU's peak.
"""

from __future__ import annotations

import math

import tensorflow as tf


def flops(function: tf.types.experimental.ConcreteFunction) -> int:
    """Return the operations of one call, whose shapes must all be known."""
    graphs = [function.graph, *(f.graph for f in function.graph._functions.values() if f.graph)]
    return sum(_of_op(op) for graph in graphs for op in graph.get_operations())


def _of_op(op: tf.Operation) -> int:
    shapes = [tensor.shape for tensor in op.inputs]
    if op.type == "Einsum":
        left, _ = op.get_attr("equation").decode().split("->")
        sizes: dict[str, int] = {}
        for labels, shape in zip(left.split(","), shapes, strict=True):
            sizes |= dict(zip(labels, shape.as_list(), strict=True))
        return 2 * math.prod(sizes.values()) if len(shapes) == 2 else 0
    if op.type in ("MatMul", "BatchMatMul", "BatchMatMulV2"):
        transposed = "transpose_a" if op.type == "MatMul" else "adj_x"
        inner = shapes[0][-2] if op.get_attr(transposed) else shapes[0][-1]
        return 2 * op.outputs[0].shape.num_elements() * inner
    if op.type in ("Conv2D", "DepthwiseConv2dNative"):
        height, width, inputs, _ = shapes[1].as_list()
        each = height * width * (inputs if op.type == "Conv2D" else 1)
        return 2 * op.outputs[0].shape.num_elements() * each
    return 0
