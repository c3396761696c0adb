"""The real sets pack completely: nothing lost, nothing changed. Annotations are read here anew."""

import hashlib
import json
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import tensorflow as tf

from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.reader import read_split
from tfclip.records.verify import verify
from tfclip.sources.registry import open_source

DATA = Path(os.environ.get("TFCLIP_DATA", "/nonexistent"))

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs TFCLIP_DATA")


def packed(name: str, data: Path, tmp_path_factory, **options):
    out = tmp_path_factory.mktemp("records") / name
    return out, pack(open_source(name, data), out, PackOptions(**options))


def by_hand(made, directory: Path, manifest):
    """Yield (split, features) of every record, without tf.data."""
    for shard in manifest.shards:
        for record in made.records_of(directory / shard.file, check=False):
            features = tf.train.Example.FromString(record).features.feature
            yield (
                shard.split,
                {name: feature.bytes_list.value for name, feature in features.items()},
            )


@pytest.mark.slow
def test_flickr8k(made, tmp_path_factory):
    folder = DATA / "flickr8k"
    out, manifest = packed("flickr8k", folder, tmp_path_factory)
    counts = list(manifest.splits.values())
    assert sum(c.images for c in counts) == 7000
    assert sum(c.captions for c in counts) == 35_000
    assert sum(c.skipped + c.dropped for c in counts) == 0
    expected = defaultdict(list)
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, caption = line.split("\t")
        expected[name.split("#")[0]].append(caption.strip())
    found = Counter()
    for split, record in by_hand(made, out, manifest):
        name = record["image/key"][0].decode().removeprefix("flickr8k/")
        name = name if name.endswith(".jpg") else f"{name}.jpg"
        original = (folder / "Flicker8k_Dataset" / name).read_bytes()
        assert (
            hashlib.sha256(record["image/encoded"][0]).digest() == hashlib.sha256(original).digest()
        )
        assert [caption.decode() for caption in record["image/caption"]] == expected[name]
        found[split] += 1
    lists = {"train": "train", "dev": "dev"}
    for split, listed in lists.items():
        names = (folder / f"Flickr_8k.{listed}Images.txt").read_text().split()
        assert found[split] == len(names)
        features = ["image/key", "image/id", "image/caption"]
        read = list(read_split(out, split, features=features).as_numpy_iterator())
        assert len({int(record["image/id"]) for record in read}) == len(names)
        assert sum(len(record["image/caption"]) for record in read) == 5 * len(names)
    assert verify(out) == []


def test_coco(made, tmp_path_factory):
    out, manifest = packed("coco", DATA / "coco", tmp_path_factory)
    assert sum(c.images for c in manifest.splits.values()) == 461
    assert sum(c.captions for c in manifest.splits.values()) == 2306
    expected = defaultdict(list)
    for path in (DATA / "coco/annotations").glob("captions_*.json"):
        for annotation in json.loads(path.read_text())["annotations"]:
            expected[annotation["image_id"]].append(annotation["caption"].strip())
    for _, record in by_hand(made, out, manifest):
        number = int(record["image/key"][0].decode().removeprefix("coco/"))
        captions = [caption.decode() for caption in record["image/caption"]]
        assert sorted(captions) == sorted(expected.pop(number))
    assert not expected


def test_voc(made, tmp_path_factory):
    folder = DATA / "voc/VOCdevkit/VOC2012"
    out, manifest = packed("voc", folder, tmp_path_factory, splits=("trainval",), image_size=256)
    assert manifest.splits["trainval"].images == 471
    seen = 0
    for _, record in by_hand(made, out, manifest):
        name = record["image/key"][0].decode().removeprefix("voc/")
        objects = ElementTree.parse(folder / "Annotations" / f"{name}.xml").findall("object")
        present = {o.findtext("name") for o in objects if o.findtext("difficult", "0") != "1"}
        difficult = {o.findtext("name") for o in objects} - present
        assert {label.decode() for label in record.get("image/object/class/text", ())} == present
        assert {x.decode() for x in record.get("image/object/difficult/text", ())} == difficult
        seen += 1
    assert seen == 471
    assert verify(out) == []
    for record in read_split(out, "trainval").take(20).as_numpy_iterator():
        height, width, _ = tf.io.decode_jpeg(record["image/encoded"]).shape
        assert (height, width) == (record["image/height"], record["image/width"])
        assert min(height, width) <= 256
