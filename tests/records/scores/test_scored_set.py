"""A set with scores: the records of before, one more feature, and the worst captions gone."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.options import PackOptions
from tfclip.records.packing.repair import pack_options
from tfclip.records.packing.writer import pack
from tfclip.records.reader import read_split
from tfclip.records.scores.caption_scores import CaptionScores
from tfclip.records.scores.folds import HELD_OUT, make_folds
from tfclip.records.scores.scored_set import stored_scores, worst_of, write_scored
from tfclip.records.scores.worst_pairs import draw_worst
from tfclip.records.verify import verify
from tfclip.sources.sample import Sample


@pytest.fixture
def pairs(made, tmp_path):
    """Three pictures: two captions; one caption; one caption and a label."""
    told = [("a dog", "a cat"), ("a car",), ("a wall",)]
    samples = [
        Sample(f"made/{at}", made.encoded(made.pixels(30 + at, 20)), captions)
        for at, captions in enumerate(told)
    ]
    labelled = Sample("made/2", samples[2].image, told[2], labels=("wall",))
    source = made.source_of({"train": [*samples[:2], labelled], "val": made.samples(2, "val")})
    pack(source, tmp_path / "pairs", PackOptions(workers=1, shards=2))
    return tmp_path / "pairs"


SCORES = np.array([0.5, -0.25, 0.125, 0.0], np.float32)
NO_AGREEMENT = np.full(4, np.nan, np.float32)


def read(directory, split="train"):
    features = (*schema.FEATURES, schema.SCORE)
    return list(read_split(directory, split, features=features).as_numpy_iterator())


def write(pairs, out, drop, **options):
    described = {"run": "runs/x"}
    scores = {"train": CaptionScores(SCORES, NO_AGREEMENT)}
    return write_scored(pairs, out, scores, {"train": np.array(drop, bool)}, described, **options)


def test_records_keep_all_and_gain_their_scores(pairs, tmp_path):
    written = write(pairs, tmp_path / "out", [0, 0, 0, 0])
    assert verify(tmp_path / "out") == []
    before, after = read(pairs), read(tmp_path / "out")
    for old, new in zip(before, after, strict=True):
        assert len(old[schema.SCORE]) == 0
        for name in schema.FEATURES:
            np.testing.assert_array_equal(old[name], new[name])
    assert np.concatenate([one[schema.SCORE] for one in after]).tolist() == SCORES.tolist()
    assert written.dropped == {"train": 0} and written.pictures == {"train": 0}
    old, new = load_manifest(pairs), load_manifest(tmp_path / "out")
    assert (new.splits, new.caption_words) == (old.splits, old.caption_words)
    assert new.packing["scored"] == {"run": "runs/x"}
    assert read(tmp_path / "out", "val")[0][schema.SCORE].size == 0
    assert new.shards_of("val") == old.shards_of("val")


def test_without_scores_equal_bytes_are_written(pairs, tmp_path):
    write(pairs, tmp_path / "out", [0, 0, 0, 0])
    (shard, *_) = load_manifest(tmp_path / "out").shards_of("train")
    rows = tf.data.TFRecordDataset(str(tmp_path / "out" / shard.file)).as_numpy_iterator()
    old = tf.data.TFRecordDataset(str(pairs / shard.file)).as_numpy_iterator()
    for one, other in zip(rows, old, strict=True):
        example = tf.train.Example.FromString(one)
        del example.features.feature[schema.SCORE]
        assert example.SerializeToString(deterministic=True) == other


def test_the_worst_go_and_pictures_without_any_other(pairs, tmp_path):
    written = write(pairs, tmp_path / "out", [0, 1, 1, 1])
    assert verify(tmp_path / "out") == []
    after = read(tmp_path / "out")
    assert [one[schema.KEY] for one in after] == [b"made/0", b"made/2"]  # the last has a label
    assert [one[schema.CAPTION].tolist() for one in after] == [[b"a dog"], []]
    assert [one[schema.SCORE].tolist() for one in after] == [[0.5], []]
    assert written.dropped == {"train": 3} and written.pictures == {"train": 1}
    counts = load_manifest(tmp_path / "out").splits["train"]
    assert (counts.images, counts.captions, counts.dropped) == (2, 1, 3)
    lines = [json.loads(one) for one in (tmp_path / "out/left_out.jsonl").read_text().splitlines()]
    assert [one["key"] for one in lines] == ["made/0", "made/1", "made/1", "made/2"]
    assert (
        "cosine -0.2500 with the picture: a cat" in lines[0]["reason"]
        and "no caption is left" in lines[2]["reason"]
    )


def test_agreements_are_kept_where_there_are_some(pairs, tmp_path):
    agreements = np.array([0.25, 0.75, np.nan, np.nan], np.float32)
    scores = {"train": CaptionScores(SCORES, agreements)}
    drop = {"train": np.array([1, 0, 0, 0], bool)}
    write_scored(pairs, tmp_path / "out", scores, drop, {})
    assert verify(tmp_path / "out") == []
    features = (schema.CAPTION, *schema.ADDED)
    after = list(read_split(tmp_path / "out", "train", features=features).as_numpy_iterator())
    assert [one[schema.AGREEMENT].tolist() for one in after] == [[0.75], [], []]
    (line,) = (tmp_path / "out/left_out.jsonl").read_text().splitlines()
    assert "cosine 0.5000 with the picture, 0.2500 with its other captions: a dog" in line
    stored = stored_scores(tmp_path / "out", "train")
    np.testing.assert_array_equal(stored.cosines, SCORES[1:])
    np.testing.assert_array_equal(stored.agreements, agreements[1:])


def test_nothing_wrong_is_written(pairs, tmp_path):
    for scores in (SCORES[:3], np.append(SCORES, 0)):
        with pytest.raises(ValueError, match="scores"):
            given = {"train": CaptionScores(scores, np.full(len(scores), np.nan))}
            write_scored(pairs, tmp_path / "x", given, {"train": scores > 2}, {}, overwrite=False)
    with pytest.raises(FileExistsError, match="--overwrite"):
        write(pairs, pairs, [0, 0, 0, 0])
    assert not (tmp_path / "x").exists()
    write(pairs, tmp_path / "out", [0, 0, 0, 0])
    write(pairs, tmp_path / "out", [0, 1, 0, 0], overwrite=True)
    assert load_manifest(tmp_path / "out").splits["train"].captions == 3
    with pytest.raises(ValueError, match="made by `make_records score`"):
        pack_options(load_manifest(tmp_path / "out"), 1)


def test_verify_compares_scores_with_captions(pairs, tmp_path):
    write(pairs, tmp_path / "out", [0, 0, 0, 0])
    shard = load_manifest(tmp_path / "out").shards_of("train")[1]
    path = str(tmp_path / "out" / shard.file)
    rows = [
        tf.train.Example.FromString(r) for r in tf.data.TFRecordDataset(path).as_numpy_iterator()
    ]
    rows[0].features.feature[schema.SCORE].float_list.value.extend([2.0])
    with tf.io.TFRecordWriter(path) as writer:
        for row in rows:
            writer.write(row.SerializeToString())
    told = " ".join(verify(tmp_path / "out"))
    assert "2 scores of 1 captions" in told and "a score that is no cosine" in told


def test_the_worst_share_is_exact():
    rng = np.random.default_rng(0)
    scores = {"a": rng.choice([0.1, 0.2, 0.3], 50).astype(np.float32), "b": rng.normal(size=7)}
    drop = worst_of(scores, 0.3)
    assert drop["a"].sum() == 15 and drop["b"].sum() == 2
    for name, listed in scores.items():
        assert listed[drop[name]].max() <= listed[~drop[name]].min()
    assert not worst_of(scores, 0.0)["a"].any()


def test_worst_pairs_are_drawn_alone(pairs, tmp_path):
    assert draw_worst(pairs, {"train": SCORES}, tmp_path / "worst.png", 3) == 3
    assert (tmp_path / "worst.png").stat().st_size > 1000


def test_folds_are_the_shards_by_turns(packed, tmp_path):
    folds = make_folds(packed, "train", 2, tmp_path)
    assert [fold.shards for fold in folds] == [(0, 2, 4), (1, 3)]
    every = [one[schema.KEY] for one in read_split(packed, "train").as_numpy_iterator()]
    for fold in folds:
        keys = {
            split: [
                one[schema.KEY] for one in read_split(fold.directory, split).as_numpy_iterator()
            ]
            for split in ("train", HELD_OUT)
        }
        assert sorted(keys["train"] + keys[HELD_OUT]) == sorted(every)
        counts = load_manifest(fold.directory).splits
        assert {name: one.images for name, one in counts.items()} == {
            name: len(listed) for name, listed in keys.items()
        }
        assert verify(fold.directory) == []
        part = load_manifest(fold.directory).packing["part_of"]
        rows = [at for start, end in part["rows"][HELD_OUT] for at in range(start, end)]
        assert [every[at] for at in rows] == keys[HELD_OUT]
    with pytest.raises(ValueError, match="5 shards, fewer than --folds 6; .* --shards 6"):
        make_folds(packed, "train", 6, tmp_path / "more")
