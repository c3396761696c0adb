"""Random access to a file that may be compressed with GZIP."""

import gzip
import tempfile
import zlib
from pathlib import Path

from tfclip.console import say

_CHUNK = 1 << 20
MAX_RATIO = 200
"""A file that expands more than this is refused as a decompression bomb; JPEGs hardly compress."""


class GunzippedFile:
    """A file, or an uncompressed temporary copy of it if it is compressed with GZIP.

    The copy of a damaged file ends where the damage begins, which its reader has to detect. The
    copy exists as long as this object.

    Attributes:
        name: the name of the original file.
        path: the file to read.

    Raises ValueError when the file expands more than `MAX_RATIO` times.
    """

    def __init__(self, file: Path):
        self.name, self.path = file.name, file
        with file.open("rb") as content:
            if content.read(2) != b"\x1f\x8b":
                return
        self._copy = tempfile.NamedTemporaryFile(prefix="tfclip-", suffix=f"-{file.name}")
        self.path = Path(self._copy.name)
        most = max(_CHUNK, MAX_RATIO * file.stat().st_size)
        try:
            with gzip.open(file) as content:
                while chunk := content.read(_CHUNK):
                    self._copy.write(chunk)
                    if (most := most - len(chunk)) < 0:
                        raise ValueError(
                            f"{file} expands more than {MAX_RATIO} times and is refused"
                        )
        except (EOFError, OSError, zlib.error) as error:
            say(f"{file} is damaged; the rest of it is not read: {error}")
        self._copy.flush()
        say(f"{file}: compressed with GZIP, read from a temporary copy")
