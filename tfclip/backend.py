"""Settings made before TensorFlow and Keras are imported: backend, GPU memory, kernels.

tfclip chooses Keras' TensorFlow backend, and refuses another one. Without `GROWTH`, TensorFlow
takes all memory of every GPU that it sees, also to predict one picture. `KERNELS` are those of
oneDNN, which TensorFlow leaves off on x86-64 processors without AVX-512 VNNI, although they are up
to twice as fast there (docs/performance.md).
"""

from __future__ import annotations

import os
import platform
import sys

VARIABLE = "KERAS_BACKEND"
TENSORFLOW = "tensorflow"
GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"
KERNELS = "TF_ENABLE_ONEDNN_OPTS"


def choose_tensorflow() -> None:
    """Set the variables that Keras and TensorFlow read once, unless the user has set them."""
    os.environ.setdefault(VARIABLE, TENSORFLOW)
    os.environ.setdefault(GROWTH, "true")
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault(KERNELS, "1")


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
