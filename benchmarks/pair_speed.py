"""python -m benchmarks.pair_speed RUN STUDENT: how much faster a student embeds than its teacher.

Both models take turns in one process, as graphs of TensorFlow with constant weights in float32.
A picture has the size of the model and is not decoded or resized here. A text is one caption,
padded to the context length as in the graph that `serve` runs; `--unpadded` leaves the padding out,
as evaluation and search do. A pair is a picture and a text, one call after the other. Prints the
medians over the rounds, and the median of the ratios within each round, which other work on the
machine changes less. With --sizes the student takes turns at other sizes of its pictures too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

import tfclip  # noqa: F401 - chooses TensorFlow's kernels, as every command does
from tfclip.console import say

AIM = 3.0
CAPTION = "Two brown dogs run through the tall green grass together."
PICTURES, TEXTS, PAIRS = "pictures", "texts", "pairs"
TEACHER, STUDENT = "teacher", "student"
# Calls in a turn with one example: a single one is too short to time.
CALLS = 4

Work = Callable[[], np.ndarray]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pair_speed", description=__doc__)
    add = parser.add_argument
    add("teacher", metavar="RUN", help="a run of `laptop`, or another model folder")
    add("student", metavar="STUDENT", help="a run of `distilled`, or another model folder")
    add("--batches", type=int, nargs="+", default=[1, 16], help="numbers of pictures and texts")
    add("--rounds", type=int, default=15)
    add("--sizes", type=int, nargs="*", default=[], help="other sizes of the student's pictures")
    add("--unpadded", action="store_true", help="texts without padding")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    from tfclip.models.saving import load_model

    models = {TEACHER: load_model(flags.teacher), STUDENT: load_model(flags.student)}
    for size in flags.sizes:
        models[f"{STUDENT} at {size} px"] = at_size(models[STUDENT], size)
    result: dict[str, dict] = {}
    for batch in flags.batches:
        works = {
            name: prepared(model, batch, padded=not flags.unpadded)
            for name, model in models.items()
        }
        found = result[str(batch)] = compared(
            in_turns(works, flags.rounds, 1 if batch > 1 else CALLS)
        )
        say(f"batch {batch}, milliseconds (times as fast as the teacher)")
        for name, row in found.items():
            say(f"  {name:18} " + "  ".join(cell(what, row[what]) for what in row))
        ratio = found[STUDENT][PAIRS]["ratio"]
        met = "met" if ratio >= AIM else "missed"
        say(f"  pairs are {ratio:.2f} times as fast; the aim, {AIM:g}, is {met}")
    if flags.json:
        print(json.dumps(result))
    return 0


def at_size(trained, size: int):
    """Return the model for pictures of another size, with the same weights."""
    from tfclip.models.dual_encoder import DualEncoder

    config = dataclasses.replace(trained.config, image_size=size)
    model = DualEncoder(config)
    model.set_weights(trained.dual_encoder.get_weights())
    return dataclasses.replace(trained, dual_encoder=model)


def prepared(trained, batch: int, *, padded: bool = True) -> dict[str, Work]:
    """Return what embeds a batch of pictures, and of texts, by graphs with constant weights."""
    import tensorflow as tf

    from tfclip.inputs.batches import tokenized

    model, size = trained.dual_encoder, trained.config.picture_size
    rng = np.random.default_rng(0)
    pictures = tf.constant(rng.integers(0, 256, (batch, size, size, 3), np.uint8))
    tokens = tokenized(trained.tokenizer, tf.constant([CAPTION] * batch))
    ids, mask = tokens["token_ids"], tf.cast(tokens["text_mask"], tf.bool)
    if not padded:
        longest = int(tf.reduce_sum(tf.cast(mask[0], tf.int32)))
        ids, mask = ids[:, :longest], mask[:, :longest]
    return {
        PICTURES: frozen(model.encode_image, pictures),
        TEXTS: frozen(model.encode_text, ids, mask),
    }


def frozen(function: Callable, *inputs) -> Work:
    """Return a call of the function on these tensors, as a graph with constant weights."""
    import tensorflow as tf

    from tfclip.models.constant_graph import constant_graph

    graph = constant_graph(function, [tf.TensorSpec(x.shape, x.dtype) for x in inputs])
    return lambda: graph(*inputs).numpy()


def in_turns(
    works: Mapping[str, Mapping[str, Work]],
    rounds: int,
    calls: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, list[float]]]:
    """Return for each model, and what it embeds, the milliseconds of a call in every round."""
    for work in works.values():
        for call in work.values():
            call()
            call()
    times: dict[str, dict[str, list[float]]] = {
        name: {what: [] for what in work} for name, work in works.items()
    }
    for turn in range(rounds):
        # Each goes first as often as the last.
        for name in list(works)[:: -1 if turn % 2 else 1]:
            for what, call in works[name].items():
                started = clock()
                for _ in range(calls):
                    call()
                times[name][what].append(1000 * (clock() - started) / calls)
    return times


def compared(times: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, dict]]:
    """Return the medians and, of the ratios teacher / model within each round, the medians."""
    sums = {
        name: {**one, PAIRS: [a + b for a, b in zip(one[PICTURES], one[TEXTS], strict=True)]}
        for name, one in times.items()
    }
    return {
        name: {
            what: {
                "ms": statistics.median(values),
                "ratio": statistics.median(
                    theirs / own for theirs, own in zip(sums[TEACHER][what], values, strict=True)
                ),
            }
            for what, values in one.items()
        }
        for name, one in sums.items()
    }


def cell(what: str, row: Mapping[str, float]) -> str:
    """Return one figure of a line."""
    return f"{what} {row['ms']:.1f} ({row['ratio']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
