"""Keras' backend: tfclip chooses TensorFlow before Keras is imported, and refuses another one."""

from __future__ import annotations

import os
import sys

VARIABLE = "KERAS_BACKEND"
TENSORFLOW = "tensorflow"


def choose_tensorflow() -> None:
    """Set the variable that Keras reads once, on import, unless the user has set it."""
    os.environ.setdefault(VARIABLE, TENSORFLOW)


def backend_problem() -> str | None:
    """Return why tfclip cannot run on the backend of this process, or None where it can."""
    backend = os.environ.get(VARIABLE, TENSORFLOW)
    if (keras := sys.modules.get("keras")) is not None:
        backend = keras.config.backend()
    if backend == TENSORFLOW:
        return None
    return (
        f"tfclip needs Keras' TensorFlow backend. Received: {VARIABLE}={backend}. Run: "
        f"unset {VARIABLE}; in Python, import tfclip before keras"
    )


def require_tensorflow() -> None:
    """Refuse another backend.

    Raises:
        ImportError: names the backend and the way to change it.
    """
    if (problem := backend_problem()) is not None:
        raise ImportError(problem)
