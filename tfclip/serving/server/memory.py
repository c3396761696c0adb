"""How a server that runs for long keeps its memory small. No TensorFlow."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def return_memory() -> None:
    """Return the allocator's free memory to the system."""
    with suppress(AttributeError, OSError):  # the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)
