"""`export --onnx`: what onnxruntime and the tokenizers library read, against the model."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.peak_memory import needs_peak, peak_bytes
from tfclip.export import main
from tfclip.inputs.images import resize_picture
from tfclip.inputs.text import LearntPieceTokenizer, WordPieceTokenizer
from tfclip.inputs.tokenizers.learn_pieces import learn_pieces
from tfclip.models.saving import load_model
from tfclip.models.weights.clip.convert import convert_clip
from tfclip.serving.formats.onnx_file import file_size, write_onnx_file
from tfclip.serving.formats.onnx_folder import OnnxEncoder
from tfclip.serving.formats.onnx_graph import to_onnx
from tfclip.serving.formats.tokenizer_json import PROBES, differing_texts, tokenizer_json

CLIPS = Path(__file__).parents[1] / "models" / "weights" / "clips"


@pytest.fixture(scope="module")
def onnx_folder(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "model"
    assert main([str(tiny_run), "--onnx", str(folder)]) == 0
    return folder


def test_a_client_of_the_layout_gets_the_embeddings_of_the_model(tiny_run, onnx_folder):
    """Read the files as Immich does: Pillow, tokenizers, onnxruntime, and no word of tfclip."""
    import onnxruntime
    import tokenizers

    model = load_model(tiny_run)
    settings = json.loads((onnx_folder / "visual" / "preprocess_cfg.json").read_text())
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(3)]
    side = settings["size"][0]
    filters = {kind.name.lower(): kind for kind in Image.Resampling}
    resized = [p.resize((side, side), filters[settings["interpolation"]]) for p in pictures]
    pixels = np.stack([np.asarray(picture, np.float32) / 255 for picture in resized])
    pixels = (pixels - np.float32(settings["mean"])) / np.float32(settings["std"])
    visual = onnxruntime.InferenceSession(onnx_folder / "visual" / "model.onnx")
    given = visual.run(None, {"image": pixels.transpose(0, 3, 1, 2)})[0]
    expected = model.dual_encoder.encode_image(np.stack([np.asarray(p) for p in pictures]))
    np.testing.assert_allclose(given, expected, atol=1e-5)

    length = json.loads((onnx_folder / "config.json").read_text())["text_cfg"]["context_length"]
    pad = json.loads((onnx_folder / "textual" / "tokenizer_config.json").read_text())["pad_token"]
    tokenizer = tokenizers.Tokenizer.from_file(str(onnx_folder / "textual" / "tokenizer.json"))
    number = tokenizer.token_to_id(pad)
    tokenizer.enable_padding(length=length, pad_token=pad, pad_id=number)
    tokenizer.enable_truncation(max_length=length)
    texts = ["a red circle", "blue square, green star.", ""]
    encoded = tokenizer.encode_batch(texts)
    ids = np.array([encoding.ids for encoding in encoded], np.int32)
    mask = np.array([encoding.attention_mask for encoding in encoded], np.int32)
    textual = onnxruntime.InferenceSession(onnx_folder / "textual" / "model.onnx")
    tokens = model.tokenizer(texts)
    expected = model.dual_encoder.encode_text(tokens["token_ids"], tokens["text_mask"])
    for inputs in ({"text": ids}, {"text": ids, "attention_mask": mask}):
        np.testing.assert_allclose(textual.run(None, inputs)[0], expected, atol=1e-5)
    # The mask is read: without one token the embedding is another one.
    mask[:, 2] = 0
    other = textual.run(None, {"text": ids, "attention_mask": mask})[0]
    assert np.abs(other[:2] - expected[:2]).max() > 1e-3


def test_box_is_the_area_filter():
    """The interpolation "area" is Pillow's "box" where pictures shrink by whole numbers."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 96, 3), np.uint8)
    ours = resize_picture(tf.constant(picture), 32).numpy()
    theirs = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BOX))
    np.testing.assert_allclose(ours, theirs, atol=1)


def test_captured_tensors_and_exact_gelu_are_converted(tmp_path):
    """Keras' Normalization keeps tensors that are no variables; ONNX has Erf and no Erfc."""
    layer = keras.layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0])
    layer.build((None, 2))

    def function(x):
        return tf.math.erfc(layer(x)) * tf.nn.gelu(x, approximate=False)

    graph = to_onnx(function, [tf.TensorSpec([None, 2], tf.float32, "x")], "y")
    assert [value.name for value in graph.model.graph.input] == ["x"]
    write_onnx_file(graph, tmp_path / "model.onnx")
    x = np.random.default_rng(0).normal(0, 3, (50, 2)).astype(np.float32)
    given = OnnxEncoder(tmp_path / "model.onnx")(x=x)
    np.testing.assert_allclose(given, function(tf.constant(x)), atol=1e-6)


def test_the_weights_of_attention_are_read_in_the_shape_of_a_product(tmp_path):
    """Keras has them in three dimensions; quantisers look for matrices."""
    import onnx

    layer = keras.layers.MultiHeadAttention(4, 16)
    x = np.random.default_rng(0).normal(0, 1, (2, 5, 256)).astype(np.float32)
    layer(x, x)
    spec = tf.TensorSpec([None, 5, 256], tf.float32, "x")
    graph = to_onnx(lambda x: layer(x, x), [spec], "y", layer.variables)
    assert sorted(one.shape for one in graph.weights.values()) == [(64, 256)] + 3 * [(256, 64)]
    write_onnx_file(graph, tmp_path / "model.onnx")
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    products = {name for node in nodes if node.op_type == "MatMul" for name in node.input}
    assert set(graph.weights) <= products
    given = OnnxEncoder(tmp_path / "model.onnx")(x=x)
    np.testing.assert_allclose(given, layer(x, x), atol=1e-5)


def test_kernels_of_convolutions_are_written_in_the_order_of_onnx(tmp_path):
    import onnx

    layers = [keras.layers.Conv2D(300, 3), keras.layers.DepthwiseConv2D(8)]
    x = np.random.default_rng(0).normal(0, 1, (2, 12, 12, 8)).astype(np.float32)

    def function(x):
        for layer in layers:
            x = layer(x)
        return x

    expected = function(x)
    spec = tf.TensorSpec([None, 12, 12, 8], tf.float32, "x")
    variables = [variable for layer in layers for variable in layer.variables]
    graph = to_onnx(function, [spec], "y", variables)
    shapes = sorted(one.shape for one in graph.weights.values())
    assert shapes == [(300, 1, 8, 8), (300, 8, 3, 3)]
    write_onnx_file(graph, tmp_path / "model.onnx")
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    assert {node.input[1] for node in nodes if node.op_type == "Conv"} == set(graph.weights)
    np.testing.assert_allclose(OnnxEncoder(tmp_path / "model.onnx")(x=x), expected, atol=1e-4)


@needs_peak
def test_large_weights_are_not_held_several_times(tmp_path):
    """tf2onnx alone holds them ten times and more."""
    import onnx

    rng = np.random.default_rng(0)
    kernel = keras.Variable(rng.normal(0, 1, (4096, 2048)).astype(np.float32), name="kernel")
    table = keras.Variable(rng.normal(0, 1, (300, 4096)).astype(np.float32), name="table")
    unread = keras.Variable(np.ones((200, 200), np.float32), name="unread")
    small = keras.Variable(np.arange(2048, dtype=np.float32), name="small")
    size = 4 * (4096 * 2048 + 300 * 4096)

    def function(ids):
        return keras.ops.take(table, ids, axis=0) @ kernel + small

    peak_bytes(), peak_bytes()
    before = peak_bytes()
    variables = [unread, table, kernel, small]
    graph = to_onnx(function, [tf.TensorSpec([None], tf.int32, "ids")], "y", variables)
    write_onnx_file(graph, tmp_path / "model.onnx")
    assert peak_bytes() - before < 2 * size
    written = (tmp_path / "model.onnx").stat().st_size
    assert size < written < size + 20_000 and abs(file_size(graph) - written) < 1000
    onnx.checker.check_model(tmp_path / "model.onnx")
    ids = np.array([1, 299, 0], np.int32)
    given = OnnxEncoder(tmp_path / "model.onnx")(ids=ids)
    expected = table.numpy()[ids] @ kernel.numpy() + small.numpy()
    np.testing.assert_allclose(given, expected, rtol=1e-3, atol=1e-3)


def test_an_operation_without_an_onnx_form_is_refused():
    with pytest.raises(ValueError, match="ONNX"):
        to_onnx(lambda x: tf.math.lgamma(x), [tf.TensorSpec([None], tf.float32, "x")], "y")


LINES = ["a photo of a dog.", "Two red circles, left of a blue square!", "naïve Ångström, ὈΔΟΣ"]


def _tokenizers():
    letters = "abcdefghijklmnopqrstuvwxyz.,!'"
    pieces = [*letters, *(f"##{letter}" for letter in letters), "dog", "straße", "strasse", "##s"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(pieces)]
    yield "wordpiece-nfkc", WordPieceTokenizer(vocabulary, 16)
    yield "wordpiece-bert", WordPieceTokenizer(vocabulary, 16, folding="bert")
    yield "wordpiece-cased", WordPieceTokenizer(vocabulary, 16, lowercase=False, folding="bert")
    yield "byte-pair", convert_clip(CLIPS / "hugging_face_quick_gelu")[0].tokenizer
    yield "sentence-piece", convert_clip(CLIPS / "siglip")[0].tokenizer
    for lowercase in (True, False):
        model = learn_pieces(LINES * 30, 500, lowercase=lowercase)
        yield f"learnt-{lowercase}", LearntPieceTokenizer(model, 20)


@pytest.mark.slow
def test_tokenizer_json_gives_the_same_ids():
    texts = [*PROBES, *LINES, "a " * 60, "STRASSE ﬃ ＡＢ", "ΟΔΟΣ ς", "it's <|endoftext|> we'll"]
    for name, tokenizer in _tokenizers():
        content = json.dumps(tokenizer_json(tokenizer))
        checked = [text for text in texts if "<|" not in text or name == "byte-pair"]
        assert differing_texts(content, tokenizer, checked) == [], name
    # The comparison sees a difference: another vocabulary, another length.
    other = tokenizer.with_context_length(10)
    assert differing_texts(content, other, ["a dog"]) == ["a dog"]


def test_mistakes_are_told_before_anything_is_loaded(tiny_run, tmp_path, capsys, monkeypatch):
    def refused(*words):
        assert main([str(tiny_run), *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        return err

    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "file").write_text("mine")
    assert "exists already" in refused("--onnx", folder)
    assert "--out" in refused()
    assert "give --out" in refused("--onnx", tmp_path / "x", "--labels", "voc")
    assert "without --out" in refused("--onnx", tmp_path / "x", "--litert", tmp_path / "y.tflite")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = refused("--onnx", tmp_path / "x")
    assert "tf2onnx" in said and "pip install 'tfclip[onnx]'" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_a_failed_export_leaves_nothing(tiny_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tfclip.serving.formats.onnx_folder.LARGEST_DIFFERENCE", -1.0)
    assert main([str(tiny_run), "--onnx", str(tmp_path / "x"), "--image-only"]) == 2
    assert "other embeddings in onnxruntime" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hugging_face_gelu_shards", "siglip"])
def test_a_converted_model_takes_the_pixels_of_the_original(tmp_path, name):
    from tfclip.convert import main as convert

    assert convert([str(CLIPS / name), "--run", str(tmp_path / "run")]) == 0
    assert main([str(tmp_path / "run"), "--onnx", str(tmp_path / "onnx")]) == 0
    expected = np.load(CLIPS / name / "expected.npz")
    settings = json.loads((tmp_path / "onnx" / "visual" / "preprocess_cfg.json").read_text())
    assert (0.4 if "gelu" in name else 0.5) == pytest.approx(settings["mean"][0])
    pixels = (expected["pictures"] / 255 - settings["mean"]) / settings["std"]
    image = OnnxEncoder(tmp_path / "onnx" / "visual" / "model.onnx")(
        image=pixels.transpose(0, 3, 1, 2).astype(np.float32)
    )
    np.testing.assert_allclose(image, expected["image"], atol=1e-5)
    text = OnnxEncoder(tmp_path / "onnx" / "textual" / "model.onnx")(
        text=expected["ids"].astype(np.int32)
    )
    np.testing.assert_allclose(text, expected["text"], atol=1e-5)
