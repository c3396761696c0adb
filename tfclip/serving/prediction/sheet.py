"""Draws a contact sheet of pictures with their labels, by Pillow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from tfclip import files
from tfclip.records import schema
from tfclip.records.contact_sheet import CELL, draw_sheet
from tfclip.serving.prediction.answers import line

MOST_PICTURES = 96
"""The largest number of pictures on a sheet."""


class Sheet:
    """Collects at most `MOST_PICTURES` small pictures with their labels, and draws them.

    Attributes:
        left_out: the number of further pictures, and of those that Pillow cannot read.
    """

    def __init__(self) -> None:
        self._records: list[dict] = []
        self.left_out = 0

    def add(self, picture: str, content: bytes, rows: Sequence[Mapping]) -> None:
        """Add a picture with its labels."""
        if len(self._records) >= MOST_PICTURES:
            self.left_out += 1
            return
        try:
            small = _small(content)
        except (OSError, ValueError, Image.DecompressionBombError):
            # TensorFlow's decoders read a few files that Pillow refuses.
            self.left_out += 1
            return
        named = line("", rows).removeprefix(": ")
        self._records.append(
            {
                schema.IMAGE: small,
                schema.KEY: picture.encode("utf-8", "replace"),
                schema.LABEL: [named.encode()],
                schema.DIFFICULT: [],
                schema.CAPTION: [],
                schema.PHRASE: [],
                **{name: [] for name in schema.BOX},
            }
        )

    def write(self, path: Path) -> int:
        """Draw the sheet into a picture file; return how many pictures are on it."""
        with files.new_file(path) as temporary:
            named = temporary.with_name(temporary.name + path.suffix)
            try:
                count = draw_sheet(self._records, named)
                named.replace(temporary)
            finally:
                named.unlink(missing_ok=True)
        return count


def _small(content: bytes) -> bytes:
    """Return the picture in the size of the sheet, to keep memory small."""
    with Image.open(BytesIO(content)) as opened:
        opened.draft("RGB", (2 * CELL, 2 * CELL))
        picture = ImageOps.exif_transpose(opened)
        if picture.has_transparency_data:
            colored = picture.convert("RGBA")
            picture = Image.new("RGBA", colored.size, "white")
            picture.alpha_composite(colored)
        picture = picture.convert("RGB")
    picture.thumbnail((CELL, CELL))
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
