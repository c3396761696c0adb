"""Describes the result of a measurement in two plain sentences for the report page."""

from __future__ import annotations

from collections.abc import Mapping

from tfclip.evaluation.decisions.thresholds import parse_objective
from tfclip.evaluation.report.glossary import TERMS


def multilabel_result(figures: Mapping) -> str:
    """Describe mean average precision, sensitivity and precision."""
    low, high = figures["intervals"]["map"]
    classes, images = figures["per_class"], figures["images"]
    prevalences = [row["positives"] / images for row in classes.values() if row["positives"]]
    chance = sum(prevalences) / max(len(prevalences), 1)
    ranking = (
        f"Over {len(classes)} classes and {images} pictures, the mean average precision is "
        f"{figures['map']:.3f} (95 % interval {low:.3f} to {high:.3f}); a random order would have "
        f"about {chance:.3f}."
    )
    macro = figures["macro"]
    sensitivity, precision = (_of_hundred(macro[metric]) for metric in ("sensitivity", "precision"))
    fitted = (
        f"thresholds fitted for {objective_name(figures['objective'])} on other pictures"
        if figures["objective"]
        else "thresholds from pictures without the classes"
    )
    return (
        f"{ranking} With {fitted}, {sensitivity} of 100 labels that a picture shows are found, and "
        f"{precision} of 100 predicted labels are right (means over the classes)."
    )


def objective_name(objective: str) -> str:
    """Return an objective in words, for example "sensitivity of at least 0.9"."""
    metric, bound = parse_objective(objective)
    label = TERMS[metric].label
    return f"the best {label}" if bound is None else f"{label} of at least {bound:g}"


def retrieval_result(figures: Mapping) -> str:
    """Describe recall at 10 in both directions."""
    images, captions = figures["images"], figures["captions"]
    to_image, to_text = (
        _of_hundred(figures[direction]["r10"]) for direction in ("text_to_image", "image_to_text")
    )
    return (
        f"Of 100 captions, {to_image} find their picture among the first 10 of {images} pictures; "
        f"by chance it would be about {_of_hundred(min(1.0, 10 / images))}. "
        f"Of 100 pictures, {to_text} find one of their captions among the first 10 of {captions}."
    )


def classification_result(figures: Mapping) -> str:
    """Describe top-1 and top-5 accuracy."""
    first, five = (_of_hundred(figures[key]) for key in ("top1", "top5"))
    return (
        f"Of 100 pictures, {first} get the right one of {figures['classes']} classes; by chance it "
        f"would be about {_of_hundred(1 / figures['classes'])}. For {five} of 100 the right class "
        "is among the first five."
    )


def sentences_result(figures: Mapping) -> str:
    """Describe the mean rank correlation with human scores."""
    spearman = figures["mean_spearman"]
    if spearman is None or spearman != spearman:
        return "No complete set of sentence pairs was measured. The table shows what there is."
    return (
        "The similarity of two sentences and the scores that people gave have a rank correlation "
        f"of {100 * spearman:.1f} %, in the mean over the data sets. 100 % would be the same order."
    )


def _of_hundred(fraction: float | None) -> str:
    if fraction is None or fraction != fraction:
        return "an unknown number"
    return f"{100 * fraction:.0f}" if fraction >= 0.01 or fraction == 0 else f"{100 * fraction:.1g}"
