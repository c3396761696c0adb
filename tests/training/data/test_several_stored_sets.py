"""Stored features of several sets: the examples of a mixture whose towers run, with its words."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfclip.evaluation.embedding.features.feature_cache import ImageFeatures, TextFeatures
from tfclip.evaluation.embedding.features.joined_features import join_images, join_texts
from tfclip.inputs import words
from tfclip.inputs.batches import caption_id, training_batches
from tfclip.inputs.input_shards import InputShard
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.text import WordPieceTokenizer
from tfclip.inputs.words import split_words
from tfclip.records import schema
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.reader import read_split
from tfclip.sources.sample import Sample, Source
from tfclip.training.data.feature_batches import feature_batches
from tfclip.training.data.training_sets import open_training_sets

SIZES = {"one": 5, "two": 3}
COLOURS = "red", "green", "blue"


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two packed sets of pictures whose left half is bright; texts name set, number and colour."""
    out = tmp_path_factory.mktemp("sets")
    picture, file = Image.new("RGB", (32, 32)), io.BytesIO()
    picture.paste((255, 255, 255), (0, 0, 16, 32))
    picture.save(file, "PNG")
    for name, size in SIZES.items():
        samples = [
            Sample(
                f"{name}/{at}",
                file.getvalue(),
                tuple(f"{name} {at} {colour}" for colour in COLOURS[: 1 + at % 3]),
            )
            for at in range(size)
        ]
        source = Source(name, {"train": size}, lambda split, samples=samples: iter(samples))
        pack(source, out / name, PackOptions(workers=1, shards=2))
    return open_training_sets([str(out / name) for name in SIZES], (1.0, 2.0))


def stored_features(one, first):
    """Features that say which picture, view and text they are, counted from `first`."""
    read = read_split(one.directory, one.split, features=(schema.ID, schema.CAPTION))
    records = list(read.as_numpy_iterator())
    texts = [text for record in records for text in record[schema.CAPTION]]
    rows = first + np.arange(len(records))
    image = np.stack([[[row, view] for view in (0, 1)] for row in rows]).astype(np.float32)
    starts = np.cumsum([0, *(len(record[schema.CAPTION]) for record in records)])
    ids = caption_id(tf.constant([*texts, b""])).numpy()
    text = ids.astype(np.float32)[:, None]
    return (
        ImageFeatures(image, np.array([record[schema.ID] for record in records])),
        TextFeatures(text, None, starts, ids),
        [(record[schema.ID], record[schema.CAPTION][0].split()[0].decode()) for record in records],
        [len(record[schema.CAPTION]) for record in records],
    )


@pytest.mark.parametrize("captions", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_batches_hold_the_features_of_the_same_examples(sets, monkeypatch, captions):
    monkeypatch.setattr(words, "LEAST_PICTURES", 1)
    monkeypatch.setattr(words, "LARGEST_SHARE", 1.0)
    chosen = split_words(*((one.directory, one.split) for one in sets.sets))
    assert {"one", "two", *COLOURS} == set(chosen.words)
    parts = [stored_features(sets.sets[0], 0), stored_features(sets.sets[1], SIZES["one"])]
    image, text = join_images([part[0] for part in parts]), join_texts([part[1] for part in parts])
    pictures = [picture for part in parts for picture in part[2]]
    counts = [count for part in parts for count in part[3]]

    tokenizer = WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"], 4)
    given = tokenizer, 16, SamplingOptions(views="2", captions=captions)
    options = {"batch_size": 8, "seed": 3, "start_step": 2, "words": chosen}

    def first(batches):
        return next(iter(batches.take(1).as_numpy_iterator()))

    def from_stored(**more):
        stored = {"image": image, "text": text}
        return first(feature_batches(sets.inputs, sets.counts, *given, **stored, **options, **more))

    expected, found = first(training_batches(sets.inputs, *given, **options)), from_stored()
    for name in ("image_id", "caption_id", "words"):
        np.testing.assert_array_equal(found[name], expected[name])
    rows, views = found["image_features"].astype(int).T
    is_mirrored = expected["image"][:, :, :8].mean((1, 2, 3)) < 128
    np.testing.assert_array_equal(views, is_mirrored)
    assert [pictures[row][0] for row in rows] == expected["image_id"].tolist()
    text_ids = found["text_features"].reshape(expected["caption_id"].shape)
    np.testing.assert_array_equal(text_ids, expected["caption_id"].astype(np.float32))
    # The words of a picture: its set, and as many colours as it has texts.
    for row, places in zip(rows, found["words"], strict=True):
        named = {chosen.words[place] for place in places if place >= 0}
        assert named == {pictures[row][1], *COLOURS[: counts[row]]}
    # Each of two workers reads its half.
    for name, half in from_stored(input_shard=InputShard(1, 2)).items():
        np.testing.assert_array_equal(half, found[name][4:])
