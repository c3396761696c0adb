"""All that two runs of the same command must have in common, bit for bit."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from tfclip.training.callbacks.log_and_stop import TIMES


def result_of(run: Path) -> dict:
    """All that must be equal, but for the times: the last checkpoint, the log, the models."""
    last = max((run / "checkpoints").glob("step-*.npz"))
    with np.load(last) as packed:
        state = json.loads(packed["state.json"])
        found = {name: packed[name] for name in packed.files if name != "state.json"}
    del state["seconds"]
    del state["callbacks"]["LogFile-1"]  # the size of the file depends on the digits of the times
    rows = list(csv.DictReader((run / "log.csv").open()))
    found["log.csv"] = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
    # Not a number is equal to itself here.
    found["state"] = {name: json.dumps(value) for name, value in state.items()}
    found["last checkpoint"] = last.name

    # With averaged weights there is a second model beside each.
    for path in sorted(run.glob("**/*.weights.h5")):
        with h5py.File(path) as file:
            for name, item in _datasets(file):
                found[f"{path.relative_to(run)}{name}"] = item[()]
    return found


def _datasets(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    for item in group.values():
        if isinstance(item, h5py.Dataset):
            yield item.name, item
        else:
            yield from _datasets(item)


def differences(expected: Mapping, found: Mapping) -> list[str]:
    """The names of what is not equal, bit for bit."""
    return [
        name
        for name in {**expected, **found}
        if name not in expected or name not in found or not _same(expected[name], found[name])
    ]


def _same(a, b) -> bool:
    if not isinstance(a, np.ndarray):
        return a == b
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
