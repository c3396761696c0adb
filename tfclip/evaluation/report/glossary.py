"""The glossary of the report page: labels and explanations of its terms."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """The label of a term and its explanation."""

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
        "The lowest score at which a class is predicted. A lower threshold finds more positives, a "
        "higher one causes fewer false positives.",
    ),
    "positives": Term("positives", "The number of pictures that show the class."),
    "accuracy": Term(
        "accuracy",
        "The fraction of all decisions that are correct. If a class is rare, never predicting it "
        "already has a high accuracy.",
    ),
    "sensitivity": Term(
        "sensitivity",
        "The fraction of pictures with a class for which it is predicted. Also called recall or "
        "true-positive rate.",
    ),
    "specificity": Term(
        "specificity",
        "The fraction of pictures without a class for which it is not predicted; 1 minus the "
        "false-positive rate.",
    ),
    "precision": Term("precision", "The fraction of pictures with a predicted class that show it."),
    "f1": Term("F1", "The harmonic mean of precision and sensitivity."),
    "youden": Term("Youden's index", "Sensitivity + specificity - 1."),
    "tp": Term("TP", "True positives: shown and predicted."),
    "fp": Term("FP", "False positives: predicted and not shown."),
    "fn": Term("FN", "False negatives: shown and not predicted."),
    "tn": Term("TN", "True negatives: neither shown nor predicted."),
    "ap": Term(
        "AP",
        "Average precision: the mean precision over all recalls when pictures are ranked by the "
        "score of a class. It needs no threshold. Difficult objects count as positives.",
    ),
    "ap_voc07": Term(
        "AP (VOC2007)",
        "Average precision as defined by VOC2007: over 11 recalls, without difficult objects.",
    ),
    "map": Term("mAP", "Mean average precision: the mean of AP over the classes."),
    "macro": Term("macro", "The unweighted mean of a metric over the classes."),
    "micro": Term("micro", "A metric over the decisions of all classes together."),
    "difficult": Term(
        "difficult",
        "Marked in the data as hard to recognise. Decisions on difficult objects are not counted.",
    ),
    "global": Term("global", "One threshold for all classes."),
    "shrunk": Term(
        "shrunk",
        "Thresholds of classes with few positives, shrunk towards a common threshold by an amount "
        "that cross-validation chooses.",
    ),
    "softmax": Term(
        "softmax",
        "The scores of a picture, normalised to sum to 1 over the classes at the temperature of "
        "the model.",
    ),
    "oracle": Term(
        "oracle",
        "Thresholds fitted on the reported pictures themselves: an upper bound, which is not used "
        "for predictions.",
    ),
    "tiles": Term(
        "tiles", "Overlapping crops of a picture that are scored in addition to the whole picture."
    ),
    "none_of_these": Term(
        "none of these",
        "No class reaches its threshold. The rate is the fraction of pictures with this answer; "
        "precision is the fraction of those that show none of the classes; recall is the fraction "
        "of pictures without any of the classes that get this answer.",
    ),
    "never_trained": Term("never trained (*)", "Classes that do not occur in the training data."),
    "calibration_error": Term(
        "calibration error",
        "The mean difference between predicted probabilities and observed frequencies of a class. "
        "0 is best.",
    ),
    "interval": Term(
        "95 % interval",
        "The range of the metric in 95 % of bootstrap resamples of the pictures: its uncertainty "
        "due to the finite number of pictures.",
    ),
    "r1": Term("R@1", "Recall at 1: the fraction of queries whose first hit is correct."),
    "r5": Term("R@5", "Recall at 5: the fraction of queries with a correct hit in the first 5."),
    "r10": Term(
        "R@10", "Recall at 10: the fraction of queries with a correct hit in the first 10."
    ),
    "median_rank": Term(
        "median rank", "The median over queries of the rank of the first correct hit; 1 is best."
    ),
    "top_k": Term(
        "top-k accuracy",
        "The fraction of pictures whose class is among the k classes with the highest scores.",
    ),
    "spearman": Term(
        "Spearman", "Rank correlation between the model's similarities and human scores, in %."
    ),
}
