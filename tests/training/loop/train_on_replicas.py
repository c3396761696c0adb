"""Trains tiny models on so many logical devices and saves the weights; run by test_replicas.py."""

import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.layers.dropout_seeds import seed_dropout
from tfclip.models.layers.normalization import BatchNormalization, synchronize_normalization
from tfclip.training.loop.trainer import Phase, run_steps
from tfclip.training.options.recipes import RECIPES
from tfclip.training.setup.build_model import compile_for_training
from tfclip.training.validation import MeanLoss
from tfclip.training.workers.strategy import make_strategy

STEPS, BATCH = 20, 16
# Eight replicas get 2, 2, 2, 2, 2, 2, 1 and none of them.
LAST_ROWS = 13


def columns(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 255, (rows, 32, 32, 3)).astype("uint8"),
        "token_ids": rng.integers(0, 50, (rows, 8)).astype("int32"),
        "text_mask": (rng.integers(3, 9, (rows, 1)) > np.arange(8)).astype("int32"),
        # Few ids, so that most rows have several positives, also on other replicas.
        "image_id": rng.integers(0, 40, rows),
        "caption_id": rng.integers(0, 60, rows),
    }


def batches(rows: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(columns(rows)).batch(BATCH)


def encoder(
    loss="softmax", precision="float32", tower="small-convolutional", **text
) -> DualEncoder:
    keras.utils.set_random_seed(1)
    images = {
        "small-convolutional": {"widths": (8,)},
        "vit-b32": {"width": 16, "blocks": 1, "heads": 2, "patch_size": 8},
    }
    return DualEncoder(
        ModelConfig(
            image_tower=tower,
            text_tower="small-transformer",
            image_size=32,
            embed_dim=16,
            context_length=8,
            vocabulary_size=50,
            image_options=images[tower],
            text_options={"width": 16, "blocks": 1, **text},
            initial_logit_bias=-5.0 if loss == "sigmoid" else None,
            precision=precision,
        )
    )


def train(
    strategy, loss="softmax", precision="float32", how="loop", steps=STEPS, rows=None, **options
):
    """The weights after `steps` updates; the last batch is shorter where `rows` are."""
    micro_batch, clips = options.pop("micro_batch", None), options.pop("clips", "model")
    together = options.pop("steps_per_execution", 1)
    rows = rows or steps * BATCH
    with strategy.scope():
        model = encoder(loss, precision, **options)
        if strategy.num_replicas_in_sync > 1:
            synchronize_normalization(model)
        flags = RECIPES["shapes"].flags(
            loss=loss,
            steps=steps,
            warmup_steps=5,
            batch_size=BATCH,
            clip_norm=0.1,
            weight_decay=0.1,
            precision=precision,
            micro_batch=micro_batch,
        )
        compile_for_training(model, flags)
        if clips != "model":
            model.optimizer.global_clipnorm = 0.1 if clips == "optimizer" else None
            model.compile(model.optimizer, loss)
    if how == "fit":
        model.fit(batches(rows), epochs=1, verbose=0)
    else:
        # Not repeated: what a strategy cuts, it would fill up from the next batch.
        phase = Phase(steps, lambda start: batches(rows).skip(start))
        run_steps(model, strategy, [phase], epoch_steps=8, steps_per_execution=together)
    weights = {str(at): np.asarray(v.value) for at, v in enumerate(model.weights)}
    weights = {name: value for name, value in weights.items() if value.dtype != np.int64}
    weights["updates"] = np.array(model.optimizer.iterations.numpy())
    if precision == "float16":
        weights["validation loss"] = np.array(MeanLoss(model, strategy, batches(steps * BATCH))())
    return weights


def normalize(strategy) -> dict[str, np.ndarray]:
    """One layer's outputs and moving statistics, of uneven parts of 13 pictures."""
    pictures = np.random.default_rng(0).normal(30.0, 0.5, (LAST_ROWS, 4, 4, 3)).astype("float32")
    with strategy.scope():
        layer = BatchNormalization(momentum=0.5, synchronized=strategy.num_replicas_in_sync > 1)
        layer.build((None, 4, 4, 3))
    dataset = tf.data.Dataset.from_tensors(pictures)

    @tf.function(autograph=False)
    def step(part):
        return strategy.run(lambda x: layer(x, training=True), args=(part,))

    (part,) = strategy.experimental_distribute_dataset(dataset)
    parts = strategy.experimental_local_results(step(part))
    return {
        "outputs": np.concatenate(parts),
        "mean": np.array(layer.moving_mean.value),
        "variance": np.array(layer.moving_variance.value),
    }


def drop(strategy) -> dict[str, np.ndarray]:
    """What each replica makes of the same texts with dropout, at steps 1, 2 and 1 again."""
    with strategy.scope():
        model = encoder(dropout=0.5)
    batch = {name: tf.constant(column) for name, column in columns(4).items()}

    @tf.function(autograph=False)
    def step(number):
        def embed():
            seed_dropout(model, number)
            return model.embed_batch(batch, training=True)["text_embeddings"]

        return strategy.run(embed)

    return {
        str(at): np.stack(strategy.experimental_local_results(step(tf.constant(number))))
        for at, number in enumerate((1, 2, 1))
    }


def lengths(strategy) -> dict[str, np.ndarray]:
    """How often each replica's step is traced for texts of three lengths."""
    whole = columns(BATCH)
    text = ("token_ids", "text_mask")

    def batches_of_lengths():
        for length in (4, 8, 6, 4):
            yield {name: c[:, :length] if name in text else c for name, c in whole.items()}

    spec = {
        name: tf.TensorSpec([BATCH, None] if name in text else c.shape, c.dtype)
        for name, c in whole.items()
    }
    with strategy.scope():
        model = encoder()
        compile_for_training(model, RECIPES["shapes"].flags(steps=4, batch_size=BATCH))
    step, traces = model.train_step, []

    def traced(batch):
        traces.append(batch)
        return step(batch)

    model.train_step = traced
    made = tf.data.Dataset.from_generator(batches_of_lengths, output_signature=spec)
    run_steps(model, strategy, [Phase(4, lambda start: made)], epoch_steps=4)
    return {"traces": np.array(len(traces) / strategy.num_replicas_in_sync)}


def reduced_bytes(strategy) -> dict[str, np.ndarray]:
    """The bytes that each replica hands to the reduces of a step, and those of its gradients."""
    with strategy.scope():
        model = encoder(tower="vit-b32")
        compile_for_training(model, RECIPES["shapes"].flags(steps=1, batch_size=BATCH))
    devices = strategy.extended._cross_device_ops
    with tf.device("CPU:0"):
        reduced = tf.Variable(0, dtype=tf.int64)
    reduce, batch_reduce = devices.reduce_implementation, devices.batch_reduce_implementation

    def counted(value) -> None:
        first = strategy.experimental_local_results(value)[0]
        reduced.assign_add(first.dtype.size * tf.size(first, tf.int64))

    def counted_reduce(kind, value, *rest):
        counted(value)
        return reduce(kind, value, *rest)

    def counted_batch_reduce(kind, pairs, *rest):
        for value, _ in pairs:
            counted(value)
        return batch_reduce(kind, pairs, *rest)

    devices.reduce_implementation = counted_reduce
    devices.batch_reduce_implementation = counted_batch_reduce
    run_steps(model, strategy, [Phase(1, lambda start: batches(BATCH))], epoch_steps=1)
    gradients = sum(v.value.dtype.size * np.prod(v.shape) for v in model.trainable_variables)
    return {"reduced": reduced.numpy(), "gradients": np.array(gradients)}


RUNS = {
    "bytes": reduced_bytes,
    "lengths": lengths,
    "softmax": train,
    "together": partial(train, steps_per_execution=5),
    "sigmoid": partial(train, loss="sigmoid"),
    "bfloat16": partial(train, precision="bfloat16"),
    "float16": partial(train, precision="float16", steps=5),
    "float16 long": partial(train, precision="float16", steps=12),
    "fit": partial(train, how="fit"),
    "uneven": partial(train, steps=3, rows=2 * BATCH + LAST_ROWS),
    "whole": partial(train, tower="vit-b32", steps=5),
    "micro": partial(train, tower="vit-b32", steps=5, micro_batch=3),
    "dropout": partial(train, dropout=0.3, steps=5),
    "dropout again": partial(train, dropout=0.3, steps=5),
    "clipped by Keras": partial(train, clips="optimizer"),
    "unclipped": partial(train, clips="nothing"),
    "normalize": normalize,
    "drop": drop,
}


def main(folder: Path, replicas: int, names: list[str]) -> None:
    # One strategy object in a process: interleaving several ends in a collective error.
    strategy = make_strategy(replicas)
    for name in names:
        np.savez(folder / f"{replicas}-{name}.npz", **RUNS[name](strategy))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
