import dataclasses
import subprocess
import sys

import pytest

from tfclip.sources.registry import COMMON_OPTIONS, SOURCE_OPTIONS, SOURCES, TFDS, open_source
from tfclip.sources.sample import Sample, SourceOptions
from tfclip.sources.shapes import CLASS_NAMES, draw_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "shapes"
    draw_shapes(
        out,
        visual_genome=11,
        flickr8k=(3, 2, 1),
        coco=(2, 1),
        voc=(4, 3, 2),
        image_size=64,
        workers=1,
    )
    return out


@pytest.mark.parametrize(
    "name, counts",
    [
        ("visual_genome", {"train": 10, "val": 1}),
        ("flickr8k", {"train": 3, "dev": 2, "test": 1}),
        ("coco", {"train2017": 2, "val2017": 1}),
        ("voc", {"train": 4, "val": 3, "test": 2, "trainval": 7}),
    ],
)
def test_drawn_shapes_are_read_like_the_real_sets(shapes, name, counts):
    source = open_source(name, shapes / name)
    assert source.name == name and source.counts == counts
    samples = [sample for split in source.counts for sample in source.read(split)]
    assert len(samples) == sum(counts.values())
    for sample in samples:
        assert isinstance(sample, Sample) and sample.key.startswith(f"{name}/")
        assert sample.image.is_file() and not sample.dropped
        assert bool(sample.regions) == (name == "visual_genome")
        assert bool(sample.captions) == (name in ("flickr8k", "coco"))
    assert source.class_names == (tuple(sorted(CLASS_NAMES)) if name == "voc" else ())
    assert any(sample.labels for sample in samples) == (name == "voc")


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(
        ValueError, match="unknown source 'flicker'; known, nearest first: flickr8k"
    ):
        open_source("flicker", tmp_path)


@pytest.mark.parametrize("name", ["coco", "flickr8k", "visual_genome", "voc"])
def test_an_unknown_split_lists_the_known_ones(shapes, name):
    with pytest.raises(ValueError, match="unknown split 'dve'; known, nearest first: "):
        open_source(name, shapes / name, SourceOptions(splits=("dve",)))


@pytest.mark.parametrize("options", [{"phrases_as_captions": True}, {"id_lists": {"train": "x"}}])
def test_an_option_of_another_source_is_refused(shapes, options):
    with pytest.raises(
        ValueError,
        match=f"coco takes no {next(iter(options))}; sources that take it: visual_genome",
    ):
        open_source("coco", shapes / "coco", SourceOptions(**options))


def test_every_option_is_taken_by_some_source():
    options = {field.name for field in dataclasses.fields(SourceOptions)}
    assert {name for takes in SOURCE_OPTIONS.values() for name in takes} == options - set(
        COMMON_OPTIONS
    )
    assert set(SOURCE_OPTIONS) <= {*SOURCES, TFDS}


def test_sources_need_neither_tensorflow_nor_keras():
    code = "import sys, tfclip.sources.registry; print([m for m in sys.modules if m in sys.argv])"
    command = [sys.executable, "-c", code, "tensorflow", "keras", "PIL"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
