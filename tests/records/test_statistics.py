"""Figures about a packed set, beside those counted by hand."""

import pytest

from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.statistics import report_lines, statistics
from tfclip.sources.sample import Region, Sample


@pytest.fixture(scope="module")
def packed(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("records") / "made"
    wide, tall = made.encoded(made.pixels(40, 20)), made.encoded(made.pixels(10, 30))
    train = [
        Sample("m/a", wide, ("A dog's bone.", "the dog runs")),
        Sample("m/b", tall, ("the dog runs", "The dog RUNS "), (Region("grass", 0, 0, 5, 5),)),
        Sample("m/c", wide, ("le chien",)),
    ]
    val = [Sample("m/d", wide, ("une fille à vélo",), split="val")]
    pack(made.source_of({"train": train, "val": val}), out, PackOptions(workers=1))
    return out


def test_figures_are_those_counted_by_hand(packed):
    figures = statistics(packed)
    assert (figures["images"], figures["captions"], figures["regions"]) == (4, 6, 1)
    assert figures["width"] == {"min": 10, "median": 40.0, "mean": 32.5, "p95": 40.0, "max": 40}
    assert figures["height"]["max"] == 30 and figures["bytes"]["min"] > 300
    assert figures["captions_per_image"]["mean"] == 1.5
    assert figures["regions_per_image"] == {
        "min": 0,
        "median": 0.0,
        "mean": 0.2,
        "p95": 0.8,
        "max": 1,
    }
    assert (figures["words"]["min"], figures["words"]["max"]) == (1, 4)
    assert figures["vocabulary"]["most"][:2] == [["the", 3], ["dog", 3]]
    # a dog's bone the dog runs grass le chien une fille à vélo
    assert figures["vocabulary"]["words"] == 13
    assert figures["vocabulary"]["once"] == 10
    assert figures["frequent_captions"] == [["the dog runs", 3]]
    assert (figures["duplicate_images"], figures["duplicate_captions"]) == (2, 2)
    assert figures["duplicates"] == [["m/a", "m/c", "m/d"]]


def test_one_split_alone(packed):
    figures = statistics(packed, "val")
    assert figures["images"] == 1 and figures["duplicates"] == []
    assert figures["frequent_captions"] == []
    with pytest.raises(ValueError, match="unknown split"):
        statistics(packed, "test")


def test_the_report_says_it(packed):
    lines = list(report_lines(statistics(packed)))
    assert lines[0] == "4 images, 6 captions, 1 regions"
    assert "width pixels: min 10, median 40.0, mean 32.5, p95 40.0, max 40" in lines
    assert any(line.startswith("13 distinct words, 10 seen once; the 3, dog 3") for line in lines)
    assert "     3 x the dog runs" in lines
    assert lines[-2:] == [
        "duplicates: 2 pictures, 2 texts",
        "  the same picture: m/a, m/c, m/d",
    ]


def test_labels_alone_have_no_texts(made, tmp_path):
    jpeg = made.encoded(made.pixels(40, 20))
    source = made.source_of({"train": [Sample("m/a", jpeg, labels=("wall",))]})
    pack(source, tmp_path / "out", PackOptions(workers=1))
    figures = statistics(tmp_path / "out")
    assert figures["words"] is None and figures["vocabulary"]["words"] == 0
    assert not any("words" in line for line in report_lines(figures))
