"""Reads PyTorch's files (.pt, .pth, .bin) without PyTorch and without running code in them."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfclip.failures import first_line
from tfclip.models.weights.torch_pickles import (
    BFLOAT16,
    LARGEST_PICKLE,
    ScriptModule,
    Storage,
    TensorPlan,
    UnsafePickle,
    load_pickle,
    pickle_end,
)

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# Errors that zipfile raises for damaged archives.
_DAMAGED = (OSError, EOFError, RuntimeError, zipfile.BadZipFile)
_ZIP = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# Keys under which training scripts store the state dict.
_NESTED = ("state_dict", "model_state_dict", "model", "module", "net")
# Prefixes that wrappers of a model add to every name.
_WRAPPERS = ("module.", "_orig_mod.")
_DEEPEST = 64
# Tied tensors share a storage two or three times; a decompression bomb does thousands of times.
_MOST_SHARED = 4


class TorchFile(Mapping[str, np.ndarray]):
    """The tensors of a PyTorch file by name; each is read when it is accessed.

    Reads what `torch.save` writes (the zip format, and the legacy one from before PyTorch 1.6) and
    the parameters of a TorchScript archive. Of nested checkpoints the state dict is read. bfloat16
    is converted to float32, which is exact; strided views are preserved.

    Attributes:
        path: the file.
        left_out: names in the state dict whose value is not a tensor.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or contains anything but tensors and containers.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such file.")
        try:
            with self.path.open("rb") as file:
                start = file.read(4)
            if start == _ZIP:
                content, self._places = _read_zip(self.path)
            else:
                content, self._places = _read_legacy(self.path)
            self._plans, self.left_out = _state_dict(content)
            self._check_sizes()
        except UnsafePickle as error:
            raise ValueError(
                f"{path} is refused: it contains {error}. Only tensors and containers are allowed; "
                "save the weights alone, with torch.save(model.state_dict(), FILE)."
            ) from None
        except (ValueError, struct.error, *_DAMAGED) as error:
            raise ValueError(
                f"{path} cannot be read as a PyTorch file: {first_line(error)}."
            ) from None
        self._last: tuple[str, np.ndarray] | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the tensor `name`, read-only."""
        plan = self._plans[name]
        return plan.view(self._numbers(plan.storage))

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, without reading it."""
        return self._plans[name].shape

    def _numbers(self, storage: Storage) -> np.ndarray:
        # Many small tensors may share a storage: the last one is kept in memory.
        if self._last is None or self._last[0] != storage.key:
            place = self._places[storage.key]
            try:
                content = place.read(self.path)
            except _DAMAGED as error:
                raise ValueError(f"{self.path} is damaged: {first_line(error)}.") from None
            self._last = storage.key, np.frombuffer(content, "u1")
        kind = "<u2" if storage.dtype == BFLOAT16 else storage.dtype
        return self._last[1][: storage.count * storage.item_bytes].view(kind)

    def _check_sizes(self) -> None:
        """Refuse tensors without data, and files that expand to far more than their size."""
        used: dict[str, int] = {}
        for name, plan in self._plans.items():
            storage = plan.storage
            place = self._places.get(storage.key)
            if place is None:
                raise ValueError(f"the numbers of {name} are missing")
            if place.size < storage.count * storage.item_bytes:
                raise ValueError(f"the numbers of {name} are cut off")
            used[storage.key] = used.get(storage.key, 0) + plan.count * storage.item_bytes
            if used[storage.key] > max(_MOST_SHARED * place.size, 2**20):
                raise ValueError(
                    f"its tensors use the same numbers more than {_MOST_SHARED} times (at {name})"
                )


class _ZipPlace:
    """A storage in a zip archive."""

    def __init__(self, name: str, size: int):
        self.name, self.size = name, size

    def read(self, path: Path) -> bytes:
        """Return its bytes; BadZipFile if their checksum is wrong."""
        with zipfile.ZipFile(path) as archive:
            return archive.read(self.name)


class _FilePlace:
    """A storage at an offset of the file."""

    def __init__(self, start: int, size: int):
        self.start, self.size = start, size

    def read(self, path: Path) -> bytes:
        """Return its bytes."""
        with path.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


def _read_zip(path: Path) -> tuple[object, dict]:
    with zipfile.ZipFile(path) as archive:
        # The source code in a TorchScript archive is compressed; it is not read.
        entries = [e for e in archive.infolist() if "/code/" not in f"/{e.filename}"]
        script = len(entries) < len(archive.infolist())
        for entry in entries:
            # PyTorch does not compress, so an archive cannot expand to more than its size.
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise ValueError(f"{entry.filename} is compressed, which PyTorch never does")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("its entries overlap")
        pickles = [e for e in entries if e.filename.split("/", 1)[-1] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError("it is a zip archive without one data.pkl")
        if pickles[0].file_size > LARGEST_PICKLE:
            raise ValueError(f"its data.pkl has {pickles[0].file_size:,} bytes")
        root = pickles[0].filename.removesuffix("data.pkl")
        names = {entry.filename for entry in entries}
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("it was written on a machine with another byte order")
        content = load_pickle(archive.read(pickles[0]), script)
    start = f"{root}data/"
    return content, {
        e.filename.removeprefix(start): _ZipPlace(e.filename, e.file_size)
        for e in entries
        if e.filename.startswith(start)
    }


def _read_legacy(path: Path) -> tuple[object, dict]:
    """Four pickles, a list of storages, and each storage with its length before it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(LARGEST_PICKLE)
        parts, position = [], 0
        for place in range(5):
            try:
                end = pickle_end(head, position)
            except ValueError:
                if place == 0:
                    raise ValueError(
                        "it is in neither PyTorch's zip format nor its legacy format"
                    ) from None
                raise
            parts.append(load_pickle(head[position:end]))
            position = end
            if place == 0 and parts[0] != _LEGACY_MAGIC:
                raise ValueError("it is a pickle, but was not written by torch.save")
        _, protocol, system, content, keys = parts
        if protocol != _LEGACY_PROTOCOL:
            raise ValueError(f"its protocol is {protocol!r}, expected {_LEGACY_PROTOCOL}")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise ValueError("it was written on a machine with another byte order")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise ValueError("its list of storages is damaged")
        item_bytes = {s.key: s.item_bytes for s in _storages(content)}
        return content, _legacy_places(file, position, size, keys, item_bytes)


def _legacy_places(file: BinaryIO, position: int, size: int, keys, item_bytes) -> dict:
    places = {}
    for key in keys:
        if key not in item_bytes:
            raise ValueError(f"its storage {key} belongs to no tensor")
        file.seek(position)
        (count,) = struct.unpack("<q", file.read(8))
        length = count * item_bytes[key]
        if count < 0 or position + 8 + length > size:
            raise ValueError("it ends too early")
        places[key] = _FilePlace(position + 8, length)
        position += 8 + length
    return places


def _walk(content: object) -> Iterator[TensorPlan]:
    """Return all tensors in nested containers, each container once."""
    seen, stack = set(), [content]
    while stack:
        item = stack.pop()
        if isinstance(item, TensorPlan):
            yield item
        elif isinstance(item, (dict, list, tuple, ScriptModule)) and id(item) not in seen:
            seen.add(id(item))
            inner = item.attributes if isinstance(item, ScriptModule) else item
            stack += inner.values() if isinstance(inner, dict) else inner


def _storages(content: object) -> Iterator[Storage]:
    return (plan.storage for plan in _walk(content))


def _state_dict(content: object) -> tuple[dict[str, TensorPlan], tuple[str, ...]]:
    """Return the tensors by name, without a wrapper's prefix, and the names of other values."""
    if isinstance(content, ScriptModule):
        return dict(_script_tensors(content, "", 0)), ()
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__} instead of a state dict")
    state: dict = content
    for _ in range(_DEEPEST):
        if any(isinstance(value, TensorPlan) for value in state.values()):
            break
        nested = [key for key in _NESTED if isinstance(state.get(key), dict)]
        if not nested:
            names = ", ".join(str(key)[:40] for key in list(state)[:8]) or "nothing"
            raise ValueError(
                f"it holds no state dict; received the keys {names}, expected tensors or one of "
                f"{', '.join(_NESTED)}"
            )
        state = state[nested[0]]
    tensors = {k: v for k, v in state.items() if isinstance(v, TensorPlan) and type(k) is str}
    left_out = tuple(str(key) for key in state if key not in tensors)
    for wrapper in _WRAPPERS:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): plan for name, plan in tensors.items()}
    return tensors, left_out


def _script_tensors(module: ScriptModule, prefix: str, depth: int):
    if depth > _DEEPEST:
        raise ValueError("its modules are nested too deep")
    for name, value in module.attributes.items():
        if isinstance(value, TensorPlan):
            yield prefix + str(name), value
        elif isinstance(value, ScriptModule):
            yield from _script_tensors(value, f"{prefix}{name}.", depth + 1)
