"""Micro-batches give the gradients of the whole batch, and the same dropout in both passes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.layers.dropout_seeds import seed_dropout
from tfclip.models.objective.tagging_loss import TaggingLoss


def encoder(loss="softmax", precision="float32", dropout=0.0, heads="linear", **options):
    keras.utils.set_random_seed(3)
    model = DualEncoder(
        ModelConfig(
            image_tower="vit-b32",
            image_options={
                "width": 16,
                "blocks": 1,
                "heads": 2,
                "patch_size": 8,
                "dropout": dropout,
            },
            text_tower="small-transformer",
            text_options={"width": 16, "blocks": 1, "heads": 2, "dropout": dropout},
            image_size=16,
            embed_dim=8,
            context_length=6,
            vocabulary_size=20,
            image_head=heads,
            text_head=heads,
            initial_logit_bias=-2.0 if loss == "sigmoid" else None,
            precision=precision,
            **options,
        )
    )
    model.compile(keras.optimizers.SGD(1.0), loss)
    model.optimizer.build(model.trainable_variables)
    return model


def batch(rows, captions=1):
    rng = np.random.default_rng(0)
    texts = (rows,) if captions == 1 else (rows, captions)
    return {
        "image": tf.constant(rng.integers(0, 255, (rows, 16, 16, 3)), tf.uint8),
        # Few tokens, so that rows of the embedding table come up in many micro-batches.
        "token_ids": tf.constant(rng.integers(0, 5, (*texts, 6)), tf.int32),
        "text_mask": tf.constant(rng.integers(2, 7, (*texts, 1)) > np.arange(6), tf.int32),
        "image_id": tf.constant(rng.integers(0, rows, rows), tf.int64),
        "caption_id": tf.constant(rng.integers(0, 2 * rows, texts), tf.int64),
        "words": tf.constant(rng.integers(-1, 4, (rows, 3)), tf.int32),
    }


def gradients(model, rows, micro_batch, loss_scale=None):
    """In a graph, as in training, with micro-batches; what they are compared with needs none."""
    model.compile(model.optimizer, model.loss, micro_batch=micro_batch)
    step = tf.function(model._gradients, autograph=False) if micro_batch else model._gradients
    return step(rows, loss_scale)


def assert_same(found, expected, tolerance=1e-5):
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=tolerance)
    assert float(found[1]) == pytest.approx(float(expected[1]), rel=tolerance)
    assert len(found[2]) == len(expected[2])
    for one, other in zip(found[2], expected[2], strict=True):
        other = np.array(tf.convert_to_tensor(other))
        assert np.abs(one - other).max() <= tolerance * max(1.0, np.abs(other).max())


@pytest.mark.parametrize(
    ("loss", "rows", "captions", "micro_batch"),
    [
        pytest.param("softmax", 8, 1, 2, marks=pytest.mark.slow),
        ("softmax", 7, 2, 3),
        pytest.param("sigmoid", 7, 1, 8, marks=pytest.mark.slow),
    ],
)
def test_the_gradients_are_those_of_the_whole_batch(loss, rows, captions, micro_batch):
    model, data = encoder(loss), batch(rows, captions)
    expected = gradients(model, data, None)
    assert max(float(tf.reduce_max(tf.abs(tf.convert_to_tensor(g)))) for g in expected[2]) > 1e-2
    assert_same(gradients(model, data, micro_batch), expected)


@pytest.mark.slow
def test_an_ensemble_and_the_tagging_loss_and_a_loss_scale_go_the_same_way():
    model = encoder(
        heads="residual",
        image_head_options={"members": 2, "input_dropout": 0.0, "dropout": 0.0},
        text_head_options={"members": 2, "input_dropout": 0.0, "dropout": 0.0},
    )
    model.tagging_loss = TaggingLoss(
        words=tuple("abcde"),
        token_ids=tf.constant(np.arange(30).reshape(5, 6) % 20, tf.int32),
        text_mask=tf.ones((5, 6), tf.int32),
        features=None,
        weight=0.5,
        sample=4,
    )
    data, scale = batch(9), tf.constant(64.0)
    assert_same(gradients(model, data, 4, scale), gradients(model, data, None, scale))


@pytest.mark.slow
def test_the_second_pass_drops_what_the_first_dropped():
    model, data = encoder(dropout=0.5), batch(7)
    step = model.optimizer.iterations.value
    # The same by hand: all micro-batches on one tape, with the masks of their numbers.
    with tf.GradientTape() as tape:
        parts = []
        for number, start in enumerate(range(0, 7, 3)):
            seed_dropout(model, step, number)
            part = {name: value[start : start + 3] for name, value in data.items()}
            parts.append(model.embed_batch(part, training=True))
        whole = {name: tf.concat([part[name] for part in parts], 0) for name in parts[0]}
        expected = model.local_loss(whole, data, training=True)
    variables = [variable.value for variable in model.trainable_variables]
    expected = (*expected, tape.gradient(expected[0], variables))
    found = gradients(model, data, 3)
    assert_same(found, expected)
    # The masks matter: another number of rows at a time draws others.
    model.compile(model.optimizer, model.loss, micro_batch=2)
    assert abs(float(model._gradients(data, None)[0]) - float(found[0])) > 1e-4


def test_dropout_is_decided_by_seed_step_and_micro_batch():
    model, data = encoder(dropout=0.5), batch(4)
    embed = tf.function(
        lambda: model.embed_batch(data, training=True)["text_embeddings"], autograph=False
    )

    def drawn(step, micro_batch, model=model):
        seed_dropout(model, tf.constant(step), micro_batch)
        return np.array(embed())

    first = drawn(1, 0)
    assert not np.array_equal(first, np.array(embed()))  # layers go on drawing within a step
    for step, micro_batch in ((2, 0), (1, 1), (0, 1)):
        assert not np.array_equal(drawn(step, micro_batch), first)
    assert np.array_equal(drawn(1, 0), first)


def test_batch_normalisation_sees_micro_batches_and_moves_once():
    keras.utils.set_random_seed(0)
    model = DualEncoder(
        ModelConfig(
            image_tower="small-convolutional",
            image_options={"widths": (4,), "stem": 4},
            text_tower="small-transformer",
            text_options={"width": 8, "blocks": 1, "heads": 2},
            image_size=16,
            embed_dim=8,
            context_length=6,
            vocabulary_size=20,
        )
    )
    model.compile(optimizer=keras.optimizers.SGD(0.0), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    data = batch(6)
    moving = [v for v in model.non_trainable_variables if v.name == "moving_mean"]
    before = [np.array(v.value) for v in moving]
    # By hand: one forward pass of each part, in order.
    for start in (0, 4):
        model.encode_image(data["image"][start : start + 4], training=True)
    expected = [np.array(v.value) for v in moving]
    for variable, value in zip(moving, before, strict=True):
        variable.assign(value)
    gradients(model, data, 4)
    for variable, value in zip(moving, expected, strict=True):
        np.testing.assert_allclose(variable.value, value, atol=1e-6)
