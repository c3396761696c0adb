"""The served graph against numpy, and against itself with damaged neighbours."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from tfclip.evaluation.embedding.embed import embed_classes
from tfclip.inputs.images import decode_picture, picture_views
from tfclip.inputs.text import check_lengths
from tfclip.inputs.tiles import tile_boxes
from tfclip.serving.classifier import Classifier
from tfclip.serving.served_model import ServedModel


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def embed(model, text):
    return model.dual_encoder.encode_text(**model.tokenizer([text])).numpy()[0]


def scale_of(model):
    return np.exp(model.dual_encoder.logit_scale.log_scale.numpy())


def test_a_class_is_the_unit_mean_of_its_prompts(tiny_model):
    prompts = (("a dog", "the dog", "dogs"), ("a cat",))
    dog = unit(np.mean([embed(tiny_model, text) for text in prompts[0]], axis=0))
    expected = np.stack([dog, embed(tiny_model, "a cat")])
    np.testing.assert_allclose(embed_classes(tiny_model, prompts), expected, atol=1e-5)


def test_classify_scores_decides_and_shares(tiny_model, served, picture_bytes):
    names = ["red circle", "blue square", "green star"]
    classes = embed_classes(tiny_model, [(f"a photo of a {n}.", f"the {n}") for n in names])
    pictures = list(picture_bytes.values())
    views = tf.stack([picture_views(decode_picture(p), tile_boxes("1+4"), 32) for p in pictures])
    embeddings = tiny_model.dual_encoder.encode_image(tf.reshape(views, [-1, 32, 32, 3])).numpy()
    scores = (embeddings.reshape(len(pictures), 5, 16) @ classes.T).max(axis=1)

    answer = served["classify"](image_bytes=tf.constant(pictures))

    assert answer["valid"].numpy().all()
    assert answer["labels"].numpy().tolist() == [[n.encode() for n in names]] * len(pictures)
    np.testing.assert_allclose(answer["scores"], scores, atol=1e-5)
    probabilities = softmax(scale_of(tiny_model) * scores, axis=-1)
    np.testing.assert_allclose(answer["probabilities"], probabilities, atol=1e-4)
    assert answer["predicted"].numpy().tolist() == (scores >= [-2.0, 2.0, 0.0]).tolist()


def test_without_thresholds_the_highest_score_is_predicted(tiny_model, picture_bytes):
    classifier = Classifier.from_texts(["a dog", "a cat"])
    pictures = tf.constant([picture_bytes["jpeg"], b"damage"])
    answer = ServedModel(tiny_model, classifier).classify(pictures)
    best = answer["scores"].numpy()[0].argmax()
    assert answer["predicted"].numpy()[0].tolist() == [best == 0, best == 1]
    assert not answer["predicted"].numpy()[1].any()


@pytest.mark.parametrize("signature", ["classify", "encode_image"])
def test_damage_gets_zeros_and_its_neighbours_are_answered(served, picture_bytes, signature):
    jpeg, gif = picture_bytes["jpeg"], picture_bytes["gif"]
    mixed = [b"", jpeg, jpeg[: len(jpeg) // 2], b"GIF89a", gif]
    answer = served[signature](image_bytes=tf.constant(mixed))
    alone = served[signature](image_bytes=tf.constant([jpeg]))
    assert answer.pop("valid").numpy().tolist() == [False, True, False, False, True]
    answer.pop("labels", None)
    for key, value in answer.items():
        assert not value.numpy()[[0, 2, 3]].any(), key
        assert value.numpy()[4].any(), key
        np.testing.assert_allclose(value[1], alone[key][0], atol=1e-5)


def test_an_empty_batch_has_an_empty_answer(served):
    nothing = tf.constant([], tf.string)
    answer = served["classify"](image_bytes=nothing)
    assert answer["scores"].shape == answer["predicted"].shape == (0, 3)
    assert served["encode_text"](text=nothing)["embedding"].shape == (0, 16)
    answer = served["similarity"](image_bytes=nothing, text=nothing)
    assert answer["logits_per_image"].shape == (0, 0)


def test_similarity_is_temperature_times_cosine(tiny_model, served, picture_bytes):
    pictures = tf.constant([picture_bytes["jpeg"], b"damage", picture_bytes["webp"]])
    texts = tf.constant(["a dog", b"\xff not utf-8", "", "dog " * 500])
    answer = served["similarity"](image_bytes=pictures, text=texts)
    images = served["encode_image"](image_bytes=pictures)["embedding"].numpy()
    embeddings = served["encode_text"](text=texts)["embedding"].numpy()
    expected = scale_of(tiny_model) * images @ embeddings.T
    np.testing.assert_allclose(answer["logits_per_image"], expected, atol=1e-4)
    assert not answer["logits_per_image"].numpy()[1].any()
    assert answer["logits_per_image"].numpy()[[0, 2]].all()


def test_a_text_that_would_be_cut_is_named(tiny_model):
    check_lengths(["a" * 30], tiny_model.tokenizer)
    with pytest.raises(ValueError, match=r"'a{31}' takes 33 tokens.*at most 32"):
        check_lengths(["short", "a" * 31], tiny_model.tokenizer)
