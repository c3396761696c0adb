"""The benchmark of quality: its table, its recall against the library, what it says is missing."""

import numpy as np

from benchmarks.quality import Row, main, recall_at_10, table
from tfclip.evaluation.metrics.retrieval import retrieval_metrics


def test_hits_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(60, 5)), rng.normal(size=(180, 5))
    owner = np.repeat(np.arange(60), 3)
    found = [float(hits.mean()) for hits in recall_at_10(images, texts, owner)]
    expected = retrieval_metrics(images, texts, owner)
    assert found == [expected["image_to_text"]["r10"], expected["text_to_image"]["r10"]]
    assert 0 < min(found) < max(found) < 1


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
