"""An export on disk: alone in a fresh process, numbered, whole or absent."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfclip
from tfclip.export import main
from tfclip.serving.check import TEXT_OPS, graph_ops
from tfclip.serving.saved_model import load_card, version_directory, write_saved_model

TEXTS = ["a red circle", "Ein BLAUES Quadrat!", "", "star " * 40]
FRESH = """
import sys, json
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
version, ops, pictures, out = sys.argv[1:]
unknown = [op for op in json.load(open(ops)) if op_def_registry.get(op) is None]
import tensorflow_text
model = tf.saved_model.load(version)
pictures = np.load(pictures, allow_pickle=True)
images = model.signatures["encode_image"](image_bytes=tf.constant(list(pictures)))
texts = model.signatures["encode_text"](text=tf.constant(%r))
classes = model.signatures["serving_default"](image_bytes=tf.constant(list(pictures)))
assert not {"tfclip", "keras_hub"} & set(sys.modules)
np.savez(out, images=images["embedding"], texts=texts["embedding"], unknown=unknown,
         scores=classes["scores"])
"""


def test_a_process_that_knows_only_tensorflow_gives_the_same_embeddings(
    exported, tiny_run, picture_bytes, tmp_path
):
    model, preprocess = tfclip.load(tiny_run)
    pictures = list(picture_bytes.values())
    np.save(tmp_path / "pictures.npy", np.array(pictures, object))
    (tmp_path / "ops.json").write_text(json.dumps(sorted(graph_ops(exported / "1"))))
    (tmp_path / "fresh.py").write_text(FRESH % TEXTS)
    arguments = [exported / "1", "ops.json", "pictures.npy", "answers.npz"]
    # -I: nothing but the installed packages can be imported, whatever the environment says.
    subprocess.run([sys.executable, "-I", "fresh.py", *arguments], cwd=tmp_path, check=True)

    answers = np.load(tmp_path / "answers.npz")
    images = model.encode_image(np.stack([preprocess(picture) for picture in pictures]))
    texts = model.encode_text(tfclip.tokenize(TEXTS, model, truncate=True))
    np.testing.assert_allclose(answers["images"], images, atol=1e-5)
    np.testing.assert_allclose(answers["texts"], texts, atol=1e-5)
    assert answers["scores"].shape == (len(pictures), 3)
    # TensorFlow Text is needed for the tokenizer alone.
    assert set(answers["unknown"]) == TEXT_OPS


def test_the_card_says_what_was_baked_in(exported):
    card = load_card(exported / "1")
    assert card["labels"] == ["red circle", "blue square", "green star"]
    assert card["prompts"][0] == ["a photo of a red circle.", "the red circle"]
    assert card["thresholds"] == [-2.0, 2.0, 0.0]
    assert (card["tiles"], card["trained_on"]["recipe"]) == ("1+4", "shapes")
    assert card["versions"]["tensorflow"] == tf.__version__
    assert card["config"]["embed_dim"] == 16


def test_the_next_free_integer_is_written_and_nothing_is_replaced(tiny_run, tmp_path):
    (tmp_path / "7").write_text("in the way")
    (tmp_path / "notes").mkdir()
    assert main([str(tiny_run), "--out", str(tmp_path), "--labels", "none"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8", "notes"]
    assert version_directory(tmp_path) == tmp_path / "8"
    signatures = tf.saved_model.load(str(tmp_path / "8")).signatures
    assert set(signatures) == {"encode_image", "encode_text", "similarity", "serving_default"}
    assert set(signatures["serving_default"].structured_outputs) == {"embedding", "valid"}
    assert load_card(tmp_path / "8")["labels"] == []


def test_a_failure_leaves_nothing_behind(tiny_model, tmp_path, monkeypatch):
    def disk_is_full(obj, directory, signatures):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "saved_model.pb").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", disk_is_full)
    with pytest.raises(OSError, match="No space"):
        write_saved_model(tiny_model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_saved_model_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no SavedModel.*python -m tfclip.export"):
        version_directory(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not there"):
        version_directory(tmp_path / "nowhere")
