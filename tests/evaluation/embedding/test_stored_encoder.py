"""A stored encoder gives the numbers of the layers, and is used for its own model alone."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfclip.evaluation.embedding import stored_encoder
from tfclip.evaluation.embedding.cache import ModelEmbeddings, RunEmbeddings
from tfclip.evaluation.embedding.kept_arrays import FOLDER
from tfclip.evaluation.embedding.run_model import RunModel
from tfclip.evaluation.embedding.stored_encoder import StoredEncoder, encoder_arrays
from tfclip.models.saving import load_model, save_model

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
TEXTS = ["a dog", "a cat and a dog"]


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_encoder, "FEWEST_WEIGHTS", 1)
    tiny_model.dual_encoder.freeze(("text",))  # whose weights are a file of their own
    try:
        save_model(tmp_path / "run" / "best", tiny_model)
    finally:
        tiny_model.dual_encoder.freeze(())
    return tmp_path / "run"


def stored(run, modality: str):
    """The model of the second call, which must not build layers."""
    RunModel(run).for_few(modality)
    model = RunModel(run).for_few(modality)
    assert isinstance(model.dual_encoder, StoredEncoder)
    return model


def test_pictures_have_the_same_embeddings(run, tiny_model):
    model = stored(run, "image")
    expected = load_model(run).dual_encoder.encode_image(tf.constant(PIXELS))
    for count in (1, 3):  # one graph for all sizes of batches
        embedded = model.dual_encoder.encode_image(tf.constant(PIXELS[:count]))
        np.testing.assert_allclose(embedded, expected[:count], atol=1e-6)
    assert model.trained_on == tiny_model.trained_on
    scale = float(tiny_model.dual_encoder.temperature())
    assert float(model.dual_encoder.temperature()) == pytest.approx(scale)


def test_texts_have_the_same_embeddings(run, tiny_model):
    embedded = ModelEmbeddings(stored(run, "text")).texts(TEXTS)
    np.testing.assert_allclose(embedded, ModelEmbeddings(tiny_model).texts(TEXTS), atol=1e-6)
    # New texts of a run are embedded by it.
    again = RunEmbeddings(run)
    np.testing.assert_array_equal(again.texts(TEXTS), embedded)
    assert "text_side" not in vars(again.model)


def test_a_damaged_one_and_one_of_other_versions_are_made_again(run, monkeypatch):
    stored(run, "text")
    (kept,) = (run / FOLDER).rglob("encoder-*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    assert not isinstance(RunModel(run).for_few("text").dual_encoder, StoredEncoder)
    assert isinstance(RunModel(run).for_few("text").dual_encoder, StoredEncoder)
    monkeypatch.setattr(stored_encoder, "VERSIONS", "others")
    assert not isinstance(RunModel(run).for_few("text").dual_encoder, StoredEncoder)


def test_weights_that_are_not_in_the_files_are_not_stored(run, tiny_model):
    model = load_model(run, ("text",)).dual_encoder
    assert encoder_arrays(model, "text", run / "best") is not None
    kernel = model.text_head.dense.kernel
    kernel.assign(kernel + 1.0)
    assert encoder_arrays(model, "text", run / "best") is None


def test_small_ones_are_not_stored(run, monkeypatch):
    monkeypatch.setattr(stored_encoder, "FEWEST_WEIGHTS", 1000)
    for _ in range(2):
        assert not isinstance(RunModel(run).for_few("text").dual_encoder, StoredEncoder)


def test_a_run_that_was_moved_keeps_it(run, tmp_path):
    expected = stored(run, "image").dual_encoder.encode_image(tf.constant(PIXELS))
    shutil.move(run, tmp_path / "moved")
    model = RunModel(tmp_path / "moved").for_few("image").dual_encoder
    assert isinstance(model, StoredEncoder)
    np.testing.assert_array_equal(model.encode_image(tf.constant(PIXELS)), expected)
