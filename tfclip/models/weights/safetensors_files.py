"""Tensors of safetensors files, sharded or not, each read from the disk when it is asked for."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tfclip.models.weights.torch_files import TorchFile, first_line

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
    """The tensors of one file by name; bfloat16 comes as float32.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is damaged or holds a type that is not read here.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such file.")
        try:
            self._start, self._tensors = _header(self.path)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise ValueError(
                f"{path} is damaged or no safetensors file: {first_line(error)}."
            ) from None

    def __getitem__(self, name: str) -> np.ndarray:
        """The tensor `name`."""
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
            raise ValueError(f"{name} is of type {kind}; read are {', '.join(_TYPES)}")
        if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
            raise ValueError(f"{name} has a size or a place that is no number")
        count = int(np.prod(shape, dtype=object)) * np.dtype(_TYPES[kind]).itemsize
        if end - begin != count or 8 + length + end > size:
            raise ValueError(f"{name} does not lie within the file")
        tensors[name] = kind, shape, begin, end
    return 8 + length, tensors


class ShardedTensors(Mapping[str, np.ndarray]):
    """The tensors of several files by name, as an `.index.json` lists them.

    Raises:
        FileNotFoundError: when a shard is missing.
        ValueError: when the index or a shard is damaged.
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
        """The tensor `name`."""
        return self._where[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def open_tensors(path: Path) -> Mapping[str, np.ndarray]:
    """The tensors of a `.safetensors` file, an `.index.json`, or a file of PyTorch.

    Raises:
        FileNotFoundError, ValueError: as the readers.
    """
    if path.name.endswith(INDEX):
        return ShardedTensors(path)
    return SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)


def weights_in(folder: Path, stems: tuple[str, ...]) -> Path:
    """The weights of a folder: the first of `stems` that is there, whole or sharded.

    Args:
        folder: where to look.
        stems: file names, the preferred first, such as "model.safetensors".

    Raises:
        FileNotFoundError: naming what was looked for and what is there.
    """
    for stem in stems:
        for name in (stem, f"{stem}{INDEX}"):
            if (folder / name).is_file():
                return folder / name
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
    raise FileNotFoundError(
        f"{folder} has no weights: looked for {', '.join(stems)} (or {stems[0]}{INDEX}); "
        f"there is {there}."
    )
