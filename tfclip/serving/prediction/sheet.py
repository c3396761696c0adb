"""A sheet of pictures with their labels drawn below. Pillow."""

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
"""On one sheet."""


class Sheet:
    """Collects small pictures with their labels, at most `MOST_PICTURES`, and draws them.

    Attributes:
        left_out: pictures that came after those, or that Pillow does not read.
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
            # TensorFlow's decoders take a few files that Pillow refuses.
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
        with files.new_file(path) as beside:
            named = beside.with_name(beside.name + path.suffix)
            try:
                count = draw_sheet(self._records, named)
                named.replace(beside)
            finally:
                named.unlink(missing_ok=True)
        return count


def _small(content: bytes) -> bytes:
    """Return the picture as it is drawn, so that no large one waits in memory."""
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
