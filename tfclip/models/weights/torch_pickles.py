"""Pickles of PyTorch, read without PyTorch: tensors and containers, everything else is refused."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# A tensor's description takes some hundred bytes; a larger pickle is not a state dict.
LARGEST_PICKLE = 64 * 2**20
# bfloat16 is read as 16 bits and converted to float32, which is exact.
BFLOAT16 = "bfloat16"
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_OPCODES = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE INT LONG LONG1 BININT BININT1 "
    "BININT2 FLOAT BINFLOAT UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING "
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES EMPTY_DICT EMPTY_LIST EMPTY_TUPLE DICT LIST TUPLE "
    "TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET "
    "BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD NEWOBJ BINPERSID".split()
)


_TAMPERED = "a change of an object that the reader created"


class UnsafePickle(ValueError):
    """A pickle that contains something other than tensors and containers."""


@dataclass(frozen=True)
class Storage:
    """A block of numbers in the file: its name, their type and their number."""

    key: str
    dtype: str
    count: int

    def __setstate__(self, state):
        raise UnsafePickle(_TAMPERED)

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class TensorPlan:
    """A tensor that is not read yet: a strided view of a storage, in units of elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, state):
        raise UnsafePickle(_TAMPERED)

    @property
    def count(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=object))

    def view(self, numbers: np.ndarray) -> np.ndarray:
        """Return the tensor as a view of its storage, (count,); bfloat16 becomes float32."""
        strides = [stride * numbers.itemsize for stride in self.strides]
        start = numbers[self.offset :] if self.count else numbers[:0]
        array = np.lib.stride_tricks.as_strided(start, self.shape, strides, writeable=False)
        if self.storage.dtype == BFLOAT16:
            return (array.astype("<u4") << np.uint32(16)).view("<f4")
        return array


class ScriptModule:
    """A module of a TorchScript archive, as its attributes only; none of its code runs."""

    def __init__(self):
        self.attributes = {}

    def __setstate__(self, state):
        if not isinstance(state, dict):
            raise UnsafePickle("a TorchScript object that is not a module")
        self.attributes = state


class _Container(dict):
    """An OrderedDict; its attributes (`_metadata`) are dropped."""

    def __setstate__(self, state):
        pass


class _Allowed:
    """A global that a pickle may use: it can be called, but not changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable):
        self._call = call

    def __call__(self, *arguments):
        return self._call(*arguments)

    def __setstate__(self, state):
        raise UnsafePickle(_TAMPERED)


@dataclass(frozen=True)
class _StorageType:
    dtype: str

    def __setstate__(self, state):
        raise UnsafePickle(_TAMPERED)


def _rebuild_tensor(storage, offset, size, stride, requires_grad=False, hooks=None, extra=None):
    if not isinstance(storage, Storage):
        raise UnsafePickle("a tensor without a storage")
    shape, strides = _integers(size), _integers(stride)
    (offset,) = _integers([offset])
    if len(shape) != len(strides):
        raise ValueError(f"a tensor has {len(shape)} axes and {len(strides)} strides")
    plan = TensorPlan(storage, offset, shape, strides)
    if plan.count > storage.count:
        raise ValueError(
            f"a tensor of shape {shape} and strides {strides} repeats numbers of a storage of "
            f"{storage.count}: it would need {plan.count:,} (save it with .contiguous())"
        )
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if plan.count and last >= storage.count:
        raise ValueError(f"a tensor ends at number {last:,} of a storage of {storage.count:,}")
    return plan


def _integers(values) -> tuple[int, ...]:
    if not isinstance(values, (list, tuple)) or len(values) > 64:
        raise ValueError("a tensor's shape is not a list of numbers")
    for value in values:
        if type(value) is not int or not 0 <= value < 2**48:
            raise ValueError(f"a tensor has the size, stride or offset {value!r}")
    return tuple(values)


def _rebuild_parameter(data, requires_grad=True, hooks=None):
    return data


def _container(items=()):
    return _Container(items)


def _list(items=()):
    return list(items)


def _tuple(items=()):
    return tuple(items)


_GLOBALS = {
    "collections.OrderedDict": _container,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": _tuple,
    # TorchScript archives have lists with the type of their elements.
    "torch.jit._pickle.build_intlist": _list,
    "torch.jit._pickle.build_doublelist": _list,
    "torch.jit._pickle.build_boollist": _list,
    "torch.jit._pickle.build_tensorlist": _list,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, script: bool):
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.script = script

    def find_class(self, module, name):
        full = f"{module}.{name}"
        if module == "torch" and name in STORAGES:
            return _StorageType(STORAGES[name])
        if full in _GLOBALS:
            return _Allowed(_GLOBALS[full])
        if self.script and module.split(".")[0] == "__torch__":
            return ScriptModule
        raise UnsafePickle(full)

    def persistent_load(self, saved_id):
        if not isinstance(saved_id, tuple) or len(saved_id) < 5 or saved_id[0] != "storage":
            raise UnsafePickle(f"the persistent object {str(saved_id)[:60]}")
        kind, key, _, count, *views = saved_id[1:]
        if not isinstance(kind, _StorageType) or not isinstance(key, str):
            raise UnsafePickle(f"the storage {str(kind)[:60]}")
        if any(view is not None for view in views):
            raise ValueError("a storage is a view of another one, as PyTorch before 0.4 wrote it")
        (count,) = _integers([count])
        return Storage(key, kind.dtype, count)


def pickle_end(content: bytes, start: int = 0) -> int:
    """Return the end of the pickle that begins at `start`, without running it.

    Raises:
        UnsafePickle: it contains an operation that saved tensors do not need; names it.
        ValueError: the pickle is damaged.
    """
    stream = io.BytesIO(content)
    stream.seek(start)
    try:
        for operation, argument, _ in pickletools.genops(stream):
            if operation.name not in _OPCODES:
                raise UnsafePickle(f"the pickle operation {operation.name}")
            # A memo index beyond the pickle's own size would only allocate memory.
            is_put = operation.name in ("PUT", "LONG_BINPUT")
            if is_put and argument is not None and int(argument) > len(content):
                raise UnsafePickle(f"the pickle operation {operation.name} {argument}")
    except UnsafePickle:
        raise
    except Exception as error:  # pickletools raises many kinds for damaged bytes
        raise ValueError(f"damaged pickle: {str(error)[:100]}") from None
    return stream.tell()


def load_pickle(content: bytes, script: bool = False) -> object:
    """Return the containers of a pickle, with a `TensorPlan` for each tensor.

    Args:
        content: one whole pickle.
        script: whether it is part of a TorchScript archive, whose modules become `ScriptModule`s.

    Raises:
        UnsafePickle: for anything but tensors and containers; names it.
        ValueError: the pickle is damaged, or a tensor is outside its storage.
    """
    if pickle_end(content) != len(content):
        raise ValueError("damaged pickle: something comes after its end")
    try:
        return _Unpickler(content, script).load()
    except (UnsafePickle, ValueError):
        raise
    except Exception as error:  # the unpickler raises many kinds for damaged bytes
        raise ValueError(f"damaged pickle: {str(error)[:100]}") from None
