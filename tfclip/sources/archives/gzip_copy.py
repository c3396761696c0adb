"""A file that may be compressed with GZIP, to be read at any place."""

import gzip
import tempfile
import zlib
from pathlib import Path

from tfclip.console import say

_CHUNK = 1 << 20
MAX_RATIO = 200
"""A file that grows more than this is taken for a bomb; TFRecords of JPEGs hardly grow."""


class Unzipped:
    """A file, and a temporary copy of its content where it is compressed; both have its name.

    A copy of a damaged file ends where the damage begins: whoever reads it finds that out.

    Attributes:
        name: the file's own.
        path: what to read.
    """

    def __init__(self, file: Path):
        self.name, self.path = file.name, file
        with file.open("rb") as content:
            if content.read(2) != b"\x1f\x8b":
                return
        # It lives as long as this object.
        self._copy = tempfile.NamedTemporaryFile(prefix="tfclip-", suffix=f"-{file.name}")
        self.path = Path(self._copy.name)
        most = max(_CHUNK, MAX_RATIO * file.stat().st_size)
        try:
            with gzip.open(file) as content:
                while chunk := content.read(_CHUNK):
                    self._copy.write(chunk)
                    if (most := most - len(chunk)) < 0:
                        raise ValueError(f"{file} grows more than {MAX_RATIO} times: refused")
        except (EOFError, OSError, zlib.error) as error:
            say(f"{file} is damaged, and what follows is not read: {error}")
        self._copy.flush()
        say(f"{file}: compressed with GZIP, read from a temporary copy")
