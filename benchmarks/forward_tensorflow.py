"""One engine of benchmarks.forward on one of tfclip's image towers, as a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfclip.models import registry

SIZE = 224
TOP_OPS = 10


def main(engine: str, tower: str, batch: int, threads: int, answers: int) -> None:
    """Answer the questions on standard input."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    pictures = np.random.default_rng(0).integers(0, 256, (batch, SIZE, SIZE, 3)).astype("float32")
    forward, profile = _prepared(engine, _tower(engine, tower), batch)
    with os.fdopen(answers, "w") as out:
        for line in sys.stdin:
            kind, *rest = line.split(maxsplit=1)
            answer: dict = {}
            if kind == "run":
                started = time.perf_counter()
                for _ in range(int(rest[0])):
                    forward(pictures)
                answer["seconds"] = time.perf_counter() - started
            elif kind == "features":
                np.save(rest[0].strip(), forward(pictures))
            else:
                answer["ops"] = profile(pictures)
            out.write(json.dumps(answer) + "\n")
            out.flush()


def _tower(engine: str, name: str) -> keras.Model:
    """Return the tower with the same random weights for all engines."""
    keras.utils.set_random_seed(0)
    if "mixed" not in engine:
        return _as_trained(registry.image_tower(name).build(image_size=SIZE))
    keras.config.set_dtype_policy("mixed_bfloat16")
    depthwise = keras.layers.DepthwiseConv2D
    own = depthwise.__init__
    if "depthwise f32" in engine:
        depthwise.__init__ = lambda self, *args, **options: own(
            self, *args, **{**options, "dtype": "float32"}
        )
    return _as_trained(registry.image_tower(name).build(image_size=SIZE))


def _as_trained(tower: keras.Model) -> keras.Model:
    """Give normalisations statistics as after training: adding 0 would be optimised away."""
    rng = np.random.default_rng(0)
    for weight in tower.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(rng.normal(0.0, 0.1, weight.shape))
    return tower


def _prepared(engine: str, tower: keras.Model, batch: int) -> tuple[Callable, Callable]:
    """Return the forward pass, and the function from pictures to its profile, empty if unknown."""
    spec = tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32)

    def features(pictures):
        return tf.cast(tower(pictures, training=False), tf.float32)

    if engine.startswith("openvino"):
        return _openvino(tower, engine.rsplit(" ", 1)[-1], batch)
    if "amp" in engine:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    function = tf.function(features, input_signature=[spec], autograph=False)
    if not engine.startswith("frozen"):
        return lambda pictures: function(pictures).numpy(), lambda pictures: []
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    return (
        lambda pictures: frozen(tf.constant(pictures))[0].numpy(),
        lambda pictures: _profile(frozen.graph, pictures),
    )


def _openvino(tower: keras.Model, precision: str, batch: int) -> tuple[Callable, Callable]:
    import openvino

    shape = [batch, SIZE, SIZE, 3]
    function = tf.function(
        lambda pictures: tower(pictures, training=False),
        input_signature=[tf.TensorSpec([None, *shape[1:]], tf.float32)],
        autograph=False,
    )
    converted = openvino.convert_model(function.get_concrete_function())
    converted.reshape(shape)
    core = openvino.Core()
    threads = {"INFERENCE_NUM_THREADS": tf.config.threading.get_intra_op_parallelism_threads()}
    config = {"INFERENCE_PRECISION_HINT": precision, **threads}
    model = core.compile_model(converted, "CPU", config)

    def profile(pictures) -> list[tuple[str, float, int]]:
        measured = core.compile_model(converted, "CPU", {**config, "PERF_COUNT": True})
        request = measured.create_infer_request()
        for _ in range(2):  # the first one is slower
            request.infer(pictures)
        kinds: dict[str, list] = defaultdict(lambda: [0.0, 0])
        for node in request.get_profiling_info():
            if node.real_time:  # others have become a part of their neighbours
                kind = kinds[f"{node.node_type} {node.exec_type}"]
                kind[0] += node.real_time.total_seconds() * 1000
                kind[1] += 1
        return _longest(kinds)

    return lambda pictures: model(pictures)[0].astype(np.float32), profile


def _profile(graph: tf.Graph, pictures: np.ndarray) -> list[tuple[str, float, int]]:
    """Return the ops of a frozen graph after its optimisation, by type: milliseconds, number."""
    v1 = tf.compat.v1
    definition = graph.as_graph_def()
    place = next(node.name for node in definition.node if node.op == "Placeholder")
    with v1.Graph().as_default():
        v1.import_graph_def(definition, name="")
        result = v1.get_default_graph().get_tensor_by_name(graph.outputs[0].name)
        threads = tf.config.threading.get_intra_op_parallelism_threads()
        config = v1.ConfigProto(
            intra_op_parallelism_threads=threads, inter_op_parallelism_threads=1
        )
        with v1.Session(config=config) as session:
            feed = {f"{place}:0": pictures}
            options = v1.RunOptions(
                trace_level=v1.RunOptions.FULL_TRACE, output_partition_graphs=True
            )
            session.run(result, feed)
            traced = v1.RunMetadata()
            session.run(result, feed, options=options, run_metadata=traced)
    kinds = {}
    for partition in traced.partition_graphs:
        for node in partition.node:
            fused = b" ".join(node.attr["fused_ops"].list.s).decode()
            kinds[node.name] = f"{node.op} {fused}".strip()
    totals: dict[str, list] = defaultdict(lambda: [0.0, 0])
    for device in traced.step_stats.dev_stats:
        for node in device.node_stats:
            kind = kinds.get(node.node_name, node.timeline_label.split("=")[-1].split("(")[0])
            totals[kind.strip()][0] += node.op_end_rel_micros / 1000
            totals[kind.strip()][1] += 1
    return _longest(totals)


def _longest(totals: dict[str, list]) -> list[tuple[str, float, int]]:
    rows = [(kind, *total) for kind, total in totals.items()]
    return sorted(rows, key=lambda row: -row[1])[:TOP_OPS]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
