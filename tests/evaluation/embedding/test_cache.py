"""What is kept beside a run: read again, not computed again, and never of another model."""

import numpy as np
import pytest

from tfclip.evaluation.datasets.multilabel_images import RecordPictures, labelled_records
from tfclip.evaluation.embedding.cache import ModelEmbeddings, RunEmbeddings
from tfclip.evaluation.embedding.kept_arrays import FOLDER
from tfclip.evaluation.embedding.run_model import RunModel
from tfclip.models.compute import instruction
from tfclip.models.saving import load_model, save_model


@pytest.fixture
def run(tiny_model, tmp_path):
    save_model(tmp_path / "run" / "best", tiny_model)
    return tmp_path / "run"


def without_model(run) -> RunEmbeddings:
    """Embeddings that fail as soon as something is not kept."""

    class Missing(RunModel):
        def _loaded(self, modalities):
            raise AssertionError("asked for the model")

    kept = RunEmbeddings(run)
    kept.model = Missing(run)
    return kept


def test_pictures_texts_and_labels_are_read_again(run, tiny_model, voc_records):
    pictures = labelled_records(voc_records, "test")
    texts = ["a dog", "a cat", "a dog"]
    first, direct = RunEmbeddings(run), ModelEmbeddings(tiny_model)
    computed = first.views(pictures, "1+4")
    expected = direct.views(pictures, "1+4")
    np.testing.assert_array_equal(computed[0], expected[0])
    np.testing.assert_allclose(computed[1], expected[1], atol=1e-6)
    np.testing.assert_allclose(first.texts(texts), direct.texts(texts), atol=1e-6)
    views = RecordPictures(((voc_records, "test"),))
    first.labels("records:test", lambda: pictures, views)
    assert first.logit_scale == pytest.approx(direct.logit_scale)

    again = without_model(run)
    np.testing.assert_array_equal(again.views(pictures, "1+4")[1], computed[1])
    np.testing.assert_array_equal(again.views(pictures, "1")[1], computed[1][:, :1])
    np.testing.assert_array_equal(again.texts(["a cat"]), first.texts(["a cat"]))
    assert again.logit_scale == first.logit_scale
    assert again.trained_on == tiny_model.trained_on
    read = again.labels("records:test", lambda: pytest.fail("read anew"), views)
    assert read.keys == pictures.keys and read.class_names == pictures.class_names
    np.testing.assert_array_equal(read.present, pictures.present)
    for asked in (
        lambda: again.texts(["a cow"]),
        lambda: again.views(pictures, "1+4+9"),
        lambda: again.views(labelled_records(voc_records, "train"), "1"),
    ):
        with pytest.raises(AssertionError, match="asked for the model"):
            asked()


def test_more_texts_are_added_and_those_too_long_refused(run):
    embeddings = RunEmbeddings(run)
    one = embeddings.texts(["a dog"])
    both = embeddings.texts(["a cat", "a dog"])
    np.testing.assert_array_equal(both[1], one[0])
    # Refused again without the model.
    for asked in (embeddings, without_model(run)):
        with pytest.raises(ValueError, match="takes 62 tokens; this model reads at most 32"):
            asked.texts(["a" * 60])
    assert without_model(run).texts(["a dog", "a cat"]).shape == (2, 16)


def test_a_damaged_file_is_computed_anew(run):
    embeddings = RunEmbeddings(run)
    first = embeddings.texts(["a dog"])
    (kept,) = (run / FOLDER).rglob("texts.npz")
    for damage in (b"", kept.read_bytes()[:100], b"no archive"):
        kept.write_bytes(damage)
        np.testing.assert_array_equal(embeddings.texts(["a dog"]), first)


def test_a_model_trained_anew_has_none_of_it(run, tiny_model):
    embeddings = RunEmbeddings(run)
    before = embeddings.texts(["a dog"])
    head = tiny_model.dual_encoder.text_head.dense.kernel
    kept = head.numpy()
    try:
        head.assign(np.random.default_rng(0).normal(size=kept.shape))
        save_model(run / "best", tiny_model)
        after = RunEmbeddings(run).texts(["a dog"])
    finally:
        head.assign(kept)
    assert np.abs(after - before).max() > 0.01
    assert len(list((run / FOLDER).iterdir())) == 1


def test_embeddings_of_another_format_are_kept_apart(run, voc_records):
    pytest.importorskip("openvino")
    engine = "bfloat16" if instruction() else "float32-openvino"
    pictures = labelled_records(voc_records, "test")
    exact = RunEmbeddings(run).views(pictures, "1")[1]
    half = RunEmbeddings(run, engine)
    embedded = half.views(pictures, "1")[1]
    assert 0 < np.abs(embedded - exact).max() < 0.02
    np.testing.assert_array_equal(without_model(run).views(pictures, "1")[1], exact)
    again = RunEmbeddings(run, engine).views(pictures, "1")[1]
    np.testing.assert_array_equal(again, embedded)
    # No measured tower: auto is float32.
    assert RunEmbeddings(run, "auto").compute == "float32"


def test_what_cannot_be_kept_is_computed_all_the_same(run, tiny_model, monkeypatch, capsys):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("tfclip.files.new_file", refuse)  # the tests may run as root
    expected = ModelEmbeddings(tiny_model).texts(["a dog"])
    np.testing.assert_allclose(RunEmbeddings(run).texts(["a dog"]), expected, atol=1e-6)
    assert "cannot be written" in capsys.readouterr().err
    assert not (run / FOLDER).exists()


def test_one_tower_alone_gives_the_embeddings_of_the_whole_model(run, tiny_model):
    texts, pictures = (load_model(run, modalities=(one,)) for one in ("text", "image"))
    assert not hasattr(texts.dual_encoder, "image_tower")
    assert not hasattr(pictures.dual_encoder, "text_tower")
    few, many = ["a dog"], [f"a dog {'abcdefghijklmnopqrst'[n]}" for n in range(20)]
    expected = ModelEmbeddings(tiny_model).texts([*few, *many])
    # A few texts without a graph, many with one.
    np.testing.assert_allclose(ModelEmbeddings(texts).texts(few), expected[:1], atol=1e-6)
    np.testing.assert_allclose(ModelEmbeddings(texts).texts(many), expected[1:], atol=1e-6)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(
        pictures.dual_encoder.encode_image(pixels),
        tiny_model.dual_encoder.encode_image(pixels),
        atol=1e-6,
    )
    assert texts.dual_encoder.count_params() < load_model(run).dual_encoder.count_params()
