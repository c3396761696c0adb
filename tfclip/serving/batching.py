"""Reads TensorFlow Serving's batching parameters, and checks that merging changes no answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.serving import signatures as names
from tfclip.serving.warmup import drawn_jpeg

# The fields of BatchingParameters (session_bundle_config.proto) that are wrapped integers, and
# those that are plain values.
_WRAPPED = frozenset(
    {
        "max_batch_size",
        "batch_timeout_micros",
        "max_enqueued_batches",
        "num_batch_threads",
        "max_execution_batch_size",
    }
)
_PLAIN = frozenset({"allowed_batch_sizes", "pad_variable_length_inputs"})
_FIELD = re.compile(r"(\w+)\s*(?:\{\s*value\s*:\s*(\w+)\s*\}|:\s*(\w+))\s*")


@dataclass(frozen=True)
class BatchingParameters:
    """The batch sizes in a file for `--batching_parameters_file`."""

    max_batch_size: int
    allowed_batch_sizes: tuple[int, ...]


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Read batching parameters as the server does.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the server would not start with it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no batching parameters at {path}; there is a file in deploy/")
    text = re.sub(r"#.*", "", path.read_text(encoding="utf-8")).strip()
    position, sizes, largest = 0, [], None
    while position < len(text):
        field = _FIELD.match(text, position)
        name, wrapped, plain = field.groups("") if field else ("", "", "")
        if field is None or not (wrapped if name in _WRAPPED else plain if name in _PLAIN else ""):
            rest = name or text[position : position + 30]
            raise ValueError(f"{path} is not BatchingParameters in text format at {rest!r}")
        if name == "allowed_batch_sizes":
            sizes.append(int(plain))
        elif name == "max_batch_size":
            largest = int(wrapped)
        position = field.end()
    if largest is None or not sizes:
        raise ValueError(f"{path} must give max_batch_size and allowed_batch_sizes")
    if sizes != sorted(set(sizes)) or sizes[-1] != largest:
        raise ValueError(
            f"{path}: allowed_batch_sizes must be ascending and end with max_batch_size {largest}. "
            f"Received: {sizes}"
        )
    return BatchingParameters(largest, tuple(sizes))


def check_merging(signature: Callable, row: str, sizes: tuple[int, ...]) -> None:
    """Check that merged requests are answered as they are alone.

    Three requests (one input, one that cannot be decoded, two inputs) are joined as a server does,
    padded to an allowed size with the first row, and the answer is split again.

    Args:
        signature: the function to check.
        row: its name in `signatures.SIGNATURES`.
        sizes: the allowed batch sizes, ascending.

    Raises:
        ValueError: an answer differs from that of the request alone.
    """
    ((name, _),) = names.SIGNATURES[row].inputs.items()
    examples: dict[str, list[list[bytes]]] = {
        names.IMAGE_BYTES: [[drawn_jpeg()], [b"no picture"], [drawn_jpeg(90, 120), drawn_jpeg()]],
        names.TEXT: [[b"a red circle"], [b""], [b"a dog", b"two words more"]],
    }
    requests = examples[name]
    joined = [value for request in requests for value in request]
    filled = joined + joined[:1] * (next(n for n in sizes if n >= len(joined)) - len(joined))
    together = _ask(signature, name, filled)
    start = 0
    for request in requests:
        for key, value in _ask(signature, name, request).items():
            part = together[key][start : start + len(request)]
            same = np.allclose(part, value, atol=1e-5) if value.dtype.kind == "f" else None
            if not (same if same is not None else np.array_equal(part, value)):
                raise ValueError(f"{row}: {key} of a request changes when requests are merged")
        start += len(request)


def _ask(signature: Callable, name: str, values: list) -> Mapping[str, np.ndarray]:
    return {key: value.numpy() for key, value in signature(**{name: tf.constant(values)}).items()}
