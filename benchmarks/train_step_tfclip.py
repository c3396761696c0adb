"""Training steps of tfclip, for benchmarks.train_step: in a process without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from benchmarks.timing import Timing, timed
from benchmarks.train_step_rows import System, random_batch
from tfclip.models.dual_encoder import DualEncoder
from tfclip.training.options.recipes import recipe
from tfclip.training.setup.build_model import compile_for_training, model_config


@dataclass
class _Prepared:
    step: tf.types.experimental.PolymorphicFunction
    batch: dict[str, tf.Tensor]


_prepared: _Prepared | None = None


def prepare(system: System, batch_size: int, threads: int) -> dict[str, int]:
    """Build the system and make a first step; return the trained parameters of its towers."""
    global _prepared
    _prepared = None
    keras.backend.clear_session()
    if not tf.config.threading.get_intra_op_parallelism_threads():
        tf.config.set_visible_devices([], "GPU")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    model, vocabulary_size = build(system, batch_size)
    batch = random_batch(system, batch_size, vocabulary_size)
    ids = {name: np.arange(batch_size) for name in ("image_id", "caption_id")}
    step = tf.function(model.train_step)
    _prepared = _Prepared(step, {k: tf.constant(v) for k, v in (batch | ids).items()})
    steps(1)
    return parameters(model, system)


def build(system: System, batch_size: int) -> tuple[DualEncoder, int]:
    """The compiled model and the size of its vocabulary."""
    chosen = recipe(system.recipe)
    # Clipping is not part of the comparison.
    flags = chosen.flags(**{**system.changes, "batch_size": batch_size, "clip_norm": None})
    tokens = system.tokens or flags.model.context_length
    size = chosen.vocabulary_size
    model = DualEncoder(model_config(flags, chosen.options(flags), tokens, size))
    model.freeze(flags.freeze.towers)
    compile_for_training(model, flags)
    return model, size


def parameters(model: DualEncoder, system: System) -> dict[str, int]:
    """How many numbers train in the towers, heads left out; the text tower only where it runs."""
    towers = {"image": model.image_tower} | ({"text": model.text_tower} if system.tokens else {})
    return {
        name: sum(int(np.prod(v.shape)) for v in tower.trainable_variables)
        for name, tower in towers.items()
    }


def steps(count: int) -> Timing:
    """Time so many steps of the prepared system."""

    def work() -> int:
        for _ in range(count):
            float(_prepared.step(_prepared.batch)["batch_loss"])
        return count * len(_prepared.batch["image"])

    return timed(work)


def release() -> None:
    """Give the memory of the prepared system back."""
    global _prepared
    _prepared = None
