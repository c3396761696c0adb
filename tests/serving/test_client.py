"""The client over real HTTP, against the protocol and the signatures themselves."""

import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfclip
from tfclip.serving import Client
from tfclip.serving.rest import decode_answer


@pytest.fixture
def client(url):
    return Client(url, retries=2, timeout=20)


def test_classify_answers_what_the_signature_does(client, served, picture_bytes, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(picture_bytes["jpeg"])
    answer = client.classify([path, str(path), picture_bytes["webp"], b"damage"])
    expected = served["classify"](
        image_bytes=tf.constant([picture_bytes["jpeg"]] * 2 + [picture_bytes["webp"], b"damage"])
    )
    assert answer["labels"][2].tolist() == ["red circle", "blue square", "green star"]
    assert answer["valid"].tolist() == [True, True, True, False]
    assert answer["predicted"].tolist() == expected["predicted"].numpy().tolist()
    for name in ("scores", "probabilities"):
        assert answer[name].dtype == np.float32
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-6)


def test_embeddings_survive_json(client, served, picture_bytes):
    pictures, texts = (
        list(picture_bytes.values()),
        ["a dog", "ein Hund, süß", "", "\x00 \U0001f415"],
    )
    images = served["encode_image"](image_bytes=tf.constant(pictures))["embedding"]
    np.testing.assert_allclose(client.encode_image(pictures)["embedding"], images, atol=1e-6)
    answer = client.encode_text(texts)
    assert list(answer) == ["embedding"]
    expected = served["encode_text"](text=tf.constant(texts))["embedding"]
    np.testing.assert_allclose(answer["embedding"], expected, atol=1e-6)


def test_many_pictures_go_in_parts_and_come_back_in_order(client, serving, served, picture_bytes):
    pictures = list(picture_bytes.values()) * 5 + [b"damage"]
    answer = client.encode_image(pictures)
    assert [sizes["image_bytes"] for sizes in serving.sizes] == [16, 16, 4]
    expected = served["encode_image"](image_bytes=tf.constant(pictures))
    np.testing.assert_allclose(answer["embedding"], expected["embedding"], atol=1e-5)
    assert answer["valid"].tolist() == expected["valid"].numpy().tolist()


@pytest.mark.parametrize("texts", [["a dog"], ["a dog", "a cat"], ["a", "b", "c"]])
def test_similarity_has_the_shape_that_was_asked(client, served, picture_bytes, texts):
    pictures = [picture_bytes["jpeg"], picture_bytes["gif"]]
    answer = client.similarity(pictures, texts)
    expected = served["similarity"](image_bytes=tf.constant(pictures), text=tf.constant(texts))
    np.testing.assert_allclose(answer["logits_per_image"], expected["logits_per_image"], atol=1e-4)


def test_a_server_that_merges_refuses_similarity_and_another_answers(
    serving, url, another, picture_bytes
):
    """With as many texts as pictures it would join those of strangers: this is never asked."""
    serving.merges = True
    pictures, texts = [picture_bytes["jpeg"]] * 2, ["a dog", "a cat"]
    with pytest.raises(ValueError, match="refused with status 400: Batching session"):
        Client(url).similarity(pictures, texts)
    answer = Client(url, unbatched=another).similarity(pictures, texts)
    assert answer["logits_per_image"].shape == (2, 2)


def test_what_fails_in_passing_is_asked_again(client, serving):
    serving.failures = [503, 429]
    assert client.status() == {1: "AVAILABLE"}
    assert not serving.failures
    serving.failures = [503] * 3
    with pytest.raises(ConnectionError, match="503: queue is full"):
        client.encode_text(["a dog"])


def test_what_stays_wrong_is_not_asked_again(serving, url, picture_bytes):
    with pytest.raises(ValueError, match="404: Servable not found.*Is other the name"):
        Client(url, model="other").classify([picture_bytes["jpeg"]])
    with pytest.raises(ValueError, match="404"):
        Client(url, version=2).encode_text(["a dog"])
    serving.failures = [500]
    with pytest.raises(ConnectionError, match="status 500"):
        Client(url).encode_text(["a dog"])
    assert not serving.failures


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match=r"no answer from http.*8501 by default"):
        Client(f"http://localhost:{port}", retries=0).status()


def test_a_server_that_says_nothing_in_time():
    with socket.socket() as silent:
        silent.bind(("localhost", 0))
        silent.listen()
        address = f"http://localhost:{silent.getsockname()[1]}"
        with pytest.raises(OSError, match="no answer from"):
            Client(address, retries=0, timeout=0.2).status()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda client: client.classify([]), "no picture"),
        (lambda client: client.classify("picture.jpg"), "must be a list"),
        (lambda client: client.encode_text("a dog"), "list of one or more"),
        (lambda client: client.encode_text([]), "list of one or more"),
        (lambda client: Client("localhost:8501"), "must be a URL"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(call, said):
    with pytest.raises(ValueError, match=said):
        call(Client())


def test_a_missing_picture_is_told(client, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        client.classify([tmp_path / "nowhere.jpg"])


@pytest.mark.parametrize("body", [{}, {"outputs": []}, {"outputs": {"valid": [1]}}, [], None])
def test_other_answers_are_refused(body):
    with pytest.raises(ValueError, match="expected outputs"):
        decode_answer("classify", body)


def test_the_client_needs_no_tensorflow():
    code = (
        "import sys, tfclip; tfclip.serving.Client('http://localhost:1')\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert tfclip.serving.Client is Client
