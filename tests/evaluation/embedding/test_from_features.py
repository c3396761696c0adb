"""Evaluation by stored outputs of frozen towers gives what the towers themselves give."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from tfclip.evaluation.datasets.multilabel_images import labelled_records
from tfclip.evaluation.embedding import captioned_split, embed, from_features
from tfclip.evaluation.embedding.cache import RunEmbeddings
from tfclip.evaluation.embedding.features.feature_cache import (
    Storage,
    image_features,
    text_features,
)
from tfclip.evaluation.tasks import map_during_training, retrieval
from tfclip.evaluation.tasks.map_during_training import SplitScorer
from tfclip.models.compute import BFLOAT16
from tfclip.models.saving import load_model, save_model

FROZEN = ("image", "text")


@pytest.fixture
def run(tiny_model, tmp_path):
    """A run with both towers frozen."""
    tiny_model.dual_encoder.freeze(FROZEN)
    save_model(tmp_path / "run" / "best", tiny_model)
    tiny_model.dual_encoder.freeze(())
    return tmp_path / "run"


@pytest.fixture
def no_towers(monkeypatch):
    """`no_towers()`: from now on, no picture and no text may go through a tower."""

    def forbid():
        for module in (embed, captioned_split):
            for name in ("embed_pictures", "embed_texts"):
                monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("a tower ran"))

    return forbid


def copied(records, folder):
    shutil.copytree(records, folder, ignore=shutil.ignore_patterns("features"))
    return folder


def test_retrieval_by_stored_features(run, flickr8k_records, tmp_path, no_towers):
    records = copied(flickr8k_records, tmp_path / "records")
    expected = retrieval.evaluate_retrieval(load_model(run), f"{records}:dev")
    model = load_model(run)
    image_features(model, records, "dev", "1", Storage("float32"))
    text_features(model, records, "dev", Storage("float32"))
    no_towers()
    assert retrieval.evaluate_retrieval(RunEmbeddings(run), f"{records}:dev") == expected
    first = retrieval.evaluate_retrieval(RunEmbeddings(run), f"{records}:dev", images=3)
    assert first["images"] == 3


@pytest.mark.slow
def test_a_query_bank_by_features_of_several_views(run, flickr8k_records, tmp_path, no_towers):
    records = copied(flickr8k_records, tmp_path / "records")
    dev, bank = f"{records}:dev", f"{records}:train"
    model = load_model(run)
    plain = retrieval.evaluate_retrieval(model, dev)
    expected = retrieval.evaluate_retrieval(model, dev, query_bank=bank)
    assert {**expected, "query_bank": None} == {**plain, "query_bank": None}
    assert expected["query_bank"]["split"] == "train"
    for split, views in (("train", "2"), ("dev", "1")):
        image_features(model, records, split, views, Storage("float32"))
        text_features(model, records, split, Storage("float32"))
    no_towers()
    embeddings = RunEmbeddings(run)
    assert retrieval.evaluate_retrieval(embeddings, dev, query_bank=bank) == expected
    with pytest.raises(ValueError, match="must be other records than"):
        retrieval.evaluate_retrieval(embeddings, dev, query_bank=dev)


def test_the_next_run_with_the_same_tower_reads_its_outputs(
    run, tiny_model, voc_records, tmp_path, no_towers, monkeypatch
):
    records = copied(voc_records, tmp_path / "records")
    pictures = labelled_records(records, "train+test")
    monkeypatch.setattr(from_features, "MOST_BYTES", 0)
    rows, expected = RunEmbeddings(run).views(pictures, "1")
    assert not (records / "features").exists()
    monkeypatch.undo()
    shutil.rmtree(run / "embeddings")
    stored = RunEmbeddings(run).views(pictures, "1")
    np.testing.assert_array_equal(stored[0], rows)
    np.testing.assert_allclose(stored[1], expected, atol=1e-6)
    shutil.rmtree(run / "embeddings")
    no_towers()
    np.testing.assert_array_equal(RunEmbeddings(run).views(pictures, "1")[1], stored[1])


def test_the_most_exact_ones_of_this_tower_are_taken(run, voc_records, tmp_path):
    records = copied(voc_records, tmp_path / "records")
    model = load_model(run)
    image_features(model, records, "test", "1", Storage("uint8"))
    assert from_features.stored_pictures(model, records, "test").features.dtype == np.float32
    assert from_features.stored_pictures(model, records, "train") is None
    image_features(model, records, "test", "1", Storage("float16"))
    assert from_features.stored_pictures(model, records, "test").features.dtype == np.float16
    weight = model.dual_encoder.image_tower.weights[0]
    weight.assign(weight + 1)  # not fixed, so that its weights are looked at
    assert from_features.stored_pictures(model, records, "test") is None
    other = replace(load_model(run), compute=BFLOAT16)
    assert from_features.stored_pictures(other, records, "test") is None


def test_outputs_of_a_trained_tower_are_not_stored(tiny_model, voc_records, tmp_path):
    records = copied(voc_records, tmp_path / "records")
    save_model(tmp_path / "run" / "best", tiny_model)
    RunEmbeddings(tmp_path / "run").views(labelled_records(records, "test"), "1")
    assert not (records / "features").exists()


def test_a_model_that_trains_with_a_frozen_image_tower(
    tiny_model, voc_records, flickr8k_records, tmp_path, monkeypatch
):
    """Its figures are those of its towers, and no picture goes through one."""
    captions = copied(flickr8k_records, tmp_path / "captions")
    labels = copied(voc_records, tmp_path / "labels")
    expected = retrieval.evaluate_retrieval(tiny_model, f"{captions}:dev", images=7)
    expected_map = SplitScorer(tiny_model, labels, "test").map()
    embedder = from_features.FeatureEmbedder(tiny_model.dual_encoder)

    def frozen(records, split):
        features = image_features(tiny_model, records, split, "1", Storage("float32"))
        return from_features.FrozenParts(embedder, features)

    parts = frozen(captions, "dev"), frozen(labels, "test")
    for module in (captioned_split, map_during_training):
        monkeypatch.setattr(module, "embed_pictures", lambda *_, **__: pytest.fail("a tower ran"))
    found = retrieval.evaluate_retrieval(tiny_model, f"{captions}:dev", images=7, frozen=parts[0])
    assert found == expected
    assert SplitScorer(tiny_model, labels, "test", frozen=parts[1]).map() == expected_map
