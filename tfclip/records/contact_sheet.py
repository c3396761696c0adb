"""A picture of a packed set: some of its pictures with their boxes, captions and labels. Pillow."""

import itertools
import textwrap
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import sample_split

COLUMNS = 4
CELL = 280
"""Width of a cell, and height of the room for its picture, in pixels."""
MARGIN = 12
TEXT_LINES = 12
LINE = 15
LETTERS = 44
"""Letters in a line of text."""
COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080")


def contact_sheet(
    directory: Path, out: Path, *, split: str | None = None, pictures: int = 16, seed: int = 0
) -> int:
    """Draw some records of a packed set into the picture file `out`; return how many.

    Args:
        directory: a packed set.
        out: a .png (or any format Pillow writes); it is replaced.
        split: the first one by default.
        pictures: at most so many, drawn by `seed`.

    Raises:
        FileNotFoundError, ValueError: no such records or split; a file name Pillow cannot write.
    """
    split = split or next(iter(load_manifest(directory).splits))
    return draw_sheet(sample_split(directory, split, pictures, seed), out)


def draw_sheet(records: Iterable[dict], out: Path, headings: Sequence[str] = ()) -> int:
    """Draw records, as NumPy values, into the picture file `out`; return how many.

    Args:
        records: each a cell, from left to right and from above.
        out: as in `contact_sheet`.
        headings: a line above the key of each, or none at all.
    """
    cells = [_cell(r, h) for r, h in itertools.zip_longest(records, headings, fillvalue="")]
    height = CELL + TEXT_LINES * LINE + MARGIN
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new(
        "RGB",
        (COLUMNS * (CELL + MARGIN) + MARGIN, rows * (height + MARGIN) + MARGIN),
        "white",
    )
    for at, cell in enumerate(cells):
        row, column = divmod(at, COLUMNS)
        corner = (MARGIN + column * (CELL + MARGIN), MARGIN + row * (height + MARGIN))
        sheet.paste(cell, corner)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return len(cells)


def _cell(record: dict, heading: str = "") -> Image.Image:
    """Draw one record: the picture with its boxes, and below it the texts."""
    picture = Image.open(BytesIO(record[schema.IMAGE])).convert("RGB")
    scale = min(CELL / picture.width, CELL / picture.height)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    cell = Image.new("RGB", (CELL, CELL + TEXT_LINES * LINE + MARGIN), "white")
    cell.paste(picture.resize((width, height)), (0, 0))
    draw = ImageDraw.Draw(cell)
    named = f"{heading} {_text(record[schema.KEY])}".strip()
    lines = [(named[-LETTERS:], "black")]
    for at, box in enumerate(zip(*(record[name] for name in schema.BOX), strict=True)):
        color = COLORS[at % len(COLORS)]
        x0, y0, x1, y1 = box
        corners = (x0 * (width - 1), y0 * (height - 1), x1 * (width - 1), y1 * (height - 1))
        draw.rectangle(corners, outline=color, width=2)
        lines += _wrapped(_text(record[schema.PHRASE][at]), color)
    labels = [_text(label) for label in record[schema.LABEL]]
    labels += [f"({_text(label)})" for label in record[schema.DIFFICULT]]
    lines += _wrapped(", ".join(labels), "#006600")
    for caption in record[schema.CAPTION]:
        lines += _wrapped(_text(caption), "#333333")
    font = ImageFont.load_default(12)
    for at, (line, color) in enumerate(lines[:TEXT_LINES]):
        draw.text((0, CELL + 2 + at * LINE), line, fill=color, font=font)
    return cell


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _wrapped(text: str, color: str) -> list[tuple[str, str]]:
    return [(line, color) for line in textwrap.wrap(text, LETTERS)]
