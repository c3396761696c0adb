"""Annotations with random damage end in a clear error or in rejected pictures."""

import os
import random

import pytest

from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, Sample
from tfclip.sources.shapes import draw_shapes

ANNOTATIONS = {
    "visual_genome": ["region_descriptions.json", "image_data.json"],
    "flickr8k": ["Flickr8k.token.txt", "Flickr_8k.devImages.txt"],
    "coco": ["annotations/captions_val2017.json"],
    "voc": ["VOCdevkit/VOC2007/Annotations/*.xml", "VOCdevkit/VOC2007/ImageSets/Main/val.txt"],
}
NASTY = [b'"', b"\\", b"{", b"]", b"\0", b"\xff", b"\xc3", b"-1", b"1e999", b"null", b"NaN", b"<"]
NASTY += [b"/", b"../", b"\t", b"\n", b",", b"&a;", b"<!DOCTYPE a [", b"9" * 5000, b"\\ud800", b""]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    out = tmp_path_factory.mktemp("fuzz") / "shapes"
    draw_shapes(
        out,
        visual_genome=11,
        flickr8k=(1, 3, 1),
        coco=(1, 2),
        voc=(1, 2, 1),
        image_size=64,
        workers=1,
    )
    return out


def damaged(rng: random.Random, content: bytes) -> bytes:
    for _ in range(rng.choice([1, 1, 2, 5])):
        at, length = rng.randrange(len(content) + 1), rng.choice([0, 1, 1, 3, 30])
        new = rng.choice([rng.choice(NASTY), rng.randbytes(1), content[at : at + 40]])
        content = content[:at] + new + content[at + length :]
    return content[: rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name, pattern", [(n, p) for n in ANNOTATIONS for p in ANNOTATIONS[n]])
def test_damage_is_a_clear_error_or_a_clean_skip(shapes, name, pattern, count):
    path = sorted((shapes / name).glob(pattern))[0]
    whole, outcomes = path.read_bytes(), set()
    try:
        for seed in range(count):
            path.write_bytes(damaged(random.Random(f"{name}/{pattern}/{seed}"), whole))
            try:
                source = open_source(name, shapes / name)
                for split in source.counts:
                    items = list(source.read(split))
                    assert len(items) == source.counts[split]
                    for item in items:
                        assert isinstance(item, Sample | Rejected)
                        outcomes.add(type(item).__name__)
                        if isinstance(item, Sample):
                            real = os.path.realpath(item.image)
                            assert real.startswith(os.path.realpath(shapes / name))
                            "".join([*item.captions, *(r.phrase for r in item.regions)]).encode()
            except (ValueError, OSError) as error:
                assert len(str(error).splitlines()) == 1 and len(str(error)) < 1000
                outcomes.add("error")
    finally:
        path.write_bytes(whole)
    assert outcomes >= {"Sample", "error"}
