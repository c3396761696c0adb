"""Distillation losses against slow loops in NumPy, their gradients, and their place in a model."""

import numpy as np
import pytest
import tensorflow as tf

from tfclip.models.objective.distillation import (
    Distillation,
    affinity_loss,
    feature_loss,
    interactive_loss,
)
from tfclip.models.objective.word_distillation import WordDistillation

SCALE, TEACHER_SCALE = 7.0, 11.0


def unit(rng, *shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def given():
    """Four pictures with two captions each; the last two pictures share a caption."""
    rng = np.random.default_rng(0)
    ids = np.arange(4), np.array([[0, 1], [2, 3], [4, 5], [6, 5]])
    return unit(rng, 4, 6), unit(rng, 8, 6), unit(rng, 4, 9), unit(rng, 8, 9), ids


def log_softmax(row):
    return row - row.max() - np.log(np.exp(row - row.max()).sum())


def slow_affinity(images, texts, teacher_images, teacher_texts):
    total = 0.0
    for rows, columns, own, other in (
        (images, texts, teacher_images, teacher_texts),
        (texts, images, teacher_texts, teacher_images),
    ):
        each = []
        for i in range(len(rows)):
            student = log_softmax(np.array([SCALE * rows[i] @ c for c in columns], float))
            teacher = np.exp(log_softmax(np.array([TEACHER_SCALE * own[i] @ c for c in other])))
            each.append(-sum(t * s for t, s in zip(teacher, student, strict=True)))
        total += np.mean(each) / 2
    return total


def test_affinity_equals_a_slow_loop(given):
    images, texts, teacher_images, teacher_texts, _ = given
    found = affinity_loss(
        *map(tf.constant, (images, texts)),
        tf.constant(SCALE),
        *map(tf.constant, (teacher_images, teacher_texts)),
        TEACHER_SCALE,
    )
    expected = slow_affinity(images, texts, teacher_images, teacher_texts)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_affinity_is_least_where_the_student_equals_the_teacher(given):
    images, texts, *_ = map(tf.constant, given[:4])
    with tf.GradientTape() as tape:
        tape.watch([images, texts])
        loss = affinity_loss(images, texts, tf.constant(SCALE), given[0], given[1], SCALE)
    for gradient in tape.gradient(loss, [images, texts]):
        np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_features_and_interactive_contrast_equal_slow_loops(given):
    images, texts, *_, (image_id, caption_id) = given
    rng = np.random.default_rng(1)
    own, other = unit(rng, 4, 6), unit(rng, 8, 6)
    found = feature_loss(*map(tf.constant, (images, texts, own, other)))
    expected = np.mean([np.sum((a - b) ** 2) for a, b in zip(images, own, strict=True)])
    expected += np.mean([np.sum((a - b) ** 2) for a, b in zip(texts, other, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=1e-5)

    of_texts = np.repeat(image_id, 2), caption_id.reshape(-1)
    total = 0.0
    for rows, columns, by_text in ((images, other, False), (texts, own, True)):
        each = []
        for i, row in enumerate(rows):
            logits = log_softmax(np.array([SCALE * row @ c for c in columns], float))
            positive = []
            for j in range(len(columns)):
                picture, text = (j, i) if by_text else (i, j)
                same = of_texts[0][text] == picture
                positive.append(same or of_texts[1][text] in caption_id[picture])
            each.append(-np.mean(logits[np.array(positive)]))
        total += np.mean(each) / 2
    found = interactive_loss(
        *map(tf.constant, (images, texts)),
        tf.constant(SCALE),
        *map(tf.constant, (own, other)),
        (tf.constant(image_id), tf.constant(caption_id)),
        tuple(map(tf.constant, of_texts)),
    )
    np.testing.assert_allclose(found, total, rtol=1e-5)


def test_several_teachers_stand_side_by_side_and_are_averaged(given):
    images, texts, first_images, first_texts, (image_id, caption_id) = given
    rng = np.random.default_rng(2)
    second_images, second_texts = unit(rng, 4, 3), unit(rng, 8, 3)
    texts_of_both = np.concatenate([first_texts, second_texts], -1).reshape(4, 2, 12)
    batch = {
        "teacher_image": tf.constant(np.concatenate([first_images, second_images], -1)),
        "teacher_text": tf.constant(texts_of_both),
        "image_id": tf.constant(image_id),
        "caption_id": tf.constant(caption_id),
    }
    embeddings = {"image_embeddings": tf.constant(images), "text_embeddings": tf.constant(texts)}
    losses = Distillation((9, 3), (TEACHER_SCALE, TEACHER_SCALE), affinity=3.0)
    expected = slow_affinity(images, texts, first_images, first_texts)
    expected += slow_affinity(images, texts, second_images, second_texts)
    found = losses(embeddings, batch, tf.constant(SCALE))
    np.testing.assert_allclose(found, 3 * expected / 2, rtol=1e-5)
    assert Distillation.from_config(losses.get_config()) == losses


def test_word_distillation_is_the_mean_squared_distance_over_its_sample():
    rng = np.random.default_rng(0)
    own, teacher = unit(rng, 7, 5), unit(rng, 7, 5)
    ids = tf.range(7)[:, None]
    loss = WordDistillation(ids, tf.ones_like(ids), None, tf.constant(teacher), 2.0, sample=3)
    seen = []

    def embed(prompts):
        rows = prompts["token_ids"][:, 0].numpy()
        seen.append(rows)
        return tf.constant(own[rows])

    for step in range(6):
        found = loss(embed, tf.constant(step, tf.int64))
        expected = 2 * np.mean([((own[row] - teacher[row]) ** 2).sum() for row in seen[-1]])
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    for first in (0, 3):  # two passes of three steps, in different orders
        assert set(np.concatenate(seen[first : first + 3])) == set(range(7))
    assert not np.array_equal(seen[0], seen[3])
