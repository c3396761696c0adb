"""Keeps the memory of a server flat: large tensors come from one heap that malloc can trim."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_SYSTEM_ALLOCATOR = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"
# Options of mallopt and their numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_LARGEST_INT = 2**31 - 1


def use_one_heap() -> None:
    """Let TensorFlow take large tensors from malloc's heap; call before TensorFlow is imported.

    With oneDNN, TensorFlow keeps large tensors in a pool of its own, which grows with every gap
    that a loaded and unloaded version leaves, and returns nothing. malloc by itself maps each large
    tensor anew, which costs more processor time than the pool saves: hence one heap, no mappings,
    and no trimming but by `return_memory`. A value chosen by the user is kept; without glibc only
    the allocator changes.
    """
    os.environ.setdefault(_SYSTEM_ALLOCATOR, "1")
    with suppress(AttributeError, OSError):  # the C library is not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
