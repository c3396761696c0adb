"""Keras callbacks of the user's own, by `package.module:name`."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfclip import plugins


def named_callbacks(references: Sequence[str]) -> list[keras.callbacks.Callback]:
    """Import callbacks; a class or a function is called without arguments.

    Raises:
        ValueError: a module or name is not there, or is no callback.
    """
    return [_callback(reference) for reference in references]


def _callback(reference: str) -> keras.callbacks.Callback:
    kind = "--callback"
    made = plugins.load(kind, reference)
    if not isinstance(made, keras.callbacks.Callback):
        made = plugins.call(kind, reference, made)
    if not isinstance(made, keras.callbacks.Callback):
        raise ValueError(
            f"{kind} {reference} must name a keras.callbacks.Callback: a class, a function that "
            f"makes one, or one that is made. Received: a {type(made).__name__}"
        )
    return made
