"""Zero-shot classification of pictures that show one class each."""

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
    """Measure how often the right class is among the most similar ones.

    Args:
        model: a trained model.
        data: a folder of class folders, or what `labelled_tfds` opened.
        templates: of the prompts, by name.
        class_names: a file with a name per line, to use instead of the data's.

    Returns:
        `top1`, `top5`, `top10` (with k classes or fewer the top k are always right), `classes` and
        `images`, and what was asked for.

    Raises:
        FileNotFoundError, ValueError: see `labelled_folders` and `named_classes`; or no picture
            could be read.
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
    }
