"""Reads safetensors files, sharded or not; each tensor is read when it is accessed."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tfclip.console import say
from tfclip.failures import first_line
from tfclip.models.weights.torch_files import TorchFile

INDEX = ".index.json"
_LARGEST_HEADER = 100 * 2**20
_BFLOAT16 = "BF16"
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    _BFLOAT16: "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


class SafetensorsFile(Mapping[str, np.ndarray]):
    """The tensors of one file by name; bfloat16 is converted to float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds a type that is not supported.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such file.")
        try:
            self._start, self._tensors = _header(self.path)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise ValueError(
                f"{path} is damaged or not a safetensors file: {first_line(error)}."
            ) from None

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the tensor `name`."""
        kind, shape, begin, _ = self._tensors[name]
        if 0 in shape:
            return np.zeros(shape, _TYPES[kind])
        # Read, not mapped: pages of a mapped file stay in memory beside the model.
        count, start = int(np.prod(shape, dtype=object)), self._start + begin
        array = np.fromfile(self.path, _TYPES[kind], count, offset=start).reshape(shape)
        if kind == _BFLOAT16:
            return (array.astype("<u4") << np.uint32(16)).view("<f4")
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _header(path: Path) -> tuple[int, dict]:
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_LARGEST_HEADER, size - 8):
            raise ValueError("its header is longer than the file")
        described = json.loads(file.read(length))
    tensors = {}
    for name, one in described.items():
        if name == "__metadata__":
            continue
        kind, shape, (begin, end) = one["dtype"], tuple(one["shape"]), one["data_offsets"]
        if kind not in _TYPES:
            raise ValueError(f"{name} has the type {kind}; allowed: {', '.join(_TYPES)}")
        if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise ValueError(f"{name} has a size or an offset that is not a number")
        count = int(np.prod(shape, dtype=object)) * np.dtype(_TYPES[kind]).itemsize
        if end - begin != count or 8 + length + end > size:
            raise ValueError(f"{name} is not within the file")
        tensors[name] = kind, shape, begin, end
    return 8 + length, tensors


class ShardedTensors(Mapping[str, np.ndarray]):
    """The tensors of several files by name, as an `.index.json` lists them.

    Raises:
        FileNotFoundError: a shard is missing.
        ValueError: the index or a shard is damaged.
    """

    def __init__(self, index: Path):
        try:
            listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(listed.values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} is damaged: {first_line(error)}.") from None
        if strange := [name for name in names if Path(name).name != name]:
            raise ValueError(f"{index} names a file outside of its folder: {strange[0]}.")
        shards = {name: open_tensors(index.parent / name) for name in names}
        self._where = {tensor: shards[name] for tensor, name in listed.items()}
        for tensor, name in listed.items():
            if tensor not in shards[name]:
                raise ValueError(f"{index.parent / name} lacks {tensor}, which {index.name} names.")

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the tensor `name`."""
        return self._where[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def open_tensors(path: Path) -> Mapping[str, np.ndarray]:
    """Open the tensors of a `.safetensors` file, an `.index.json`, or a PyTorch file.

    Raises:
        FileNotFoundError, ValueError: as raised by the readers.
    """
    if path.name.endswith(INDEX):
        return ShardedTensors(path)
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)


def open_weights(folder: Path, stems: tuple[str, ...]) -> Mapping[str, np.ndarray]:
    """Open the tensors of a folder, see `weights_in`, and say how a PyTorch file is read."""
    path = weights_in(folder, stems)
    if ".safetensors" not in path.name:
        say(f"{path} is read without PyTorch: tensors and containers only, no code in it runs")
    return open_tensors(path)


def weights_in(folder: Path, stems: tuple[str, ...]) -> Path:
    """Return the file of weights in a folder: the first of `stems` that exists, whole or sharded.

    Args:
        folder: the folder to search.
        stems: file names, the preferred first, such as "model.safetensors".

    Raises:
        FileNotFoundError: names the expected files and the existing ones.
    """
    for stem in stems:
        for name in (stem, f"{stem}{INDEX}"):
            if (folder / name).is_file():
                return folder / name
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
    raise FileNotFoundError(
        f"{folder} has no weights: expected {', '.join(stems)} (or {stems[0]}{INDEX}); "
        f"found {there}."
    )
