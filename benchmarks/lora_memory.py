"""python -m benchmarks.lora_memory: memory and time of a step of ViT-B/32, with and without LoRA.

CLIP's ViT-B/32 with random weights, AdamW, random pictures and texts in memory. Each kind trains in
its own process, in turns. The peak is the largest resident set of the process; "added" is without
what the process had before the model was built (TensorFlow itself).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

KINDS = {"full": None, "image=8,text=8": "image=8,text=8", "image=8,text=0": "image=8,text=0"}
LARGEST = 0.6


def main(argv: list[str] | None = None) -> int:
    """Print a table; return 1 if a row of LoRA peaks above `LARGEST` of full fine-tuning."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lora_memory", description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="the first is not timed")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.one:
        print(json.dumps(measure(KINDS[flags.one], flags.batch, flags.steps)))
        return 0
    print(f"ViT-B/32, batch {flags.batch}, median of {flags.steps - 1} steps")
    print("| trained | parameters | peak, MB | added, MB | of full | step, s | of full |")
    print("|---|---|---|---|---|---|---|")
    full: dict = {}
    ratios: dict[str, float] = {}
    for kind in KINDS:
        words = ["--one", kind, "--batch", str(flags.batch), "--steps", str(flags.steps)]
        command = [sys.executable, "-m", "benchmarks.lora_memory", *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        full = full or row
        peak, seconds = row["peak"] / full["peak"], row["seconds"] / full["seconds"]
        added = (row["peak"] - row["before"]) / (full["peak"] - full["before"])
        if KINDS[kind]:
            ratios[kind] = peak
        print(
            f"| {kind} | {row['parameters']:,} | {row['peak']:.0f} | "
            f"{row['peak'] - row['before']:.0f} | {peak:.2f} (added: {added:.2f}) | "
            f"{row['seconds']:.2f} | {seconds:.2f} |",
            flush=True,
        )
    for kind, ratio in ratios.items():
        verdict = "passed" if ratio <= LARGEST else "FAILED"
        print(f"{verdict}: --lora {kind} has {ratio:.2f} of the peak (aim: {LARGEST})")
    return 0 if max(ratios.values()) <= LARGEST else 1


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(lora: str | None, batch: int, steps: int) -> dict:
    """Train a few steps; return peak and time."""
    import keras
    import numpy as np
    import tensorflow as tf

    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.training.options.recipes import recipe
    from tfclip.training.setup.build_model import (
        adapt_towers,
        compile_for_training,
        model_config,
    )

    tf.random.normal((1,))
    before = _peak()
    settings = recipe("clip-vit-b32")
    flags = settings.flags(lora=lora, batch_size=batch)
    keras.utils.set_random_seed(0)
    config = model_config(flags, settings.options(flags), 77, settings.vocabulary_size)
    model = DualEncoder(config)
    if lora:
        adapt_towers(model, flags.freeze.lora_ranks)
    compile_for_training(model, flags)
    rng = np.random.default_rng(0)
    data = {
        "image": rng.integers(0, 256, (batch, 224, 224, 3), np.uint8),
        "token_ids": rng.integers(1, config.vocabulary_size, (batch, 77)).astype("int32"),
        "text_mask": np.ones((batch, 77), bool),
        "image_id": np.arange(batch),
        "caption_id": np.arange(batch),
    }
    step = tf.function(lambda inputs: model.train_step(inputs), autograph=False)
    inputs = {name: tf.constant(value) for name, value in data.items()}
    seconds = []
    for _ in range(steps):
        started = time.monotonic()
        step(inputs)
        seconds.append(time.monotonic() - started)
    return {
        "before": before,
        "peak": _peak(),
        "seconds": statistics.median(seconds[1:]),
        "parameters": sum(int(np.prod(v.shape)) for v in model.trainable_variables),
    }


if __name__ == "__main__":
    sys.exit(main())
