"""The peak memory of this process, for tests of what is held at once."""

import re
from pathlib import Path

import pytest

_RESET = Path("/proc/self/clear_refs")
needs_peak = pytest.mark.skipif(not _RESET.exists(), reason="needs Linux")


def peak_bytes() -> int:
    """Return the largest memory of this process since the last call, and begin anew."""
    status = Path("/proc/self/status").read_text()
    _RESET.write_text("5")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
