"""Runs an image tower by OpenVINO; its weights are those at the time of conversion."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

PICTURES_AT_ONCE = 8


def openvino_tower(tower: keras.Model, hint: str = "bf16") -> Callable[[np.ndarray], np.ndarray]:
    """Convert an image tower; the result may be called from several threads.

    Args:
        tower: from pictures (B,S,S,3) in 0..255 to features.
        hint: the format of products, "bf16" or "f32".

    Returns:
        A function from (B,S,S,3) uint8 of any B to float32 features.
    """
    import openvino

    shape = tower.input_shape[1:]
    function = tf.function(
        lambda pictures: tf.cast(tower(tf.cast(pictures, tf.float32), training=False), tf.float32),
        input_signature=[tf.TensorSpec([None, *shape], tf.uint8)],
        autograph=False,
    )
    converted = openvino.convert_model(function.get_concrete_function())
    converted.reshape([PICTURES_AT_ONCE, *shape])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = openvino.Core().compile_model(
        converted,
        "CPU",
        {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": cores, "NUM_STREAMS": cores},
    )
    queue = openvino.AsyncInferQueue(model)
    lock = threading.Lock()

    def run(pictures: np.ndarray) -> np.ndarray:
        with lock:
            parts: dict[int, np.ndarray] = {}

            def keep(request, at: int) -> None:
                parts[at] = request.get_output_tensor(0).data.copy()

            queue.set_callback(keep)
            for at in range(0, len(pictures), PICTURES_AT_ONCE):
                part = pictures[at : at + PICTURES_AT_ONCE]
                missing = PICTURES_AT_ONCE - len(part)
                if missing:
                    part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
                queue.start_async({0: np.ascontiguousarray(part)}, at)
            queue.wait_all()
            empty = np.zeros((0, *tower.output_shape[1:]), np.float32)
            return np.concatenate([empty, *(parts[at] for at in sorted(parts))])[: len(pictures)]

    return run
