"""The terms of the report page: the label of each, and what it means in plain words."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """A term as it is shown, and its explanation."""

    label: str
    meaning: str


TERMS = {
    "cosine": Term(
        "cosine",
        "The similarity of a picture and a text: the cosine of the angle between their embeddings, "
        "-1 to 1. It is the score of a class.",
    ),
    "threshold": Term(
        "threshold",
        "The least score with which a class is predicted. A lower one finds more, a higher one is "
        "wrong less often.",
    ),
    "positives": Term("positives", "The number of pictures that show the class."),
    "accuracy": Term(
        "accuracy",
        "The share of all decisions that are right. Where a class is rare, predicting nothing "
        "already gives a high accuracy.",
    ),
    "sensitivity": Term(
        "sensitivity",
        "Of the pictures that show a class, the share for which it is predicted. Also: recall, "
        "true-positive rate.",
    ),
    "specificity": Term(
        "specificity",
        "Of the pictures that do not show a class, the share for which it is not predicted. "
        "1 - specificity is the false-positive rate.",
    ),
    "precision": Term(
        "precision", "Of the pictures for which a class is predicted, the share that show it."
    ),
    "f1": Term("F1", "The harmonic mean of precision and sensitivity."),
    "youden": Term("Youden's index", "Sensitivity + specificity - 1."),
    "tp": Term("TP", "True positives: shown and predicted."),
    "fp": Term("FP", "False positives: predicted and not shown."),
    "fn": Term("FN", "False negatives: shown and not predicted."),
    "tn": Term("TN", "True negatives: neither shown nor predicted."),
    "ap": Term(
        "AP",
        "Average precision: the precision in the mean over all recalls, as pictures are ranked by "
        "the score of a class. It needs no threshold. Difficult objects count as shown.",
    ),
    "ap_voc07": Term(
        "AP (VOC2007)",
        "Average precision as VOC2007 defines it: over 11 recalls, difficult objects left out.",
    ),
    "map": Term("mAP", "Mean average precision: the mean of AP over the classes."),
    "macro": Term("macro", "The mean of a figure over the classes, each counted alike."),
    "micro": Term("micro", "A figure over the decisions of all classes together."),
    "difficult": Term(
        "difficult",
        "Marked in the data as hard to recognise. Decisions on difficult objects are not counted.",
    ),
    "global": Term("global", "One threshold for all classes."),
    "shrunk": Term(
        "shrunk",
        "Thresholds of classes with few positives are drawn towards one for all classes, as far as "
        "cross-validation supports it.",
    ),
    "softmax": Term(
        "softmax",
        "The scores of a picture made shares that sum to 1 over the classes, at the temperature of "
        "the model.",
    ),
    "oracle": Term(
        "oracle",
        "Thresholds fitted on the very pictures that are reported: an upper bound, used for "
        "nothing.",
    ),
    "tiles": Term(
        "tiles", "Overlapping crops of a picture that are scored beside the whole picture."
    ),
    "never_trained": Term("never trained (*)", "Classes that no training picture named."),
    "calibration_error": Term(
        "calibration error",
        "The mean difference between predicted probabilities and how often the class is there. "
        "0 is best.",
    ),
    "interval": Term(
        "95 % interval",
        "Where the figure lies in 95 % of bootstrap resamples of the pictures: the uncertainty of "
        "a finite number of pictures.",
    ),
    "r1": Term("R@1", "Recall at 1: the share of queries whose first hit is right."),
    "r5": Term("R@5", "Recall at 5: the share of queries with a right hit among the first 5."),
    "r10": Term("R@10", "Recall at 10: the share of queries with a right hit among the first 10."),
    "median_rank": Term(
        "median rank", "The rank of the first right hit, in the median over queries. 1 is best."
    ),
    "top_k": Term(
        "top-k accuracy", "The share of pictures whose class is among the k with the best scores."
    ),
    "spearman": Term(
        "Spearman", "Rank correlation between the model's similarities and human scores, in %."
    ),
}
