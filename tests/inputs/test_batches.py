"""Training batches: what they hold, that (seed, step) decides them, and how examples are drawn."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfclip.inputs.batches import caption_id, training_batches, validation_batches
from tfclip.inputs.examples import sample_example, several_of, view_of
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.text import WordPieceTokenizer
from tfclip.records import schema
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.reader import read_shards, split_files
from tfclip.sources.sample import Region, Sample, Source

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "left", "right", "a"]
SIZE = 16


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Eleven pictures, left half red, right half green, with a region and a caption for each."""
    folder = tmp_path_factory.mktemp("halves")
    samples = []
    for index in range(11):
        pixels = np.zeros((32, 48, 3), "uint8")
        pixels[:, :24, 0] = pixels[:, 24:, 1] = 200 + index
        Image.fromarray(pixels).save(folder / f"{index}.png")
        samples.append(
            Sample(
                key=f"halves/{index}",
                image=folder / f"{index}.png",
                captions=(f"a left right {index}",),
                regions=(Region("red", 0, 0, 24, 32), Region("green", 24, 0, 24, 32)),
            )
        )
    source = Source("halves", {"train": len(samples)}, lambda split: iter(samples))
    out: Path = folder / "records"
    pack(source, out, PackOptions(shards=3, workers=1))
    return split_files(out, "train")


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer(VOCABULARY, 6)


def taken(dataset: tf.data.Dataset, count: int) -> list[dict]:
    return list(dataset.take(count).as_numpy_iterator())


def test_shapes_and_types(files, tokenizer):
    (batch,) = taken(
        training_batches(files, tokenizer, SIZE, SamplingOptions(), batch_size=4, seed=0), 1
    )
    found = {name: (value.shape, str(value.dtype)) for name, value in batch.items()}
    assert found == {
        "image": ((4, SIZE, SIZE, 3), "uint8"),
        "token_ids": ((4, 6), "int32"),
        "text_mask": ((4, 6), "int32"),
        "image_id": ((4,), "int64"),
        "caption_id": ((4,), "int64"),
    }


def test_seed_and_step_decide_the_batch(files, tokenizer):
    sampling = SamplingOptions(
        regions="mix", region_share=0.5, region_margin=1.0, crop_scale=(0.5, 1.0), flip=True
    )

    def batches(**options):
        return training_batches(files, tokenizer, SIZE, sampling, batch_size=4, **options)

    # Eleven records and batches of four: the seventh batch lies in the third epoch.
    whole = taken(batches(seed=3), 7)
    again = taken(batches(seed=3, start_step=4), 3)
    for expected, found in zip(whole[4:], again, strict=True):
        for name in expected:
            np.testing.assert_array_equal(expected[name], found[name])
    other = taken(batches(seed=4), 1)[0]
    assert not np.array_equal(whole[0]["image"], other["image"])


def test_an_epoch_holds_every_record_once(files, tokenizer):
    batches = training_batches(files, tokenizer, SIZE, SamplingOptions(), batch_size=11, seed=0)
    first, second = taken(batches, 2)
    assert len(set(first["image_id"])) == 11
    assert set(first["image_id"]) == set(second["image_id"])
    assert list(first["image_id"]) != list(second["image_id"])


def test_a_region_shows_its_phrase(files):
    record = next(iter(read_shards(files)))
    sampling = SamplingOptions(regions="crop", region_share=1.0)
    seen = set()
    for number in range(20):
        example = sample_example(record, tf.constant([0, number]), SIZE, sampling)
        phrase = example["caption"].numpy()
        mean = tf.reduce_mean(tf.cast(example["image"], tf.float32), axis=(0, 1)).numpy()
        assert np.argmax(mean) == {b"red": 0, b"green": 1}[phrase]
        assert np.sort(mean)[1] < 10, "a cut without margin shows nothing of the other half"
        assert int(example["image_id"]) != int(record[schema.ID])
        seen.add((phrase, int(example["image_id"])))
    assert len(seen) == 2, "each region has an id of its own"


def test_a_whole_picture_keeps_its_id_and_takes_any_of_its_texts(files):
    record = next(iter(read_shards(files)))
    texts = set()
    for number in range(40):
        example = sample_example(record, tf.constant([0, number]), SIZE, SamplingOptions())
        assert int(example["image_id"]) == int(record[schema.ID])
        texts.add(example["caption"].numpy())
    assert texts == {*record[schema.CAPTION].numpy(), b"red", b"green"}


def test_validation_is_the_same_each_time_and_of_whole_batches(files, tokenizer):
    batches = validation_batches(files, tokenizer, SIZE, batch_size=4)
    once, again = list(batches.as_numpy_iterator()), list(batches.as_numpy_iterator())
    assert len(once) == 2
    for first, second in zip(once, again, strict=True):
        np.testing.assert_array_equal(first["image"], second["image"])
        np.testing.assert_array_equal(first["token_ids"], second["token_ids"])


def test_captions_that_say_the_same_have_one_id():
    same = caption_id(tf.constant(["A red dog.", " a red dog", "a RED dog . "]))
    assert len(set(same.numpy())) == 1
    assert int(caption_id(tf.constant(["a red cat"]))[0]) != int(same[0])


def drawn(files, sampling, seeds=range(12)):
    """One example of the first record for each seed."""
    record = next(iter(read_shards(files)))
    return [sample_example(record, tf.constant([0, seed]), SIZE, sampling) for seed in seeds]


def test_two_phrases_become_one_text(files):
    texts = {example["caption"].numpy() for example in drawn(files, SamplingOptions(phrases=2))}
    assert texts == {b"red and green", b"green and red"}


def test_several_captions_are_different_while_there_are_enough(files):
    own = {b"red", b"green", b"a left right 0"}
    for example in drawn(files, SamplingOptions(captions=3)):
        assert set(example["caption"].numpy()) == own
    for example in drawn(files, SamplingOptions(captions=5)):
        found = example["caption"].numpy().tolist()
        assert len(found) == 5 and set(found) == own


def test_draws_by_number_are_even_and_the_same_for_a_batch():
    numbers = np.arange(8000)
    views = view_of(3, numbers, 4).numpy()
    assert np.abs(np.bincount(views, minlength=4) / 8000 - 0.25).max() < 0.02
    firsts = several_of(3, numbers, np.full(8000, 5), 2).numpy()
    assert np.abs(np.bincount(firsts[:, 0], minlength=5) / 8000 - 0.2).max() < 0.02
    np.testing.assert_array_equal((firsts[:, 0] + 1) % 5, firsts[:, 1])
    assert abs(np.corrcoef(views, firsts[:, 0])[0, 1]) < 0.05
    assert [int(view_of(3, number, 4)) for number in range(20)] == views[:20].tolist()
    assert (view_of(4, numbers, 4).numpy() != views).mean() > 0.5


def test_captions_of_one_picture_stand_on_an_axis_of_their_own(files, tokenizer):
    sampling = SamplingOptions(captions=2)
    (batch,) = taken(training_batches(files, tokenizer, SIZE, sampling, batch_size=4, seed=0), 1)
    assert batch["token_ids"].shape == batch["text_mask"].shape == (4, 2, 6)
    assert batch["caption_id"].shape == (4, 2)
    assert batch["image"].shape == (4, SIZE, SIZE, 3)


def test_views_are_drawn_and_stay_the_same_for_a_picture(files):
    examples = drawn(files, SamplingOptions(views="4"), range(40))
    seen = {example["image"].numpy().tobytes() for example in examples}
    assert len(seen) == 4
    whole = drawn(files, SamplingOptions(), [0])[0]["image"].numpy()
    assert whole.tobytes() in seen and whole[:, ::-1].tobytes() in seen
