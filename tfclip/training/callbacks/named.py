"""Imports the user's own Keras callbacks by package.module:name."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfclip import plugins


def named_callbacks(references: Sequence[str]) -> list[keras.callbacks.Callback]:
    """Import callbacks; a class or a function is called without arguments.

    Raises:
        ValueError: a module or name does not exist, or is not a callback.
    """
    return [_callback(reference) for reference in references]


def _callback(reference: str) -> keras.callbacks.Callback:
    kind = "--callback"
    callback = plugins.load(kind, reference)
    if not isinstance(callback, keras.callbacks.Callback):
        callback = plugins.call(kind, reference, callback)
    if not isinstance(callback, keras.callbacks.Callback):
        raise ValueError(
            f"{kind} {reference} must name a keras.callbacks.Callback: a class, a function that "
            f"returns an instance, or an instance. Received: a {type(callback).__name__}"
        )
    return callback
