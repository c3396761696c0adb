"""The benchmark of quality: its table, its recall against the library, what it says is missing."""

import numpy as np
import pytest

from benchmarks.quality import Row, main, recall_at_10, table
from benchmarks.shared_towers import opened
from tfclip.evaluation.datasets.multilabel_images import labelled_records
from tfclip.evaluation.embedding.cache import ModelEmbeddings
from tfclip.evaluation.metrics.retrieval import retrieval_metrics
from tfclip.make_records import main as make_records
from tfclip.models.saving import load_model, save_model


def test_hits_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(60, 5)), rng.normal(size=(180, 5))
    owner = np.repeat(np.arange(60), 3)
    found = [float(hits.mean()) for hits in recall_at_10(images, texts, owner)]
    expected = retrieval_metrics(images, texts, owner)
    assert found == [expected["image_to_text"]["r10"], expected["text_to_image"]["r10"]]
    assert 0 < min(found) < max(found) < 1


@pytest.mark.slow
def test_runs_with_equal_towers_share_features_and_keep_their_heads(tiny_run, drawn_sets, tmp_path):
    """Embeddings from shared features equal those that each model computes by itself."""
    other = tmp_path / "other"
    model = load_model(tiny_run)
    for weight in model.dual_encoder.image_head.weights:
        weight.assign(weight + 0.1)
    save_model(other / "best", model)
    runs = opened([tiny_run, other])
    assert runs[0].tower is runs[1].tower
    words = ["voc", "--data", str(drawn_sets / "voc"), "--out", str(tmp_path / "voc")]
    assert make_records([*words, "--workers", "1", "--splits", "val"]) == 0
    pictures = labelled_records(tmp_path / "voc", "val")
    found = []
    for run, path in zip(runs, (tiny_run, other), strict=True):
        alone = ModelEmbeddings(load_model(path))
        for one, two in zip(run.views(pictures, "1+4"), alone.views(pictures, "1+4"), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)
        texts = ["a red circle", "a blue square and a star"]
        np.testing.assert_allclose(run.texts(texts), alone.texts(texts), atol=1e-5)
        found.append(run.views(pictures, "1")[1])
    assert not np.allclose(*found, atol=1e-3)
    for weight in model.dual_encoder.image_tower.weights[:1]:
        weight.assign(weight + 0.1)
    save_model(other / "best", model)
    runs = opened([tiny_run, other])
    assert runs[0].tower is not runs[1].tower


def test_the_table_says_what_was_seen():
    rows = [
        Row("mAP", "VOC2012 train+val", 471, "one", [60.0, 62.0, 64.0], [58.5, 61.25]),
        Row("top-1", "CIFAR-10", 2000, "one", [50.0]),
    ]
    told = table(rows).splitlines()
    assert told[2] == (
        "| mAP | VOC2012 train+val | 471 | one | 62.0 +- 2.0 | 58.5 to 61.2 | looked at |"
    )
    assert told[3].endswith("| 50.0 |  | no |")


def test_missing_runs_are_named(tmp_path, capsys):
    assert main([str(tmp_path / "nothing"), "--data", str(tmp_path)]) == 2
    assert "no run at" in capsys.readouterr().err
