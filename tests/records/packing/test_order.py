"""The order of packed records: what is near in the source is apart in the records."""

import io
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tfclip.make_records import main
from tfclip.records import schema
from tfclip.records.options import IN_ORDER, SHUFFLED, PackOptions
from tfclip.records.packing.shuffled_items import shuffled_items
from tfclip.records.packing.writer import pack
from tfclip.records.reader import endless_shards, read_split, sample_split, split_files
from tfclip.sources.sample import Sample, Source

CLASSES, EACH = 50, 40


@pytest.fixture(scope="module")
def sorted_source():
    """50 classes of 40 pictures, one class after the other."""
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "JPEG")
    samples = [
        Sample(f"made/{c}/{n}", out.getvalue(), labels=(f"{c}",))
        for c in range(CLASSES)
        for n in range(EACH)
    ]
    names = tuple(map(str, range(CLASSES)))
    return Source("made", {"train": len(samples)}, lambda split: iter(samples), names)


@pytest.fixture(scope="module")
def packed(sorted_source, tmp_path_factory):
    root = tmp_path_factory.mktemp("order")
    for order in (SHUFFLED, IN_ORDER):
        pack(sorted_source, root / order, PackOptions(order=order, shards=10, workers=1))
    return root


def keys(directory):
    read = read_split(directory, "train", features=(schema.KEY,))
    return [record[schema.KEY].decode() for record in read.as_numpy_iterator()]


def test_all_items_come_once_in_an_order_of_the_seed(tmp_path):
    items = [f"item {n}" for n in range(1000)]
    drawn = list(shuffled_items(iter(items), (0, 1), tmp_path))
    assert drawn != items and sorted(drawn) == sorted(items)
    assert drawn == list(shuffled_items(items, (0, 1), tmp_path))
    assert drawn != list(shuffled_items(items, (1, 1), tmp_path))
    # Of a uniform permutation the places of neighbours correlate like 0 +- 1 / sqrt(n).
    places = np.argsort([int(item.split()[1]) for item in drawn])
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 4 / np.sqrt(len(items))
    assert not list(tmp_path.iterdir())


def test_the_records_are_the_same_in_another_order(packed):
    assert keys(packed / IN_ORDER) == [f"made/{c}/{n}" for c in range(CLASSES) for n in range(EACH)]
    assert sorted(keys(packed / SHUFFLED)) == sorted(keys(packed / IN_ORDER))
    manifest = json.loads((packed / SHUFFLED / "manifest.json").read_text())
    assert manifest["packing"]["order"] == SHUFFLED


def test_batches_of_sorted_data_hold_as_many_classes_as_uniform_draws(packed):
    batch = 64
    uniform = CLASSES * (1 - (1 - 1 / CLASSES) ** batch)
    found = {}
    for order in (SHUFFLED, IN_ORDER):
        read = endless_shards(
            split_files(packed / order, "train"),
            shuffle_seed=0,
            shuffle_block=64,
            features=(schema.LABEL,),
            then=lambda number, record: record[schema.LABEL][0],
        )
        batches = list(read.batch(batch).take(30).as_numpy_iterator())
        found[order] = np.mean([len(set(labels)) for labels in batches])
    assert found[SHUFFLED] > 0.97 * uniform > 1.2 * found[IN_ORDER]


def test_neither_workers_nor_a_stop_change_what_is_packed(sorted_source, packed, tmp_path):
    options = PackOptions(order=SHUFFLED, shards=10, workers=2)
    pack(sorted_source, tmp_path / "again", options)
    for file in split_files(packed / SHUFFLED, "train"):
        name = file.rpartition("/")[2]
        assert (tmp_path / "again" / name).read_bytes() == (packed / SHUFFLED / name).read_bytes()


def test_damaged_shards_of_both_orders_are_repaired(tmp_path, draw_classes):
    data = draw_classes(tmp_path / "data")
    for order in (SHUFFLED, IN_ORDER):
        out = tmp_path / order
        words = ["image_folder", "--data", data, "--out", out, "--shards", "2", "--workers", "1"]
        assert main([*map(str, words), "--order", order]) == 0
        if order == IN_ORDER:  # as a set of an earlier version, which named no order
            path = out / "manifest.json"
            manifest = json.loads(path.read_text())
            del manifest["packing"]["order"]
            path.write_text(json.dumps(manifest))
        shard = out / "train-00001-of-00002.tfrecord"
        sound = shard.read_bytes()
        shard.write_bytes(sound[:-5])
        assert main(["verify", str(out), "--repair", "--data", str(data)]) == 0
        assert shard.read_bytes() == sound
    shutil.rmtree(data)


@pytest.fixture
def draw_classes():
    def write(folder):
        for c in range(4):
            (folder / str(c)).mkdir(parents=True)
            for n in range(5):
                Image.new("RGB", (8, 8), (40 * c, 40 * n, 9)).save(folder / f"{c}/{n}.jpg")
        return folder

    return write


@pytest.mark.slow
def test_the_sample_of_inspect_is_uniform(packed):
    drawn = Counter(
        record[schema.KEY].decode().split("/")[1]
        for seed in range(30)
        for record in sample_split(packed / IN_ORDER, "train", 20, seed)
    )
    # 600 draws over 50 classes: 12 each, with a deviation of 3.4.
    assert len(drawn) == CLASSES and max(drawn.values()) < 12 + 5 * 3.5
    assert len(sample_split(packed / IN_ORDER, "train", 5000, 0)) == CLASSES * EACH
