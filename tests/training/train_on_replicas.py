"""Trains one tiny model in every way there is and saves the weights; run by test_replicas.py."""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.normalization import synchronize_normalization
from tfclip.training.loop import Phase, mean_loss, run_steps
from tfclip.training.prepare import compile_for_training, make_strategy
from tfclip.training.recipes import RECIPES

STEPS, BATCH = 5, 16


def batches(rows: int = STEPS * BATCH) -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    columns = {
        "image": rng.integers(0, 255, (rows, 32, 32, 3)).astype("uint8"),
        "token_ids": rng.integers(0, 50, (rows, 8)).astype("int32"),
        "text_mask": (rng.integers(3, 9, (rows, 1)) > np.arange(8)).astype("int32"),
        # Few ids, so that most rows have several positives, also on other replicas.
        "image_id": rng.integers(0, 40, rows),
        "caption_id": rng.integers(0, 60, rows),
    }
    return tf.data.Dataset.from_tensor_slices(columns).batch(BATCH, drop_remainder=True)


def trained(strategy, precision: str, how: str, wrong: str = "") -> dict[str, np.ndarray]:
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = DualEncoder(
            ModelConfig(
                image_tower="small-convolutional",
                text_tower="small-transformer",
                image_size=32,
                embed_dim=16,
                context_length=8,
                vocabulary_size=50,
                image_options={"widths": (8, 16)},
                text_options={"width": 16, "blocks": 1},
                precision=precision,
            )
        )
        if strategy.num_replicas_in_sync > 1:
            synchronize_normalization(model)
        flags = RECIPES["shapes"].flags(
            steps=STEPS, batch_size=BATCH, clip_norm=0.1, weight_decay=0.1, precision=precision
        )
        compile_for_training(model, flags)
        if wrong == "clip-per-replica":
            model.clip_norm, model.optimizer.global_clipnorm = None, 0.1
    if how == "fit":
        model.fit(batches(), epochs=1, verbose=0)
    else:
        phase = Phase(STEPS, lambda start: batches().repeat().skip(start))
        run_steps(model, strategy, [phase], epoch_steps=2)
    weights = {str(at): np.asarray(v.value) for at, v in enumerate(model.weights)}
    weights["updates"] = np.array(model.optimizer.iterations.numpy())
    if how == "loop" and not wrong:
        weights["validation loss"] = np.array(mean_loss(model, strategy, batches()))
    return weights


RUNS = {
    # where, precision, how, what is done wrong
    "one-loop": (1, "float32", "loop", ""),
    "one-fit": (1, "float32", "fit", ""),
    "two-loop": (2, "float32", "loop", ""),
    "two-fit": (2, "float32", "fit", ""),
    "two-wrong": (2, "float32", "loop", "clip-per-replica"),
    "one-bfloat16": (1, "bfloat16", "loop", ""),
    "two-bfloat16": (2, "bfloat16", "loop", ""),
    "one-float16": (1, "float16", "loop", ""),
}


def main(folder: Path, names: list[str]) -> None:
    # One strategy object in a process: interleaving several ends in a collective error.
    strategies = {2: make_strategy(2), 1: tf.distribute.get_strategy()}
    for name in names:
        replicas, *how = RUNS[name]
        np.savez(folder / f"{name}.npz", **trained(strategies[replicas], *how))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
