"""Returns freed memory to the system, which the C library keeps for itself below 32 MB a block."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def return_memory() -> None:
    """Return the allocator's free memory to the system."""
    with suppress(AttributeError, OSError, TypeError):  # the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)
