"""Tables say what was measured, and how."""

from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.embedding.cache import ModelEmbeddings
from tfclip.evaluation.report.text_tables import (
    classification_table,
    multilabel_table,
    retrieval_table,
)
from tfclip.evaluation.tasks.multilabel import evaluate_multilabel


def test_the_multilabel_table_says_how_it_was_measured(tiny_model, voc_records):
    from tfclip.evaluation.datasets.multilabel_images import labelled_records

    found = evaluate_multilabel(
        ModelEmbeddings(tiny_model),
        labelled_records(voc_records, "test"),
        labelled_records(voc_records, "trainval"),
        MultilabelOptions(tiles="1+4"),
        never_trained=["red star", "blue triangle"],
    )
    text = " ".join(multilabel_table(found.figures).split())
    low, high = found.figures["intervals"]["map"]
    assert f"(CLIP_benchmark) {found.figures['map']:.3f} [{low:.3f}, {high:.3f}]" in text
    assert "mAP, VOC2007 11 points" in text and "softmax, global" in text
    assert "red star *" in text and "red circle *" not in text
    assert "fitted for f1 on split trainval, 40 other pictures; 2 of the 2 never-trained" in text
    shown = multilabel_table(
        found.figures
        | {"without_positives": ["red star"], "global_threshold_for": ["cat"], "skipped": 3}
    )
    assert "left out of means (no positive in test): red star" in shown
    assert "global threshold used (no positive or no negative in trainval): cat" in shown
    assert "3 pictures could not be read" in shown


def test_small_tables():
    side = {"r1": 0.25, "r5": 0.5, "r10": 1.0, "median_rank": 3.0}
    figures = {"image_to_text": side, "text_to_image": side, "images": 4, "captions": 8}
    text = retrieval_table(figures | {"records": "records/x", "split": "dev"})
    assert "image to text" in text and "0.250" in text
    assert "4 pictures, 8 captions of records/x:dev" in text
    figures = {"top1": 0.125, "top5": 1.0, "top10": float("nan"), "images": 8, "classes": 6}
    lines = classification_table(figures | {"templates": "single"}).splitlines()
    assert lines[1].split() == ["0.125", "1.000", "-"]
