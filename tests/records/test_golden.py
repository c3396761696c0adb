"""The golden set of records/golden is read for ever, whatever later versions write.

It was packed once, by `python tests/records/test_golden.py` at schema version 1.
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tfclip.inputs.tokenizers.vocabulary import learn_vocabulary, load_vocabulary, save_vocabulary
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.reader import read_split
from tfclip.records.verify import verify
from tfclip.sources.sample import Region, Rejected, Sample, Source

GOLDEN = Path(__file__).parents[2] / "records/golden"


def golden_source() -> Source:
    def disc(color: str, format: str, size: tuple[int, int] = (48, 32)) -> bytes:
        picture = Image.new("RGB", size, "white")
        ImageDraw.Draw(picture).ellipse((8, 4, 31, 27), fill=color)
        out = io.BytesIO()
        picture.save(out, format)
        return out.getvalue()

    box = Region("the disc", 8, 4, 24, 24)
    items = {
        "train": [
            Sample(
                "golden/red",
                disc("red", "JPEG"),
                ("a red disc", "Eine rote Scheibe – groß"),
                (box,),
            ),
            Rejected("golden/lost", "no such file", "train"),
            Sample(
                "golden/green", disc("green", "PNG"), ("a green disc",), (), ("disc",), ("wall",)
            ),
            Sample("golden/blue", disc("blue", "JPEG", (96, 64)), ("  青い円 \n",)),
        ],
        "val": [Sample("golden/grey", disc("grey", "JPEG"), (), (), ("disc", "wall"), (), "val")],
    }
    counts = {split: len(listed) for split, listed in items.items()}
    return Source("golden", counts, lambda split: iter(items[split]), ("disc", "wall"))


def test_the_golden_set_is_sound():
    assert verify(GOLDEN) == []


def test_the_manifest_says_what_it_said():
    content = json.loads((GOLDEN / "manifest.json").read_text())
    assert content["schema_version"] == 1
    assert content["splits"]["train"] == {
        "images": 3,
        "captions": 4,
        "regions": 1,
        "skipped": 1,
        "dropped": 0,
    }
    manifest = load_manifest(GOLDEN)
    assert manifest.source == "golden"
    assert manifest.class_names == ("disc", "wall")
    assert [shard.records for shard in manifest.shards] == [1, 2, 1]
    assert manifest.caption_words["train"] == {1: 1, 2: 1, 3: 2, 5: 1}
    assert manifest.packing["image_size"] == 32


def test_the_records_hold_what_they_held():
    red, green, blue = read_split(GOLDEN, "train").as_numpy_iterator()
    (grey,) = read_split(GOLDEN, "val").as_numpy_iterator()
    assert [int(record[schema.ID]) for record in (red, green, blue, grey)] == IDS
    assert [record[schema.KEY] for record in (red, green, blue, grey)] == [
        b"golden/red",
        b"golden/green",
        b"golden/blue",
        b"golden/grey",
    ]
    assert [text.decode() for text in red[schema.CAPTION]] == [
        "a red disc",
        "Eine rote Scheibe – groß",
    ]
    assert [text.decode() for text in blue[schema.CAPTION]] == ["青い円"]
    assert red[schema.PHRASE].tolist() == [b"the disc"]
    boxes = [float(red[name][0]) for name in schema.BOX]
    np.testing.assert_allclose(boxes, [8 / 48, 4 / 32, 32 / 48, 28 / 32], rtol=1e-6)
    assert green[schema.LABEL].tolist() == [b"disc"]
    assert green[schema.DIFFICULT].tolist() == [b"wall"]
    assert grey[schema.LABEL].tolist() == [b"disc", b"wall"]
    assert len(grey[schema.CAPTION]) == 0
    colors = {"red": red, "green": green, "blue": blue, "grey": grey}
    for color, record in colors.items():
        picture = Image.open(io.BytesIO(record[schema.IMAGE]))
        assert picture.size == (record[schema.WIDTH], record[schema.HEIGHT]) == (48, 32)
        centre = (10, 8) if color == "blue" else (20, 16)
        expected = Image.new("RGB", (1, 1), color).getpixel((0, 0))
        np.testing.assert_allclose(picture.getpixel(centre), expected, atol=6)
        np.testing.assert_allclose(picture.getpixel((46, 30)), (255, 255, 255), atol=3)


# The upper 63 bits of BLAKE2b-64 of the keys.
IDS = [
    7196855729896088782,
    7621260183323030170,
    4068597835085199204,
    4835497584049603605,
]


def test_the_vocabulary_loads():
    assert load_vocabulary(GOLDEN / "vocab.txt")[:4] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


if __name__ == "__main__":
    lax = PackOptions(image_size=32, shards=2, max_skipped=1, overwrite=True)

    def add_vocabulary(building, files):
        words = learn_vocabulary(["a red disc", "a green disc", "the disc"], 30)
        save_vocabulary(words, building / "vocab.txt")

    print(pack(golden_source(), GOLDEN, lax, finish=add_vocabulary).text())
