"""The shares of a batch together are the batch, whatever their number."""

import numpy as np
import pytest

from tfclip.inputs.batches import training_batches
from tfclip.inputs.input_shards import InputShard
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.text import WordPieceTokenizer
from tfclip.records.reader import split_files

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "circle"]


@pytest.mark.parametrize(("count", "start_step"), [(2, 1), (3, 0)])
def test_machines_make_the_rows_of_the_same_batches(training_records, count, start_step):
    files = split_files(training_records, "train")
    tokenizer = WordPieceTokenizer(VOCABULARY, 8)
    sampling = SamplingOptions(
        regions="crop", region_share=0.5, region_margin=0.2, crop_scale=(0.5, 1.0), flip=True
    )

    def first(share):
        # More batches than an epoch has, from the middle of one.
        batches = training_batches(
            files,
            tokenizer,
            16,
            sampling,
            batch_size=6,
            seed=3,
            start_step=start_step,
            input_shard=share,
        )
        return list(batches.take(5).as_numpy_iterator())

    whole = first(InputShard())
    shares = [first(InputShard(index, count)) for index in range(count)]
    for batch, *parts in zip(whole, *shares, strict=True):
        for name, column in batch.items():
            joined = np.concatenate([part[name] for part in parts])
            np.testing.assert_array_equal(joined, column, err_msg=name)


def test_the_share_of_a_batch_that_was_made_as_a_whole(training_records):
    files = split_files(training_records, "train")
    whole = training_batches(
        files, WordPieceTokenizer(VOCABULARY, 8), 16, SamplingOptions(), batch_size=4, seed=0
    )
    (batch,), (half,) = whole.take(1), InputShard(1, 2).of(whole).take(1)
    assert half["image"].shape == (2, 16, 16, 3)
    for name, column in half.items():
        np.testing.assert_array_equal(column, batch[name][2:], err_msg=name)
