"""The chunked multi-positive losses against slow NumPy loops, forward and gradient."""

import numpy as np
import pytest
import tensorflow as tf

from tfclip.models.objective.global_loss import global_loss
from tfclip.models.objective.losses import (
    plain_sigmoid_loss,
    plain_softmax_loss,
    positive_pairs,
    sigmoid_contrastive,
    softmax_both_ways,
    softmax_contrastive,
)


def slow_loss(rows, columns, scale, row_ids, column_ids):
    """One row and one column at a time, in float64."""
    total = 0.0
    for i, row in enumerate(rows):
        logits = [scale * float(row @ column) for column in columns]
        positives = [
            j
            for j in range(len(columns))
            if row_ids[0][i] == column_ids[0][j] or row_ids[1][i] == column_ids[1][j]
        ]
        log_sum = np.log(np.sum(np.exp(logits)))
        total += sum((log_sum - logits[j]) / len(positives) for j in positives)
    return total


def slow_sigmoid_loss(rows, columns, scale, bias, row_ids, column_ids):
    """Zhai et al. 2023, equation 1, pair by pair, in float64."""
    total = 0.0
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            same = row_ids[0][i] == column_ids[0][j] or row_ids[1][i] == column_ids[1][j]
            z = 1.0 if same else -1.0
            total += np.log(1.0 + np.exp(-z * (scale * float(row @ column) + bias)))
    return total


def example(seed, rows=5, columns=9, width=4):
    rng = np.random.default_rng(seed)

    def unit(n):
        x = rng.normal(size=(n, width))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    column_ids = rng.integers(0, 6, columns), rng.integers(0, 7, columns)
    row_ids = column_ids[0][:rows], column_ids[1][:rows]
    return unit(rows), unit(columns), 7.5, row_ids, column_ids


def as_tensors(rows, columns, scale, row_ids, column_ids):
    floats = [tf.constant(x, tf.float32) for x in (rows, columns, scale)]
    ids = [tuple(tf.constant(x, tf.int64) for x in pair) for pair in (row_ids, column_ids)]
    return *floats, *ids


@pytest.mark.parametrize("chunk_rows", [1, 2, 5, 64])
def test_equals_a_slow_loop(chunk_rows):
    values = example(0)
    loss, _ = softmax_contrastive(*as_tensors(*values), chunk_rows=chunk_rows)
    assert float(loss) == pytest.approx(slow_loss(*values), rel=1e-5)


@pytest.mark.parametrize("chunk_rows", [2, 64])
def test_gradients_equal_differences_of_the_slow_loop(chunk_rows):
    rows, columns, scale, *ids = example(1)
    tensors = as_tensors(rows, columns, scale, *ids)
    with tf.GradientTape() as tape:
        tape.watch(tensors[:3])
        loss, _ = softmax_contrastive(*tensors, chunk_rows=chunk_rows)
        tripled = 3.0 * loss
    found = tape.gradient(tripled, tensors[:3])
    step = 1e-6
    for which, gradient in enumerate(found):
        arguments = [rows, columns, np.array(scale)]
        expected = np.zeros_like(arguments[which])
        for at in np.ndindex(expected.shape):
            sides = []
            for sign in (1, -1):
                moved = [np.array(argument, float) for argument in arguments]
                moved[which][at] += sign * step
                sides.append(slow_loss(*moved, *ids))
            expected[at] = 3.0 * (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("chunk_rows", [1, 2, 64])
def test_sigmoid_equals_a_slow_loop_and_its_differences(chunk_rows):
    rows, columns, scale, *ids = example(3)
    bias = -2.0
    rows_, columns_, scale_, *ids_ = as_tensors(rows, columns, scale, *ids)
    watched = (rows_, columns_, scale_, tf.constant(bias))
    with tf.GradientTape() as tape:
        tape.watch(watched)
        loss, _ = sigmoid_contrastive(*watched, *ids_, chunk_rows=chunk_rows)
    assert float(loss) == pytest.approx(
        slow_sigmoid_loss(rows, columns, scale, bias, *ids), rel=1e-5
    )
    step = 1e-6
    for which, gradient in enumerate(tape.gradient(loss, watched)):
        arguments = [rows, columns, np.array(scale), np.array(bias)]
        expected = np.zeros_like(arguments[which])
        for at in np.ndindex(expected.shape):
            sides = []
            for sign in (1, -1):
                moved = [np.array(argument, float) for argument in arguments]
                moved[which][at] += sign * step
                sides.append(slow_sigmoid_loss(*moved, *ids))
            expected[at] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=2e-4)


def test_one_positive_each_is_the_cross_entropy_of_the_diagonal():
    rows, columns, scale, *_ = example(2, rows=6, columns=6)
    ids = np.arange(6), np.arange(6)
    loss, hits = softmax_contrastive(*as_tensors(rows, columns, scale, ids, ids))
    logits = scale * rows @ columns.T
    expected = np.sum(np.log(np.exp(logits).sum(1)) - np.diag(logits))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(hits) == np.sum(logits.argmax(1) == np.arange(6))


def test_same_picture_or_same_caption_is_positive():
    found = positive_pairs(*(tf.constant(x) for x in ([1, 2], [7, 8], [1, 3, 2], [9, 8, 9])))
    np.testing.assert_array_equal(found, [[True, False, False], [False, True, True]])


def test_uniform_embeddings_cost_the_logarithm_of_the_batch():
    ones = np.full((8, 4), 0.5)
    ids = np.arange(8), np.arange(8)
    loss, _ = softmax_contrastive(*as_tensors(ones, ones, 10.0, ids, ids))
    assert float(loss) / 8 == pytest.approx(np.log(8), rel=1e-6)


def test_both_ways_at_once_equal_one_way_after_the_other():
    rng = np.random.default_rng(4)
    images, texts, scale, *_ = example(4, rows=6, columns=12)
    picture = rng.integers(0, 4, 6)
    captions = rng.integers(0, 9, (6, 2))
    image_ids = tf.constant(picture), tf.constant(captions)
    text_ids = tf.constant(np.repeat(picture, 2)), tf.constant(captions.reshape(-1))
    tensors = [tf.constant(x, tf.float32) for x in (images, texts, scale)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensors)
        loss, hits = softmax_both_ways(*tensors, image_ids, text_ids)
        to_text, expected_hits = softmax_contrastive(*tensors, image_ids, text_ids)
        to_image, _ = softmax_contrastive(tensors[1], tensors[0], tensors[2], text_ids, image_ids)
        expected = 0.5 * (to_text / 6 + to_image / 12)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(hits) == float(expected_hits)
    for found, wanted in zip(
        tape.gradient(loss, tensors), tape.gradient(expected, tensors), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("captions", [1, 3])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_plain_losses_are_those_of_the_global_batch(loss, captions):
    rows, columns, *_ = example(5, rows=6, columns=6 * captions)
    rng = np.random.default_rng(5)
    image_id, caption_id = rng.integers(0, 4, 6), rng.integers(0, 20, (6, captions))
    ids = [tf.constant(image_id), tf.constant(caption_id)]
    flat = [tf.repeat(ids[0], captions), tf.reshape(ids[1], [-1])]
    batch = {"image_id": ids[0], "caption_id": ids[1] if captions > 1 else flat[1]}
    values = [tf.constant(x, tf.float32) for x in (rows, columns, 7.5, -2.0)]
    positive = positive_pairs(*ids, *flat)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(values)
        images, texts, scale, bias = values
        if loss == "softmax":
            plain = plain_softmax_loss(images, texts, scale, positive)
        else:
            plain = plain_sigmoid_loss(images, texts, scale, bias, positive)
        embeddings = {"image_embeddings": images, "text_embeddings": texts}
        chunked, _ = global_loss(embeddings, batch, loss=loss, scale=scale, bias=bias)
    assert float(chunked) == pytest.approx(float(plain), rel=1e-5)
    zero = tf.UnconnectedGradients.ZERO
    for one, other in zip(
        tape.gradient(chunked, values, unconnected_gradients=zero),
        tape.gradient(plain, values, unconnected_gradients=zero),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_plain_losses_equal_the_slow_loops():
    rows, columns, scale, row_ids, column_ids = example(6)
    images, texts, scale_, row, column = as_tensors(rows, columns, scale, row_ids, column_ids)
    positive = positive_pairs(*row, *column)
    # A column without a positive has no target: only those that have one take part.
    has = np.asarray(positive).any(axis=0)
    found = plain_softmax_loss(
        images, tf.boolean_mask(texts, has), scale_, tf.boolean_mask(positive, has, axis=1)
    )
    kept = columns[has], tuple(ids[has] for ids in column_ids)
    there = slow_loss(rows, kept[0], scale, row_ids, kept[1]) / len(rows)
    back = slow_loss(kept[0], rows, scale, kept[1], row_ids) / len(kept[0])
    assert float(found) == pytest.approx(0.5 * (there + back), rel=1e-5)
    slow = slow_sigmoid_loss(rows, columns, scale, -2.0, row_ids, column_ids) / len(rows)
    found = plain_sigmoid_loss(images, texts, scale_, tf.constant(-2.0), positive)
    assert float(found) == pytest.approx(slow, rel=1e-5)


@pytest.mark.parametrize("chunk_rows", [None, 2, 5])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_known_shapes_compile_under_xla_and_give_the_bits_of_unknown_ones(loss, chunk_rows):
    rows, columns, scale, row_ids, column_ids = as_tensors(*example(3, rows=6))

    def both(rows, columns):
        with tf.GradientTape() as tape:
            tape.watch([rows, columns])
            if loss == "softmax":
                ids = row_ids, column_ids
                total, hits = softmax_contrastive(rows, columns, scale, *ids, chunk_rows)
            else:
                ids = tf.constant(-1.0), row_ids, column_ids
                total, hits = sigmoid_contrastive(rows, columns, scale, *ids, chunk_rows)
        return total, hits, *tape.gradient(total, [rows, columns])

    unknown = [tf.TensorSpec([None, 4])] * 2
    expected = tf.function(both, input_signature=unknown, autograph=False)(rows, columns)
    found = tf.function(both, autograph=False)(rows, columns)
    compiled = tf.function(both, autograph=False, jit_compile=True)(rows, columns)
    for one, same, by_xla in zip(expected, found, compiled, strict=True):
        np.testing.assert_array_equal(one, same)
        np.testing.assert_allclose(one, by_xla, rtol=1e-5, atol=1e-6)
