"""The distribution strategy: one device, all GPUs, logical CPU devices or several machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import tensorflow as tf

from tfclip.console import say

Device = TypeVar("Device")


def make_strategy(replicas: int, workers: int = 1) -> tf.distribute.Strategy:
    """Return the distribution strategy; must be called before TensorFlow initialises its devices.

    Args:
        replicas: 1 for one device (a GPU if there is one), N for N logical CPU devices, 0 for all
            GPUs; with several workers, of each worker.
        workers: the number of workers in `TF_CONFIG` (see `training.workers.cluster`).

    Raises:
        ValueError: 0 without a GPU, logical devices with several workers, or TensorFlow has already
            initialised its devices.
    """
    if workers > 1:
        return _several_machines(replicas)
    _hide_other_gpus(replicas)
    if replicas == 1:
        return tf.distribute.get_strategy()
    if replicas == 0:
        if not tf.config.list_physical_devices("GPU"):
            raise ValueError("--replicas 0 takes all GPUs, but TensorFlow sees none; use 1 or more")
        return tf.distribute.MirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * replicas
    try:
        tf.config.set_logical_device_configuration(cpu, logical)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < replicas:
            raise ValueError(
                f"--replicas {replicas}: TensorFlow already runs with "
                f"{len(tf.config.list_logical_devices('CPU'))} logical CPU devices in this process"
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])


def asked_gpus(replicas: int, gpus: Sequence[Device]) -> Sequence[Device]:
    """Return the GPUs of `--replicas`: 1 takes the first, 0 all, and logical CPU devices none."""
    return gpus if replicas == 0 else gpus[:1] if replicas == 1 else ()


def _hide_other_gpus(replicas: int) -> None:
    """Leave the GPUs that this process does not use, and their memory, to others."""
    gpus = tf.config.list_physical_devices("GPU")
    asked = list(asked_gpus(replicas, gpus))
    if asked == gpus:
        return
    try:
        tf.config.set_visible_devices(asked, "GPU")
    except RuntimeError:  # TensorFlow has initialised its devices: in a notebook, for instance
        say(f"note: this process already holds {len(gpus)} GPUs and uses {len(asked)}")


def _several_machines(replicas: int) -> tf.distribute.Strategy:
    gpus = tf.config.list_physical_devices("GPU")
    if replicas > 1:
        raise ValueError(
            f"received --replicas {replicas} with several workers; allowed: 1 (one device of each) "
            "or 0 (all GPUs of each)"
        )
    if replicas == 0 and not gpus:
        raise ValueError("--replicas 0 takes all GPUs, but TensorFlow sees none; use 1")
    _hide_other_gpus(replicas)
    say("waiting for the other workers")
    return tf.distribute.MultiWorkerMirroredStrategy()
