"""The state of callbacks as plain data, saved to and restored from checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

# Attributes that Keras sets on every callback.
NOT_ITS_OWN = ("params", "_model", "_params", "validation_data")


# Current names of classes and attributes, and their names in checkpoints of earlier versions.
FORMER_CLASSES = {"Diagnostics": "Doctor", "TensorBoardLog": "Board", "Validation": "Measure"}
FORMER_ATTRIBUTES = {"Diagnostics": {"messages": "found"}}


class CallbackStates:
    """The attributes of callbacks that changed since the start of training.

    Numbers, text, arrays, and lists, tuples and dicts of them are included; other attributes
    (files, models, functions) must be recreated by the constructor and `on_train_begin`.

    Args:
        callbacks: after their `on_train_begin`.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]):
        self._named = dict(_names(callbacks))
        self._before = {name: _plain(callback, {}) for name, callback in self._named.items()}

    def taken(self) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
        """Return the states by callback, as JSON types, and the arrays that they refer to."""
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

    def restore(self, states: Mapping[str, Mapping], arrays: Mapping[str, np.ndarray]) -> None:
        """Restore what `taken` returned, also with the class names of earlier versions.

        Callbacks without saved state keep their current one.
        """
        for name, callback in self._named.items():
            kind, number = name.rsplit("-", 1)
            former = f"{FORMER_CLASSES.get(kind, kind)}-{number}"
            renamed = {old: new for new, old in FORMER_ATTRIBUTES.get(kind, {}).items()}
            for key, value in states.get(name, states.get(former, {})).items():
                setattr(callback, renamed.get(key, key), _decoded(value, arrays))


def _names(callbacks: Sequence[keras.callbacks.Callback]):
    """Yield each callback with a name: its class, and its number among those of the class."""
    seen: dict[str, int] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] = seen.get(kind, 0) + 1
        yield f"{kind}-{seen[kind]}", callback


class _NotPlain(Exception):
    """A value that is not plain data."""


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
