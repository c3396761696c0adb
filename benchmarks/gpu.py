"""python -m benchmarks.gpu: training steps on a GPU, as a share of its peak; or on paper.

On a GPU: pictures per second of a training step with random pictures and texts, without the input
pipeline, and the share of the card's bfloat16 peak that the matrix products and convolutions take.
Where TensorFlow sees no GPU, the command says so and ends with exit code 2.

--paper needs no GPU. For each recipe it prints the operations of a training step per picture, the
bytes of gradients, the pictures per second of a GPU at --share of its peak, and what one and eight
GPUs need besides: processor cores that decode, and time to sum the gradients.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass

# From NVIDIA's data sheets: dense bfloat16 peaks, and bytes per second of a link in one direction.
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L4": 121e12, "T4": 65e12}
LINK_BYTES = 300e9
GPUS = 8
# `benchmarks.records`: decode and resize of pictures of 256 pixels, per second of a core.
DECODED_PER_CORE = 978
# Forward, and backward to inputs and to weights. A frozen tower has the forward pass alone.
TRAINED, FROZEN, STORED = 3, 1, 0
RECIPES = ("visual-genome", "liteclip", "simple-clip", "clip-vit-b32", "clip-mixer", "teensy-5m")
RECIPES += ("laptop",)


@dataclass(frozen=True)
class Costs:
    """What a training step of a recipe costs, on paper.

    Attributes:
        gflops: operations per picture, in 10**9.
        gradient_megabytes: float32 gradients of all trained weights.
        batch: pictures per step.
        per_gpu: pictures per second of a GPU.
        cores: processor cores that decode for one GPU; None where features are stored.
        reduce_share: time to sum the gradients over eight GPUs, as a share of the step if nothing
            of it is hidden.
    """

    gflops: float
    gradient_megabytes: float
    batch: int
    per_gpu: float
    cores: float | None
    reduce_share: float


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    add = parser.add_argument
    add("--recipes", nargs="+", default=list(RECIPES))
    add("--paper", action="store_true", help="compute instead of measuring; needs no GPU")
    add("--gpu", default="A100", choices=list(PEAKS), help="the card, for its peak")
    add("--share", type=float, default=0.4, help="of the peak, on paper")
    add("--batch", type=int, default=256, help="pictures of a measured step")
    add("--steps", type=int, default=20, help="measured steps")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not flags.paper and not gpus:
        print("no GPU: TensorFlow sees none here; what needs none: --paper", file=sys.stderr)
        return 2
    result = {}
    for name in flags.recipes:
        if flags.paper:
            costs = on_paper(name, PEAKS[flags.gpu], flags.share)
            result[name] = asdict(costs)
            print(f"{name:16} {_line(costs)}", file=sys.stderr)
        else:
            result[name] = row = measured(name, PEAKS[flags.gpu], flags.batch, flags.steps)
            print(
                f"{name:16} {row['images_per_second']:.0f} images/s, {row['share']:.1%} of the "
                f"peak of {flags.gpu}",
                file=sys.stderr,
            )
    if flags.json:
        print(json.dumps(result))
    return 0


def on_paper(name: str, peak: float, share: float) -> Costs:
    """Return the costs of a recipe."""
    from tfclip.training.options.recipes import recipe
    from tfclip.training.setup.recipe_sizes import recipe_sizes

    chosen = recipe(name)
    flags = chosen.flags()
    gflops = training_gflops(name)
    sizes = recipe_sizes(chosen)
    per_gpu = share * peak / (1e9 * gflops)
    megabytes = 4e-6 * sizes["trained_parameters"]
    # A ring moves each byte out and in, but for the part of the GPU itself.
    reduce_seconds = 2 * (GPUS - 1) / GPUS * megabytes * 1e6 / LINK_BYTES
    step_seconds = flags.batch_size / GPUS / per_gpu
    stored = flags.freeze.cache_features and "image" in flags.freeze.towers
    cores = None if stored else per_gpu / DECODED_PER_CORE
    return Costs(
        round(gflops, 3),
        round(megabytes, 1),
        flags.batch_size,
        round(per_gpu),
        cores and round(cores, 1),
        round(reduce_seconds / (reduce_seconds + step_seconds), 4),
    )


def training_gflops(name: str) -> float:
    """Return the operations of a training step per picture with one caption, in 10**9.

    The loss adds twelve times embedding size times batch, which is 0.2 of them at 32,768 x 512.
    """
    import tensorflow as tf

    from benchmarks.flops import flops
    from tfclip.models.initial_values import without_random_weights

    with without_random_weights():
        model, flags, context = _model(name)
    size = flags.model.image_size
    image = tf.TensorSpec([1, size, size, 3], tf.float32)
    tokens = [tf.TensorSpec([1, context], kind) for kind in (tf.int32, tf.bool)]
    towers = {
        "image": tf.function(model.image_features, autograph=False).get_concrete_function(image),
        "text": tf.function(model.text_features, autograph=False).get_concrete_function(*tokens),
    }
    total = 0.0
    for modality, traced in towers.items():
        features = tf.TensorSpec([1, *traced.output_shapes[1:]], tf.float32)
        if modality == "image":
            head = tf.function(model.embed_image_features, autograph=False)
            of_head = flops(head.get_concrete_function(features))
        else:
            head = tf.function(model.embed_text_features, autograph=False)
            of_head = flops(head.get_concrete_function(features, tokens[1]))
        factor = TRAINED
        if modality in model.frozen:
            factor = STORED if flags.freeze.cache_features else FROZEN
        total += factor * flops(traced) + TRAINED * of_head
    return total / 1e9 + 12e-9 * flags.model.embed_dim * flags.batch_size


def measured(name: str, peak: float, batch_size: int, steps: int) -> dict:
    """Time training steps on the first GPU, in bfloat16."""
    import numpy as np
    import tensorflow as tf

    from tfclip.training.setup.build_model import compile_for_training

    model, flags, context = _model(name, precision="bfloat16", batch_size=batch_size)
    compile_for_training(model, flags)
    rng, size = np.random.default_rng(0), flags.model.image_size
    batch = {
        "image": rng.integers(0, 256, (batch_size, size, size, 3)).astype("uint8"),
        "token_ids": rng.integers(1, 1000, (batch_size, context)).astype("int32"),
        "text_mask": np.ones((batch_size, context), bool),
        "image_id": np.arange(batch_size),
        "caption_id": np.arange(batch_size),
    }
    tensors = {column: tf.constant(value) for column, value in batch.items()}
    step = tf.function(model.train_step, autograph=False)
    for _ in range(3):
        float(step(tensors)["batch_loss"])
    started = time.perf_counter()
    for _ in range(steps):
        result = step(tensors)
    float(result["batch_loss"])
    rate = steps * batch_size / (time.perf_counter() - started)
    share = rate * 1e9 * training_gflops(name) / peak
    return {"images_per_second": round(rate, 1), "share": round(share, 4), "batch": batch_size}


def _model(name: str, **changes):
    """Return the model of a recipe with random weights, its flags and its context length."""
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.training.options.recipes import recipe
    from tfclip.training.setup.build_model import model_config

    chosen = recipe(name)
    flags = chosen.flags(**changes)
    context = flags.model.context_length or 32
    config = model_config(flags, chosen.options(flags), context, chosen.vocabulary_size)
    model = DualEncoder(config)
    model.freeze(flags.freeze.towers)
    return model, flags, context


def _line(costs: Costs) -> str:
    cores = "no picture is decoded" if costs.cores is None else f"{costs.cores} cores decode"
    return (
        f"{costs.gflops:9.3f} GFLOP a picture, gradients {costs.gradient_megabytes:6.1f} MB, batch "
        f"{costs.batch}: {costs.per_gpu:,.0f} images/s a GPU, for which {cores}; sum over {GPUS} "
        f"GPUs {costs.reduce_share:.1%} of a step"
    )


if __name__ == "__main__":
    sys.exit(main())
