"""How a server that runs for long keeps its memory small. No TensorFlow."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_SYSTEM_ALLOCATOR = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
# glibc's malloc.h: the most arenas. By default eight per core, each of which keeps what it freed.
_M_ARENA_MAX, _ARENAS = -8, 2


def use_system_allocator() -> None:
    """Let TensorFlow take large tensors from malloc; call before TensorFlow is imported.

    With oneDNN, TensorFlow keeps large tensors in a pool of its own, which grows to the most that
    concurrent calls ever needed, with gaps, and returns nothing. A value chosen by the user is
    kept.
    """
    os.environ.setdefault(_SYSTEM_ALLOCATOR, "1")
    with suppress(AttributeError, OSError):  # the C library is not glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def return_memory() -> None:
    """Return the allocator's free memory to the system."""
    with suppress(AttributeError, OSError):  # the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)
