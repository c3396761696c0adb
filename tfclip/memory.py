"""Returns freed memory to the system, which the C library keeps for itself below 32 MB a block."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def return_memory() -> None:
    """Return the allocator's free memory to the system."""
    with suppress(AttributeError, OSError, TypeError):  # the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)


def free_garbage() -> None:
    """Free objects that refer to each other, and return free memory to the system.

    Python looks for such cycles by the number of objects, not of bytes. Graphs are in one, and so
    is a refused request, with a body of up to 32 MB: the traceback of its error refers to it.
    """
    gc.collect()
    return_memory()
