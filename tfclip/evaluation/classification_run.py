"""Zero-shot classification of a folder of class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfclip.console import say
from tfclip.evaluation.classification import top_k
from tfclip.evaluation.prompts import readable_names, templates_by_name
from tfclip.evaluation.zero_shot import class_embeddings, embed_pictures, file_views, view_scores
from tfclip.models.saved import TrainedModel

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")


def class_folders(data: Path) -> dict[str, list[Path]]:
    """The picture files of every class folder, both in alphabetical order.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer than two class folders with pictures.
    """
    data = Path(data)
    tree = "DIR/<class name>/<picture>.jpg (or " + ", ".join(ENDINGS[1:]) + ")"
    if not data.is_dir():
        raise FileNotFoundError(f"no folder at {data}; expected {tree}")
    listed = {
        folder.name: sorted(
            path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file()
        )
        for folder in sorted(data.iterdir())
        if folder.is_dir()
    }
    filled = {name: paths for name, paths in listed.items() if paths}
    if len(filled) < 2:
        raise ValueError(
            f"{data} has {len(filled)} class folders with pictures, at least 2 are needed; "
            f"expected {tree}"
        )
    return filled


def evaluate_classification(model: TrainedModel, data: Path, *, templates: str = "single") -> dict:
    """Measure how often the right class is among the most similar ones.

    Args:
        model: a trained model.
        data: a folder of class folders; the folders' names are the classes.
        templates: of the prompts, by name.

    Returns:
        `top1`, `top5`, `top10`, `classes` and `images`, and what was asked for.

    Raises:
        FileNotFoundError, ValueError: see `class_folders`; or no picture could be read.
    """
    folders = class_folders(data)
    paths = [path for listed in folders.values() for path in listed]
    truth = np.repeat(np.arange(len(folders)), [len(listed) for listed in folders.values()])
    names = readable_names([name.replace("_", " ") for name in folders])
    classes = class_embeddings(model, names, templates_by_name(templates))
    views = file_views(paths, model.config.image_size)
    rows, embeddings = embed_pictures(model, views, total=len(paths))
    skipped = len(paths) - len(rows)
    if skipped:
        say(f"{skipped} of {len(paths)} files could not be decoded and are left out")
    return {
        **top_k(view_scores(embeddings, classes)[:, 0], truth[rows], (1, 5, 10)),
        "classes": len(folders),
        "images": len(rows),
        "skipped": skipped,
        "templates": templates,
        "data": str(data),
    }
