"""Small text files of lines that people write: labels, class names, prompts, synonyms, paths."""

from __future__ import annotations

from pathlib import Path

_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file, stripped; blank lines are "".

    The file is UTF-8, with or without a byte order mark, or UTF-16 with one, as Windows' editors
    write it. Only line breaks (LF, CR LF, CR) end a line, not the other signs at which
    `str.splitlines` breaks.

    Raises:
        ValueError: it is in another encoding.
        OSError: there is no such file, or it cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        text = content.decode(_MARKS.get(content[:2], "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start:,}); save it as UTF-8"
        ) from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines]
