"""python -m benchmarks.fuzz_export EXPORTED: thousands of inputs that nobody should send.

Each signature is asked in a process of its own, in batches of none to eight, and must give a
defined answer (the right shape, finite numbers, zeros for what is not valid) or an error of
TensorFlow's. The process must not end, and must not hold more than a tenth more memory than before
the first of these inputs, when it had answered sound ones of every size.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from benchmarks.fuzzing import requests
from benchmarks.process_memory import anonymous_megabytes
from tfclip.serving import signatures as names

MOST_AT_ONCE = 8
LARGEST_GROWTH = 1.10
WARMING_ROUNDS = 3
# How often memory is read on the way.
READINGS = 5


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_export", description=__doc__)
    add = parser.add_argument
    add("exported", type=Path, help="what tfclip.export wrote")
    add("--inputs", type=int, default=5000, help="to each signature")
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="the result as the last line on standard output")
    add("--one", help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    from tfclip.serving.saved_model import load_signatures, version_directory

    if flags.one:
        served = load_signatures(version_directory(flags.exported))
        print(json.dumps(fuzz(served[flags.one], flags.one, flags.inputs, flags.seed)))
        return 0
    card = json.loads((version_directory(flags.exported) / names.MODEL_CARD).read_text())
    rows = [row for row in names.signature_names(bool(card["labels"]), card["sides"])]
    rows.remove(names.SERVING_DEFAULT)
    results = {}
    for row in rows:
        words = [str(flags.exported), "--inputs", str(flags.inputs), "--seed", str(flags.seed)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.fuzz_export", *words, "--one", row],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"failed  {row}: the process ended with {done.returncode}", file=sys.stderr)
            return 1
        results[row] = json.loads(done.stdout.splitlines()[-1])
        said = ", ".join(f"{key} {value}" for key, value in results[row].items())
        print(
            f"{'ok    ' if results[row]['growth'] <= LARGEST_GROWTH else 'failed'}  {row}: {said}"
        )
    if flags.json:
        print(json.dumps(results))
    return int(any(result["growth"] > LARGEST_GROWTH for result in results.values()))


def fuzz(signature: Callable, row: str, inputs: int, seed: int) -> dict:
    """Send `inputs` inputs of each kind that the signature takes; return counts and memory.

    Raises:
        AssertionError: an answer is not defined.
    """
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    sources = {
        names.IMAGE_BYTES: requests.pictures(seed),
        names.TEXT: requests.texts(seed),
    }
    wanted = names.SIGNATURES[row].inputs
    warm_up(signature, row)
    sent, counts = 0, {"answered": 0, "not_valid": 0, "refused": 0}
    megabytes = [resident_megabytes()]
    while sent < inputs:
        sizes = {name: int(rng.integers(0, MOST_AT_ONCE + 1)) for name in wanted}
        batch = {name: list(islice(sources[name], size)) for name, size in sizes.items()}
        try:
            answer = signature(**{k: tf.constant(v, tf.string) for k, v in batch.items()})
        except tf.errors.OpError:
            counts["refused"] += max(sizes.values())
        else:
            answer = {name: value.numpy() for name, value in answer.items()}
            check_answer(row, answer, list(sizes.values()))
            valid = answer.get(names.VALID, np.ones(sizes.get(names.TEXT, 0), bool))
            counts["answered"] += int(valid.sum())
            counts["not_valid"] += int((~valid).sum())
        sent += max(sizes.values())
        if sent >= len(megabytes) * inputs / READINGS:
            megabytes.append(resident_megabytes())
    growth = round(megabytes[-1] / megabytes[0], 3)
    return {"sent": sent, **counts, "megabytes": [*map(round, megabytes)], "growth": growth}


def warm_up(signature: Callable, row: str) -> None:
    """Ask for sound inputs in batches of every size, and for the most that comes at once.

    TensorFlow (with oneDNN) keeps large tensors in a pool, which grows to the most that was needed
    at one time and is never given back: the largest pictures come now, and not by chance. Twice,
    since the most depends on which of them are decoded side by side.
    """
    import tensorflow as tf

    sound = {
        names.IMAGE_BYTES: requests.encoded_pictures(np.random.default_rng(0)),
        names.TEXT: [b"a photo of a dog.", b"dog " * 100],
    }
    largest = {names.IMAGE_BYTES: requests.largest_picture(), names.TEXT: b"dog " * 2**18}
    wanted = names.SIGNATURES[row].inputs
    for size in [*range(MOST_AT_ONCE + 1)] * WARMING_ROUNDS:
        batch = {name: list(islice(cycle(sound[name]), size)) for name in wanted}
        signature(**{name: tf.constant(values, tf.string) for name, values in batch.items()})
    for _ in range(2):
        signature(**{name: tf.constant([largest[name]] * MOST_AT_ONCE) for name in wanted})


def check_answer(row: str, answer: dict[str, np.ndarray], sizes: list[int]) -> None:
    """Raise AssertionError unless the answer has the shapes, numbers and zeros it must have."""
    for name, spec in names.SIGNATURES[row].outputs.items():
        value = answer[name]
        expected = dict(zip("NM", sizes, strict=False)) if len(sizes) > 1 else {}
        lengths = [expected.get(letter, sizes[0]) for letter in spec.shape if letter in "NM"]
        if list(value.shape[: len(lengths)]) != lengths:
            raise AssertionError(f"{name} has shape {value.shape} for batches of {sizes}")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise AssertionError(f"{name} holds what is no number")
        if name == names.LABELS or names.VALID not in answer:
            continue
        if value[~answer[names.VALID]].any():
            raise AssertionError(f"{name} of a picture that is not valid is not zero")
    if names.EMBEDDING in answer:
        norms = np.linalg.norm(answer[names.EMBEDDING], axis=-1)
        if not np.allclose(norms, answer.get(names.VALID, np.ones(len(norms))), atol=1e-3):
            raise AssertionError("an embedding is not of unit norm")


def resident_megabytes() -> float:
    """Memory that this process holds now, without what its allocator keeps in reserve."""
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
    return anonymous_megabytes()


if __name__ == "__main__":
    sys.exit(main())
