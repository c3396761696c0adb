"""Examples of several packed sets: drawn by weight, by seed and number alone."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfclip.inputs.batches import training_batches
from tfclip.inputs.input_shards import InputShard
from tfclip.inputs.mixture import Mixture
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.text import WordPieceTokenizer
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.reader import split_files
from tfclip.sources.sample import Sample, Source

SIZES = {"a": 5, "b": 11, "c": 3}


def hashed(seed: int, number: int, stream: int) -> int:
    """SplitMix64 in plain integers."""
    word = 2**64 - 1
    mixed = (number * 0x9E3779B97F4A7C15 + seed * 0xD1342543DE82EF95 + stream) & word
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = ((mixed ^ (mixed >> shift)) * factor) & word
    return (mixed ^ (mixed >> 31)) >> 1


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Three packed sets, whose pictures have a brightness of their own set's range."""
    out = tmp_path_factory.mktemp("sets")
    found = []
    for which, (name, size) in enumerate(SIZES.items()):
        samples = []
        for at in range(size):
            file = io.BytesIO()
            grey = 80 * which + 5 * at
            Image.new("RGB", (16, 16), (grey, grey, grey)).save(file, "PNG")
            samples.append(Sample(f"{name}/{at}", file.getvalue(), (f"{name} {at}",)))
        source = Source(name, {"train": size}, lambda split, samples=samples: iter(samples))
        pack(source, out / name, PackOptions(workers=1, shards=2))
        found.append(tuple(split_files(out / name, "train")))
    return tuple(found)


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abc", *"0123456789"], 6)


def test_draws_are_as_frequent_as_their_weights_and_counted_without_drawing():
    mixture = Mixture((("x",), ("y",), ("z",)), (3.0, 0.5, 1.5), (9, 9, 9))
    drawn = mixture.set_of(7, tf.range(50_000, dtype=tf.int64)).numpy()
    shares = np.bincount(drawn) / 50_000
    np.testing.assert_allclose(shares, [0.6, 0.1, 0.3], atol=0.01)
    limits = [0.6 * 2**62, 0.7 * 2**62]
    for number in range(300):
        value = hashed(7, number, 2) >> 1
        assert drawn[number] == sum(value >= limit for limit in limits)
    assert mixture.counts(7, 50_000) == np.bincount(drawn).tolist()
    assert mixture.counts(7, 0) == [0, 0, 0]
    assert (mixture.set_of(8, tf.range(1000, dtype=tf.int64)).numpy() != drawn[:1000]).any()


def test_a_batch_depends_on_seed_and_step_alone(sets, tokenizer):
    def batches(count, **options):
        mixture = Mixture(sets, (1.0, 1.0, 2.0), tuple(SIZES.values()))
        sampling = SamplingOptions(crop_scale=(0.5, 1.0))
        read = training_batches(mixture, tokenizer, 16, sampling, batch_size=8, **options)
        return list(read.take(count).as_numpy_iterator())

    whole = batches(7, seed=3)
    for expected, found in zip(whole[5:], batches(2, seed=3, start_step=5), strict=True):
        for name in expected:
            np.testing.assert_array_equal(expected[name], found[name])
    assert not np.array_equal(batches(1, seed=4)[0]["image_id"], whole[0]["image_id"])


def test_each_worker_reads_its_rows_of_the_same_batches(sets, tokenizer):
    def batches(**options):
        mixture = Mixture(sets, (1.0, 1.0, 2.0), tuple(SIZES.values()))
        sampling = SamplingOptions(crop_scale=(0.5, 1.0))
        given = {"batch_size": 8, "seed": 3, "start_step": 2}
        read = training_batches(mixture, tokenizer, 16, sampling, **given, **options)
        return list(read.take(3).as_numpy_iterator())

    parts = [batches(input_shard=InputShard(index, 2)) for index in (0, 1)]
    for whole, first, second in zip(batches(), *parts, strict=True):
        for name, column in whole.items():
            np.testing.assert_array_equal(column, np.concatenate([first[name], second[name]]))


def test_a_worker_decodes_only_its_own_rows(sets, tokenizer, tmp_path):
    broken = tmp_path / "broken.tfrecord"
    (record,) = tf.data.TFRecordDataset(sets[0][0]).take(1).as_numpy_iterator()
    example = tf.train.Example.FromString(record)
    example.features.feature["image/encoded"].bytes_list.value[0] = b"no picture"
    with tf.io.TFRecordWriter(str(broken)) as writer:
        writer.write(example.SerializeToString())
    mixture = Mixture((sets[0], (str(broken),)), (7.0, 1.0), (SIZES["a"], 1))
    numbers = tf.range(8, dtype=tf.int64)
    rows = {seed: np.flatnonzero(mixture.set_of(seed, numbers) == 1) for seed in range(99)}
    seed = next(seed for seed, found in rows.items() if len(found) and found.max() < 4)

    def first_batch(index):
        options = {"batch_size": 8, "seed": seed, "input_shard": InputShard(index, 2)}
        read = training_batches(mixture, tokenizer, 16, SamplingOptions(), **options)
        return next(iter(read))

    # The second worker passes by the broken picture, and the first one meets it.
    assert len(first_batch(1)["image"]) == 4
    with pytest.raises(tf.errors.InvalidArgumentError):
        first_batch(0)


def test_every_set_goes_through_its_pictures_at_its_own_pace(sets, tokenizer):
    mixture = Mixture(sets, (1.0, 1.0, 2.0), tuple(SIZES.values()))
    read = training_batches(mixture, tokenizer, 16, SamplingOptions(), batch_size=40, seed=0)
    (batch,) = read.take(1).as_numpy_iterator()
    brightness = batch["image"].mean(axis=(1, 2, 3)).round().astype(int)
    which, picture = brightness // 80, brightness % 80 // 5
    assert np.bincount(which, minlength=3).tolist() == mixture.counts(0, 40)
    for at, size in enumerate(SIZES.values()):
        mine = picture[which == at]
        for start in range(0, len(mine) - size + 1, size):
            assert sorted(mine[start : start + size]) == list(range(size)), "one whole pass"
    # A caption comes with its picture: [CLS], and a, b or c.
    np.testing.assert_array_equal(batch["token_ids"][:, 1] - 4, which)


def test_one_set_of_a_mixture_may_be_shuffled_unlike_another():
    mixture = Mixture((("x",), ("y",)), (1.0, 1.0), (9, 9))
    assert mixture.seed_of(0, 0) != mixture.seed_of(0, 1) != mixture.seed_of(1, 1)
    assert 0 <= mixture.seed_of(0, 1) < 2**31
