"""Measures zero-shot classification of single-label pictures."""

from __future__ import annotations

from pathlib import Path

from tfclip.console import say
from tfclip.evaluation.datasets.class_images import LabelledClasses, labelled_folders, named_classes
from tfclip.evaluation.embedding.embed import embed_classes, embed_pictures
from tfclip.evaluation.embedding.prompts import class_prompts
from tfclip.evaluation.metrics.top_k import mean_per_class_recall, top_k
from tfclip.models.saving import TrainedModel


def evaluate_classification(
    model: TrainedModel,
    data: Path | LabelledClasses,
    *,
    templates: str = "single",
    class_names: Path | None = None,
) -> dict:
    """Measure top-1, top-5 and top-10 accuracy.

    Args:
        model: a trained model.
        data: a folder of class folders, or the result of `labelled_tfds`.
        templates: of the prompts, a name or a file.
        class_names: a file with one name per line, used instead of the data's names.

    Returns:
        `top1`, `top5`, `top10` (1 with k classes or fewer), `mean_per_class_recall`, `classes`,
        `images`, `compute`, and the arguments.

    Raises:
        FileNotFoundError, ValueError: see `labelled_folders` and `named_classes`; or no picture
            could be decoded.
    """
    if not isinstance(data, LabelledClasses):
        data = labelled_folders(data)
    names = named_classes(data, class_names)
    classes = embed_classes(model, class_prompts(names, templates, {}))
    total = len(data.truth)
    places, embeddings = embed_pictures(model, data.views(model.config.picture_size), total=total)
    skipped = total - len(places)
    if skipped:
        say(f"{skipped} of {total} pictures could not be decoded and are left out")
    scores, truth = embeddings[:, 0] @ classes.T, data.truth[places]
    return {
        **top_k(scores, truth, (1, 5, 10)),
        "mean_per_class_recall": mean_per_class_recall(scores, truth),
        "classes": len(names),
        "images": len(places),
        "skipped": skipped,
        "templates": templates,
        "data": data.reference,
        "compute": model.compute,
    }
