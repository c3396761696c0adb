"""An export on disk: alone in a fresh process, numbered, whole or absent."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import tfclip
from tfclip.export import main
from tfclip.serving.check import TEXT_OPS, graph_ops
from tfclip.serving.saved_model import load_card, version_directory, write_saved_model

TEXTS = ["a red circle", "Ein BLAUES Quadrat!", "", "star " * 40]


@pytest.mark.slow
def test_a_process_that_knows_only_tensorflow_gives_the_same_embeddings(
    exported, tiny_run, picture_bytes, ask_in_fresh_process
):
    model, preprocess = tfclip.load(tiny_run)
    pictures = list(picture_bytes.values())
    asked = [pictures[0], b"damaged", *pictures[1:]]
    images, texts = ask_in_fresh_process(exported / "1", asked, TEXTS)
    assert not images[1].any()
    images = np.delete(images, 1, axis=0)
    expected = model.encode_image(np.stack([preprocess(picture) for picture in pictures]))
    np.testing.assert_allclose(images, expected, atol=1e-5)
    expected = model.encode_text(tfclip.tokenize(TEXTS, model, truncate=True))
    np.testing.assert_allclose(texts, expected, atol=1e-5)


def test_the_graph_holds_ops_of_a_stock_server_alone(exported, run_with_tensorflow_alone):
    """Every op is known to a process with TensorFlow alone, but for those of TensorFlow Text."""
    code = "print(*sorted(set(sys.argv[1:]) - OPS_OF_TENSORFLOW))"
    unknown = set(run_with_tensorflow_alone(code, *graph_ops(exported / "1")).split())
    # The others are of other tokenizers.
    assert unknown == {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets"}
    assert unknown < TEXT_OPS


def test_pictures_and_texts_are_prepared_on_the_processor(exported):
    """Wherever the towers run: decoding, resizing and tokenizing have no kernels elsewhere."""
    placed = {"ParallelMapDatasetV2", "TensorSliceDataset", "FastWordpieceTokenizeWithOffsets"}
    saved = saved_model_pb2.SavedModel.FromString((exported / "1/saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    nodes = [n for function in functions for n in function.node_def if n.op in placed]
    assert {node.op for node in nodes} == placed
    assert {node.device for node in nodes} == {"/device:CPU:0"}


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
    with pytest.raises(FileNotFoundError, match="does not exist"):
        version_directory(tmp_path / "nowhere")
