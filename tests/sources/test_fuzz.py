"""Annotations with random damage end in a clear error or in rejected pictures."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, Sample
from tfclip.sources.shapes import draw_shapes

# Damaged inputs of each format in the slow tests: TFCLIP_MUTATIONS=2000 for a thorough run.
MUTATIONS = int(os.environ.get("TFCLIP_MUTATIONS", "100"))

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


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """Cut, overwrite, repeat or insert, at one to five places; now and then drop the end."""
    for _ in range(draw(st.sampled_from([1, 1, 2, 5]))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 1, 3, 30]))
        again = st.just(content[at : at + 40])
        new = draw(st.one_of(st.sampled_from(NASTY), st.binary(max_size=2), again))
        content = content[:at] + new + content[at + length :]
    if draw(st.integers(0, 9)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    return content


@pytest.mark.parametrize("count", [40, pytest.param(MUTATIONS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name, pattern", [(n, p) for n in ANNOTATIONS for p in ANNOTATIONS[n]])
def test_damage_is_a_clear_error_or_a_clean_skip(shapes, name, pattern, count):
    path = sorted((shapes / name).glob(pattern))[0]
    whole, outcomes = path.read_bytes(), set()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        outcomes.update(survives(name, shapes / name))

    settled = settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        settled(given(damaged(whole))(check))()
    finally:
        path.write_bytes(whole)
    assert outcomes >= {"Sample", "error"}


def survives(name: str, folder: Path) -> set[str]:
    """Read all of a data set; return what came of it."""
    outcomes = set()
    try:
        source = open_source(name, folder)
        for split in source.counts:
            items = list(source.read(split))
            assert len(items) == source.counts[split]
            for item in items:
                assert isinstance(item, Sample | Rejected)
                outcomes.add(type(item).__name__)
                if isinstance(item, Sample):
                    real = os.path.realpath(item.image)
                    assert real.startswith(os.path.realpath(folder))
                    "".join([*item.captions, *(r.phrase for r in item.regions)]).encode()
    except (ValueError, OSError) as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 1000
        outcomes.add("error")
    return outcomes
