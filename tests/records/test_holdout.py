"""Held-out parts: their sizes, what stays together, and that only seed and keys decide."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tfclip.records.holdout import hold_out
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions


def picture(seed, quality=90):
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def source(samples):
    return Source("made", {"train": len(samples)}, lambda split: iter(samples))


def split_of(held):
    return {item.key: split for split in held.counts for item in held.read(split)}


SAMPLES = [Sample(f"made/{n}", picture(n), ("x",)) for n in range(60)]
TENTHS = SourceOptions(val_fraction=0.1, test_fraction=0.2)


def test_sizes_splits_and_the_seed():
    held = hold_out(source(SAMPLES), TENTHS, 1)
    assert held.counts == {"train": 42, "val": 6, "test": 12}
    for split in held.counts:
        assert {item.split for item in held.read(split)} == {split}
    assert sorted(split_of(held)) == sorted(sample.key for sample in SAMPLES)
    other = hold_out(source(SAMPLES), replace(TENTHS, seed=1), 1)
    assert split_of(other) != split_of(held)
    assert split_of(hold_out(source(SAMPLES[::-1]), TENTHS, 2)) == split_of(held)


def test_near_duplicates_and_groups_stay_together():
    samples = [
        # Ten scenes of three pictures each, and every third one twice, in another quality.
        Sample(f"made/{n}", picture(n), ("x",), group=f"scene {n // 3}" if n < 30 else "")
        for n in range(60)
    ]
    samples += [Sample(f"made/copy{n}", picture(n, 60), ("x",)) for n in range(0, 60, 3)]
    for seed in range(5):
        splits = split_of(hold_out(source(samples), replace(TENTHS, seed=seed), 1))
        for n in range(0, 60, 3):
            assert splits[f"made/copy{n}"] == splits[f"made/{n}"]
        for n in range(30):
            assert splits[f"made/{n}"] == splits[f"made/{n - n % 3}"]
        assert set(splits.values()) == {"train", "val", "test"}


def test_rejects_stay_with_the_training_pictures():
    samples = [*SAMPLES[:20], Rejected("made/bad", "no such file", "train")]
    held = hold_out(source(samples), TENTHS, 1)
    assert held.counts == {"train": 15, "val": 2, "test": 4}
    assert [item.key for item in held.read("train") if isinstance(item, Rejected)] == ["made/bad"]


def test_sources_with_splits_and_too_few_pictures_are_refused():
    with pytest.raises(ValueError, match="has the splits train, val"):
        hold_out(Source("made", {"train": 1, "val": 1}, lambda split: iter(())), TENTHS, 1)
    one_group = [replace(sample, group="all") for sample in SAMPLES]
    with pytest.raises(ValueError, match="60 pictures in 1 groups, too few for a split val"):
        hold_out(source(one_group), TENTHS, 1)
    assert hold_out(source(SAMPLES), SourceOptions(), 1).counts == {"train": 60}
