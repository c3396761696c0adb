"""Smaller exports: one tower, half precision, LiteRT; each against the model it came from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfclip
from tfclip.export import main
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.saving import TrainedModel, load_model
from tfclip.serving.check import check_export
from tfclip.serving.litert import LiteRtEncoder, LiteRtTextEncoder
from tfclip.serving.saved_model import load_card, load_signatures, write_saved_model
from tfclip.serving.signatures import Variant


def export(run, out, *words):
    assert main([str(run), "--out", str(out), *map(str, words)]) == 0
    return load_signatures(out / "1"), load_card(out / "1")


def in_a_session(version, signature, **inputs):
    """Ask as a server does: the graph, its op that restores, its op that initializes, a session."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(version))
        asked = graph.signature_def[signature]
        outputs = {name: info.name for name, info in asked.outputs.items()}
        return session.run(outputs, {asked.inputs[name].name: v for name, v in inputs.items()})


@pytest.mark.slow
def test_a_session_answers_as_python_does(exported, served, picture_bytes):
    inputs = {"image_bytes": [*picture_bytes.values(), b"damage"], "text": ["a red circle", ""]}
    answer = in_a_session(exported / "1", "similarity", **inputs)
    expected = served["similarity"](**{name: tf.constant(v) for name, v in inputs.items()})
    np.testing.assert_allclose(answer["logits_per_image"], expected["logits_per_image"], atol=1e-4)
    assert answer["valid"].tolist() == expected["valid"].numpy().tolist()
    answer = in_a_session(exported / "1", "classify", image_bytes=inputs["image_bytes"])
    expected = served["classify"](image_bytes=tf.constant(inputs["image_bytes"]))
    np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-5)
    assert answer["labels"].tolist() == expected["labels"].numpy().tolist()


def size(version):
    return sum(path.stat().st_size for path in version.rglob("variables*"))


@pytest.mark.slow
def test_a_list_of_labels_leaves_the_text_tower_out(
    tiny_run, exported, served, tmp_path, picture_bytes
):
    labels = tmp_path / "labels.txt"
    labels.write_text("green star\nred circle\n")
    small, card = export(tiny_run, tmp_path / "out", "--labels", labels)
    assert set(small) == {"classify", "encode_image", "serving_default"}
    assert card["sides"] == ["image"]
    assert size(tmp_path / "out" / "1") < 0.7 * size(exported / "1")
    pictures = tf.constant([picture_bytes["jpeg"], b"damage"])
    answer, whole = (
        small["classify"](image_bytes=pictures),
        served["classify"](image_bytes=pictures),
    )
    np.testing.assert_allclose(answer["scores"], whole["scores"].numpy()[:, [2, 0]], atol=1e-6)
    assert all(finding.ok for finding in check_export(tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sides", "signatures"),
    [
        (["--image-only"], ["image"], {"classify", "encode_image"}),
        (["--image-only", "--labels", "none"], ["image"], {"encode_image"}),
        (["--text-only"], ["text"], {"encode_text"}),
    ],
)
def test_one_tower_alone(tiny_run, served, tmp_path, words, sides, signatures):
    small, card = export(tiny_run, tmp_path / "out", *words)
    assert set(small) == {*signatures, "serving_default"}
    assert card["sides"] == sides
    assert [finding for finding in check_export(tmp_path / "out") if not finding.ok] == []
    if sides == ["text"]:
        texts = tf.constant(["a red circle"])
        embedding = small["serving_default"](text=texts)["embedding"]
        np.testing.assert_allclose(
            embedding, served["encode_text"](text=texts)["embedding"], atol=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "dtype"), [("float16", tf.float16), ("bfloat16", tf.bfloat16)]
)
def test_half_precision_is_the_model_with_rounded_matrices(
    tiny_run, exported, tmp_path, picture_bytes, precision, dtype
):
    small, card = export(tiny_run, tmp_path / "out", "--precision", precision, "--labels", "none")
    assert card["precision"] == precision
    assert size(tmp_path / "out" / "1") < 0.65 * size(exported / "1")
    rounded = load_model(tiny_run)
    for variable in rounded.dual_encoder.weights:
        if len(variable.shape) > 1:
            variable.assign(tf.cast(tf.cast(variable.value, dtype), tf.float32))
    texts = ["a red circle", ""]
    expected = rounded.dual_encoder.encode_text(**rounded.tokenizer(texts))
    answer = small["encode_text"](text=tf.constant(texts))["embedding"]
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    pixels = tfclip.load(tiny_run)[1](picture_bytes["jpeg"])[None]
    answer = small["encode_image"](image_bytes=tf.constant([picture_bytes["jpeg"]]))["embedding"]
    np.testing.assert_allclose(answer, rounded.dual_encoder.encode_image(pixels), atol=1e-5)
    variables = tf.saved_model.load(str(tmp_path / "out" / "1"))._weights
    assert {v.dtype for v in variables if v.shape.rank > 1} == {dtype}
    assert {v.dtype for v in variables if v.shape.rank < 2} == {tf.float32}
    embedding = in_a_session(tmp_path / "out" / "1", "encode_text", text=texts)["embedding"]
    np.testing.assert_allclose(embedding, expected, atol=1e-5)


def test_a_weight_that_float16_cannot_hold_is_refused(tiny_model, tmp_path):
    large = TrainedModel(DualEncoder(tiny_model.config), tiny_model.tokenizer)
    kernel = next(v for v in large.dual_encoder.image_tower.weights if len(v.shape) > 1)
    kernel.assign(keras.ops.full(kernel.shape, 1e5))
    with pytest.raises(ValueError, match="the range of float16; export with --precision bfloat16"):
        write_saved_model(large, tmp_path, variant=Variant(precision="float16"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_litert_tower_embeds_as_keras_does(tiny_run, tmp_path, picture_bytes):
    path = tmp_path / "lite" / "tower.tflite"
    export(tiny_run, tmp_path / "out", "--labels", "none", "--litert", path)
    model, preprocess = tfclip.load(tiny_run)
    pixels = np.stack([preprocess(picture) for picture in picture_bytes.values()])
    embeddings = LiteRtEncoder(path.read_bytes())(pixels)
    np.testing.assert_allclose(embeddings, model.encode_image(pixels), atol=5e-3)
    names = sorted(entry.name for entry in path.parent.iterdir())
    assert names == ["tower-text.tflite", "tower.tflite"]
    tokens = load_model(tiny_run).tokenizer(["a red circle", "", "blue"])
    ids, mask = tokens["token_ids"].numpy(), tokens["text_mask"].numpy()
    texts = LiteRtTextEncoder((path.parent / "tower-text.tflite").read_bytes())(ids, mask)
    expected = load_model(tiny_run).dual_encoder.encode_text(
        tokens["token_ids"], tokens["text_mask"]
    )
    np.testing.assert_allclose(texts, expected, atol=5e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--image-only", "--text-only"], "give one of them"),
        (["--text-only", "--labels", "voc"], "omits the image tower"),
        (["--text-only", "--thresholds", "none"], "write no classifier"),
        (["--precision", "float8"], "unknown precision 'float8'"),
        (["--litert", __file__], "exists already"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(tiny_run, tmp_path, capsys, words, said):
    assert main([str(tiny_run), "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_export_of_one_tower_says_what_it_cannot(tiny_run, tmp_path, picture_bytes, capsys):
    from tfclip.predict import main as predict

    export(tiny_run, tmp_path / "out", "--image-only", "--labels", "none")
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(picture_bytes["jpeg"])
    assert predict([str(tmp_path / "out"), str(picture), "--labels", "a dog"]) == 2
    assert "was exported without encode_text" in capsys.readouterr().err


def test_an_export_computes_in_bfloat16(tiny_run, exported, tmp_path, served, picture_bytes):
    words = ("--labels", "none", "--image-only", "--compute", "bfloat16")
    half, card = export(tiny_run, tmp_path / "out", *words)
    pictures = tf.constant(list(picture_bytes.values())[:2])
    embedded = half["encode_image"](image_bytes=pictures)["embedding"].numpy()
    exact = served["encode_image"](image_bytes=pictures)["embedding"].numpy()
    assert embedded.dtype == np.float32
    assert 1e-6 < np.abs(embedded - exact).max() < 0.05
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)
