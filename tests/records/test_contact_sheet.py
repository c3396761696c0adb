import numpy as np
import pytest
from PIL import Image, ImageColor

from tfclip.records import schema
from tfclip.records.contact_sheet import (
    CELL,
    COLORS,
    LETTERS,
    LINE,
    MARGIN,
    contact_sheet,
    draw_sheet,
    title_line,
)
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.sources.sample import Region, Sample


@pytest.fixture(scope="module")
def packed(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("records") / "made"
    grey = np.full((100, 200, 3), 128, np.uint8)
    boxed = Sample(
        "made/boxed",
        made.encoded(grey),
        captions=("a very long caption " * 30, "犬"),
        regions=(Region("right half", 100, 0, 100, 100),),
    )
    source = made.source_of({"train": [boxed], "val": made.samples(6, "val")})
    pack(source, out, PackOptions(workers=1))
    return out


def test_boxes_and_captions_are_drawn(packed, tmp_path):
    assert contact_sheet(packed, tmp_path / "new/sheet.png") == 1
    sheet = np.asarray(Image.open(tmp_path / "new/sheet.png")).astype(int)
    cell = sheet[MARGIN:, MARGIN : MARGIN + CELL]
    picture = cell[: CELL // 2]  # 200 x 100 fills the width and half of the height
    assert np.abs(picture[20:120, 20:120] - 128).max() < 4
    box = np.array(ImageColor.getrgb(COLORS[0]))
    for y, x in ((70, CELL // 2), (70, CELL - 2), (0, 200), (CELL // 2 - 2, 200)):
        near = picture[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].reshape(-1, 3)
        assert (np.abs(near - box).sum(-1) < 10).any()
    assert (cell[CELL // 2 : CELL // 2 + 60].min(-1) < 120).any()  # letters, below the picture


def test_a_row_is_as_high_as_its_highest_cell(packed, made, tmp_path):
    """Eight small cells take less room than the longest text of a cell would, twice."""
    record = {
        **dict.fromkeys((schema.PHRASE, schema.LABEL, schema.DIFFICULT, schema.CAPTION), ()),
        **{name: () for name in schema.BOX},
        schema.IMAGE: made.encoded(np.full((100, 200, 3), 128, np.uint8)),
        schema.KEY: b"a folder/" * 20 + b"the name.jpg",
    }
    assert draw_sheet([record] * 8, tmp_path / "sheet.png", ["0.5"] * 8) == 8
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[0] <= 2 * (CELL // 2 + 3 * LINE + 2 * MARGIN) + MARGIN
    second = sheet[sheet.shape[0] // 2 :, MARGIN]
    assert (np.abs(second.astype(int) - 128).max(-1) < 4).sum() > CELL // 2 - 10


def test_a_long_name_keeps_its_heading_and_its_end():
    title = title_line("0.562", "a folder/" * 20 + "2008_005860.jpg")
    assert title.startswith("0.562 …") and title.endswith("/2008_005860.jpg")
    assert len(title) <= LETTERS
    assert title_line("", "short.jpg") == "short.jpg"


def test_the_seed_decides_which_pictures(packed, tmp_path):
    def drawn(name, **options):
        assert contact_sheet(packed, tmp_path / name, split="val", pictures=3, **options) == 3
        return (tmp_path / name).read_bytes()

    assert drawn("a.png") == drawn("b.png")
    assert drawn("a.png") != drawn("c.png", seed=5)


def test_a_name_that_is_no_picture(packed, tmp_path):
    with pytest.raises(ValueError, match="extension"):
        contact_sheet(packed, tmp_path / "sheet.docx")
