"""What callbacks remember, as plain data: taken into a checkpoint, and given back from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

# Set by Keras itself, for every callback.
NOT_ITS_OWN = ("params", "_model", "_params", "validation_data")


# The classes and attributes in checkpoints of earlier versions, by the names of today.
FORMER_CLASSES = {"Diagnostics": "Doctor", "TensorBoardLog": "Board", "Validation": "Measure"}
FORMER_ATTRIBUTES = {"Diagnostics": {"messages": "found"}}


class CallbackStates:
    """The attributes of callbacks that have changed since training began.

    Numbers, text, arrays, and lists, tuples and dicts of them count; what else a callback holds
    (files, models, functions) is what its constructor and `on_train_begin` make of it again.

    Args:
        callbacks: after their `on_train_begin`.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]):
        self._named = dict(_names(callbacks))
        self._before = {name: _plain(callback, {}) for name, callback in self._named.items()}

    def taken(self) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
        """The states by callback, as JSON types, and the arrays that they name."""
        arrays: dict[str, np.ndarray] = {}
        states = {}
        for name, callback in self._named.items():
            now, before = _plain(callback, arrays), self._before[name]
            states[name] = {
                key: value
                for key, value in now.items()
                if key not in before or repr(before[key]) != repr(value) or _has_array(value)
            }
        return states, arrays

    def give_back(self, states: Mapping[str, Mapping], arrays: Mapping[str, np.ndarray]) -> None:
        """Set what `taken` returned, also of earlier versions, which named some classes otherwise.

        Callbacks that were not there keep their own state.
        """
        for name, callback in self._named.items():
            kind, number = name.rsplit("-", 1)
            former = f"{FORMER_CLASSES.get(kind, kind)}-{number}"
            renamed = {old: new for new, old in FORMER_ATTRIBUTES.get(kind, {}).items()}
            for key, value in states.get(name, states.get(former, {})).items():
                setattr(callback, renamed.get(key, key), _decoded(value, arrays))


def _names(callbacks: Sequence[keras.callbacks.Callback]):
    """Each callback by its class, and its number among those of that class."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        yield f"{kind}-{seen[kind]}", callback


class _NotPlain(Exception):
    """A value that is no plain data."""


def _plain(callback: keras.callbacks.Callback, arrays: dict) -> dict[str, Any]:
    plain = {}
    for key, value in vars(callback).items():
        if key in NOT_ITS_OWN:
            continue
        kept: dict[str, np.ndarray] = {}
        try:
            plain[key] = _encoded(value, kept, len(arrays))
        except _NotPlain:
            continue
        arrays |= kept
    return plain


def _encoded(value: Any, arrays: dict, offset: int) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        name = f"callback-{offset + len(arrays):05d}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, list):
        return [_encoded(item, arrays, offset) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encoded(item, arrays, offset) for item in value]}
    if isinstance(value, dict):
        pairs = value.items()
        return {"dict": [[_encoded(part, arrays, offset) for part in pair] for pair in pairs]}
    raise _NotPlain


def _decoded(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_decoded(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    items = _decoded(content, arrays)
    return tuple(items) if kind == "tuple" else dict(items)


def _has_array(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_array, value))
    return isinstance(value, dict) and ("array" in value or any(map(_has_array, value.values())))
