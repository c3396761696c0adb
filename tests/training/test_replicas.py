"""Two replicas train what one device trains, in our loop and in Keras' fit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Returns the weights of the named runs of train_on_replicas.py."""
    folder = tmp_path_factory.mktemp("replicas")

    def run(*names: str) -> list[dict]:
        missing = [name for name in names if not (folder / f"{name}.npz").exists()]
        script = Path(__file__).with_name("train_on_replicas.py")
        # A process of its own: logical devices must be set before TensorFlow starts.
        words = [sys.executable, str(script), str(folder), *missing]
        done = subprocess.run(words, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-3000:]
        return [dict(np.load(folder / f"{name}.npz")) for name in names]

    return run


def distance(a: dict, b: dict) -> float:
    return max(float(np.abs(a[name] - b[name]).max()) for name in a.keys() & b.keys())


def test_five_clipped_adamw_steps_give_the_same_weights(train):
    one, fit, two, two_fit, wrong = train("one-loop", "one-fit", "two-loop", "two-fit", "two-wrong")
    assert one.keys() == two.keys()
    for other in (fit, two, two_fit):
        assert distance(one, other) < 1e-5
    # The test can fail: clipping on each replica before the reduce trains something else.
    assert distance(one, wrong) > 1e-4


@pytest.mark.slow
def test_half_precision_differs_by_its_precision_only(train):
    full, half, two_half, scaled = train("one-loop", "one-bfloat16", "two-bfloat16", "one-float16")
    assert distance(half, two_half) < 1e-2
    # Loss scaling leaves out three of the five steps: its factor falls from 32,768 to 4,096 until
    # no gradient overflows. What it trains stays sound.
    assert (full["updates"], scaled["updates"]) == (5, 2)
    assert all(np.isfinite(value).all() for value in scaled.values())
    assert scaled["validation loss"] < 1.5 * full["validation loss"]
