"""python -m benchmarks.memory: peak memory and time of training steps by the size of the batch.

Each size is trained in a process of its own, whose largest resident set is read at its end: with
`--micro-batch` rows at a time it is to depend on the batch little, and without, at `--cost-at`, the
time of a step is what the second pass is compared with. Small towers without batch normalisation
at 32 px, random pictures and texts, one batch prefetched.
"""

import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from tfclip.console import Command, run, say

SIZE, TOKENS, VOCABULARY = 32, 16, 1000
# Pictures and texts of which the batches are drawn.
POOL = 256
ALIKE, COST = 1.25, 2.2


@dataclass(frozen=True)
class MemoryFlags:
    """Measure the peak memory of training with micro-batches, and what they cost in time."""

    batches: tuple[int, ...] = (256, 1024, 4096, 16384)
    """Sizes of the batch."""
    micro_batch: int = 64
    """Rows that go through the towers at a time."""
    cost_at: int = 1024
    """Batch of which the time is compared with a step without micro-batches."""
    steps: int = 3
    """Steps of each size; the first, in which the graph is made, is not timed."""
    rounds: int = 3
    """Turns of the comparison of time."""

    def __post_init__(self):
        for name, least in (("micro_batch", 1), ("cost_at", 2), ("steps", 2), ("rounds", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"--{name} must be {least} or more: received {getattr(self, name)}"
                )
        if not self.batches or min(self.batches) < 2:
            raise ValueError(f"--batches must be 2 or more; received {self.batches}")


def measure(flags: MemoryFlags) -> dict:
    """Train each size in its process, then the two ways in turns; return the figures."""
    peaks = {}
    for batch in flags.batches:
        peaks[batch], seconds = _in_a_process(batch, flags.micro_batch, flags.steps)
        say(
            f"batch {batch:6,} in rows of {flags.micro_batch}: peak {peaks[batch]:7.0f} MB, "
            f"{seconds:7.2f} s a step, {batch / seconds:7.0f} pairs/s"
        )
    spread = max(peaks.values()) / min(peaks.values())
    say(f"largest / smallest peak {spread:.2f}, to be at most {ALIKE}")
    ratios = []
    for _ in range(flags.rounds):
        peak, whole = _in_a_process(flags.cost_at, None, flags.steps)
        _, parts = _in_a_process(flags.cost_at, flags.micro_batch, flags.steps)
        ratios.append(parts / whole)
        say(
            f"batch {flags.cost_at:,}: {whole:.2f} s a step as a whole (peak {peak:.0f} MB), "
            f"{parts:.2f} s in rows of {flags.micro_batch}, {ratios[-1]:.2f} times as long"
        )
    cost = statistics.median(ratios)
    say(f"median {cost:.2f} times as long, to be at most {COST}")
    return {
        "peak_megabytes": {str(batch): round(peak, 1) for batch, peak in peaks.items()},
        "spread": round(spread, 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "cost": round(cost, 3),
        "met": spread <= ALIKE and cost <= COST,
    }


def _in_a_process(batch: int, micro_batch: int | None, steps: int) -> tuple[float, float]:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(train, batch, micro_batch, steps).result()


def train(batch: int, micro_batch: int | None, steps: int) -> tuple[float, float]:
    """Train some steps; returns the peak of this process in MB, and the median seconds of a step
    after the first."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    model = _model(micro_batch)
    step = tf.function(model.train_step)
    seconds = []
    batches = _batches(batch, steps)
    for _ in range(steps):
        started = time.perf_counter()
        # As in the loop of `fit`, a batch has no name that outlives its step.
        float(step(next(batches))["batch_loss"])
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peak, statistics.median(seconds[1:])


def _model(micro_batch: int | None):
    import keras

    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder

    model = DualEncoder(
        ModelConfig(
            image_tower="mixer-tiny",
            text_tower="small-transformer",
            image_size=SIZE,
            embed_dim=64,
            context_length=TOKENS,
            vocabulary_size=VOCABULARY,
        )
    )
    model.compile(keras.optimizers.AdamW(1e-4), micro_batch=micro_batch, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def _batches(size: int, steps: int) -> Iterator:
    """Batches in which the pool of examples comes again in another order: memory, not content, is
    what they are for, and to make them takes no more than they are."""
    import tensorflow as tf

    seed = tf.constant([0, 0])
    random = tf.random.stateless_uniform
    pictures = tf.cast(random([POOL, SIZE, SIZE, 3], seed, maxval=256, dtype=tf.int32), tf.uint8)
    tokens = random([POOL, TOKENS], seed, maxval=VOCABULARY, dtype=tf.int32)

    def draw(number):
        rows = random([size], tf.stack([0, number]), maxval=POOL, dtype=tf.int32)
        ids = tf.range(size, dtype=tf.int64)
        return {
            "image": tf.gather(pictures, rows),
            "token_ids": tf.gather(tokens, rows),
            "text_mask": tf.ones([size, TOKENS], tf.int32),
            "image_id": ids,
            "caption_id": ids,
        }

    return iter(tf.data.Dataset.range(steps, output_type=tf.int32).map(draw).prefetch(1))


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("benchmarks.memory", Command(MemoryFlags, measure), argv)


if __name__ == "__main__":
    sys.exit(main())
