"""Runs on several replicas, each in a process of its own, and how far their results are apart."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("train_on_replicas.py")


def train_here(folder: Path, names: list[str]) -> None:
    """One device needs no process of its own."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(folder, 1, names)


@pytest.fixture(scope="module")
def train(forked, tmp_path_factory):
    """Returns what the named runs of train_on_replicas.py left, on so many replicas."""
    folder = tmp_path_factory.mktemp("replicas")

    def run(replicas: int, *names: str) -> list[dict]:
        files = [folder / f"{replicas}-{name}.npz" for name in names]
        missing = [name for name, file in zip(names, files, strict=True) if not file.exists()]
        if missing and replicas == 1:
            train_here(folder, missing)
        elif missing:
            # A process of its own: logical devices must be set before TensorFlow starts.
            done = forked.run(SCRIPT, folder, replicas, *missing, timeout=580)
            assert done.returncode == 0, done.stderr[-3000:]
        return [dict(np.load(file)) for file in files]

    return run


@pytest.fixture
def distance():
    """Returns the largest difference between the arrays of two runs."""

    def between(a: dict, b: dict) -> float:
        assert a.keys() & b.keys() >= {"0", "updates"}
        return max(float(np.abs(a[name] - b[name]).max()) for name in a.keys() & b.keys())

    return between
