"""The memory that is a process's own: without pages of files, which the kernel may drop."""

from __future__ import annotations

from pathlib import Path


def anonymous_megabytes(process: int | str = "self") -> float:
    """Return the resident anonymous memory of a process (RssAnon of proc(5)), in units of 1e6 B."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024 / 1e6
