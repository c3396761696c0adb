"""Batches cut to their longest text: few lengths, nothing lost, the same embeddings."""

import numpy as np
import pytest
import tensorflow as tf

from tfclip.inputs.text_lengths import shortened, text_lengths
from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder

# A Mixer over tokens has weights for each place, and pads them to its context again itself.
OPTIONS = {
    "mixer-text": {"width": 16, "blocks": 1},
    "small-transformer": {"width": 16, "blocks": 1, "heads": 2},
    "clip-text": {"width": 16, "blocks": 1, "heads": 2},
    "bert": {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32},
}


@pytest.mark.parametrize(
    ("context", "lengths"), [(77, [24, 40, 64, 77]), (32, [8, 16, 24, 32]), (8, [8]), (5, [5])]
)
def test_there_are_few_lengths_and_the_last_is_the_context(context, lengths):
    assert text_lengths(context) == lengths


def batch_of(longest: int, context: int = 32) -> dict:
    rng = np.random.default_rng(longest)
    lengths = rng.integers(3, longest + 1, 6)
    lengths[2] = longest
    mask = (np.arange(context) < lengths[:, None]).astype("int32")
    return {
        "token_ids": rng.integers(5, 40, (6, context)).astype("int32") * mask,
        "text_mask": mask,
    }


@pytest.mark.parametrize(
    ("longest", "length"), [(3, 8), (8, 8), (9, 16), (16, 16), (25, 32), (32, 32)]
)
def test_a_batch_has_the_least_length_that_holds_its_texts(longest, length):
    batch = batch_of(longest)
    (cut,) = shortened(tf.data.Dataset.from_tensors(batch), 32).as_numpy_iterator()
    assert cut["token_ids"].shape == (6, length)
    assert cut["text_mask"].sum() == batch["text_mask"].sum()
    np.testing.assert_array_equal(cut["token_ids"], batch["token_ids"][:, :length])


def test_several_captions_to_a_picture_share_a_length():
    batch = {name: value.reshape(2, 3, 32) for name, value in batch_of(10).items()}
    (cut,) = shortened(tf.data.Dataset.from_tensors(batch), 32).as_numpy_iterator()
    assert cut["token_ids"].shape == (2, 3, 16)


def test_stored_features_stay_as_they_are():
    batches = tf.data.Dataset.from_tensors({"text_features": tf.zeros([2, 3])})
    assert shortened(batches, 32) is batches


@pytest.mark.parametrize("tower", OPTIONS)
def test_the_embeddings_are_those_of_the_whole_context(tower):
    model = DualEncoder(
        ModelConfig(
            image_tower="small-convolutional",
            image_options={"widths": (4, 8), "stem": 2},
            image_size=16,
            text_tower=tower,
            text_options=OPTIONS[tower],
            context_length=32,
            vocabulary_size=40,
            embed_dim=8,
        )
    )
    batch = batch_of(12)
    (cut,) = shortened(tf.data.Dataset.from_tensors(batch), 32)
    whole = model.encode_text(*map(tf.constant, (batch["token_ids"], batch["text_mask"])))
    np.testing.assert_allclose(
        model.encode_text(cut["token_ids"], cut["text_mask"]), whole, atol=1e-6
    )
