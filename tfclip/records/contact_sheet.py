"""Contact sheet of a record set: pictures with their boxes, captions and labels."""

import itertools
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import sample_split

COLUMNS = 4
CELL = 280
"""The width of a cell, and the largest height of its picture, in pixels."""
MARGIN = 12
TEXT_LINES = 12
LINE = 15
LETTERS = 44
"""The number of characters in a line of text."""
TITLE = 30
"""The height of the title of a section."""
TITLE_LETTERS = 120
COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080")


def contact_sheet(
    directory: Path, out: Path, *, split: str | None = None, pictures: int = 16, seed: int = 0
) -> int:
    """Draw random records of a set into the picture file `out`, and return their number.

    Args:
        directory: a record set.
        out: a .png file, or another format that Pillow writes; it is replaced.
        split: one of its splits; by default the first.
        pictures: the largest number of records.
        seed: seed of the sample.

    Raises:
        FileNotFoundError: no such records.
        ValueError: an unknown split, or an extension that Pillow cannot write.
    """
    split = split or next(iter(load_manifest(directory).splits))
    return draw_sheet(sample_split(directory, split, pictures, seed), out)


def draw_sheet(records: Iterable[dict], out: Path, headings: Sequence[str] = ()) -> int:
    """Draw records (NumPy values by feature) into the picture file `out`; return their number.

    Args:
        records: one record for each cell, row by row.
        out: as in `contact_sheet`.
        headings: a text before the key of each record, or () for none.
    """
    return draw_sections([Section("", records, headings)], out)


@dataclass(frozen=True)
class Section:
    """A part of a contact sheet.

    Attributes:
        title: a line of text above it; "" for none.
        records: one record for each cell, row by row.
        headings: a text before the key of each record, or () for none.
    """

    title: str
    records: Iterable[dict]
    headings: Sequence[str] = ()


def draw_sections(sections: Sequence[Section], out: Path) -> int:
    """Draw sections below each other into the picture file `out`; return the number of records."""
    width = COLUMNS * (CELL + MARGIN) + MARGIN
    placed: list[tuple[int, int, Image.Image]] = []
    titles: list[tuple[int, str]] = []
    top = MARGIN
    for section in sections:
        if section.title:
            titles.append((top, section.title))
            top += TITLE
        padded = itertools.chain(section.headings, itertools.repeat(""))
        pairs = zip(section.records, padded, strict=False)
        cells = [_cell(record, heading) for record, heading in pairs]
        for start in range(0, len(cells), COLUMNS):
            row = cells[start : start + COLUMNS]
            for column, cell in enumerate(row):
                placed.append((MARGIN + column * (CELL + MARGIN), top, cell))
            top += max(cell.height for cell in row) + 2 * MARGIN
    sheet = Image.new("RGB", (width, top), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for y, title in titles:
        draw.text((MARGIN, y), textwrap.shorten(title, TITLE_LETTERS), fill="black", font=font)
    for x, y, cell in placed:
        sheet.paste(cell, (x, y))
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)
    return len(placed)


def _cell(record: dict, heading: str = "") -> Image.Image:
    """Draw one record: the picture with its boxes, and the texts below it."""
    if record[schema.IMAGE]:
        picture = Image.open(BytesIO(record[schema.IMAGE])).convert("RGB")
    else:  # a file that is gone
        picture = Image.new("RGB", (CELL, CELL // 2), "#dddddd")
    scale = min(CELL / picture.width, CELL / picture.height)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    lines = [(title_line(heading, _text(record[schema.KEY])), "black")]
    boxes = []
    for at, box in enumerate(zip(*(record[name] for name in schema.BOX), strict=True)):
        color = COLORS[at % len(COLORS)]
        x0, y0, x1, y1 = box
        corners = (x0 * (width - 1), y0 * (height - 1), x1 * (width - 1), y1 * (height - 1))
        boxes.append((corners, color))
        lines += _wrapped(_text(record[schema.PHRASE][at]), color)
    labels = [_text(label) for label in record[schema.LABEL]]
    labels += [f"({_text(label)})" for label in record[schema.DIFFICULT]]
    lines += _wrapped(", ".join(labels), "#006600")
    for caption in record[schema.CAPTION]:
        lines += _wrapped(_text(caption), "#333333")
    lines = lines[:TEXT_LINES]
    cell = Image.new("RGB", (CELL, height + len(lines) * LINE + 2), "white")
    cell.paste(picture.resize((width, height)), (0, 0))
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(12)
    for corners, color in boxes:
        draw.rectangle(corners, outline=color, width=2)
    for at, (line, color) in enumerate(lines):
        draw.text((0, height + 2 + at * LINE), line, fill=color, font=font)
    return cell


def title_line(heading: str, key: str) -> str:
    """Return the first line below a picture; of a long key the beginning is cut.

    >>> title_line("0.562", "a" * 40 + "/dog.jpg")
    '0.562 …aaaaaaaaaaaaaaaaaaaaaaaaaaaaa/dog.jpg'
    """
    title = f"{heading} {key}".strip()
    if len(title) <= LETTERS:
        return title
    start = f"{heading} …".lstrip()
    return start + key[len(start) - LETTERS :]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _wrapped(text: str, color: str) -> list[tuple[str, str]]:
    return [(line, color) for line in textwrap.wrap(text, LETTERS)]
