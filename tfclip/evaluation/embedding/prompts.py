"""Makes prompts of class names: named templates, readable VOC names, synonyms from a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfclip.evaluation.embedding.openai_templates import IMAGENET_TEMPLATES
from tfclip.naming import unknown
from tfclip.text_lists import read_lines

TEMPLATES: dict[str, tuple[str, ...]] = {
    "single": ("a photo of a {}.",),
    # CLIP_benchmark's list for VOC2007 is the single one (its en_zeroshot_classification_templates,
    # "voc2007_multilabel"), filled with the official names.
    "voc": ("a photo of a {}.",),
    "openai": IMAGENET_TEMPLATES,
    "short": ("{}",),
    "region": ("the {}",),
}
OFFICIAL_NAMES = ("voc",)
"""Templates that are filled with the data set's own class names, never with readable ones."""

READABLE = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "television",
}
"""VOC's official names that captions rarely use, and the usual words."""


def templates_by_name(name: str) -> tuple[str, ...]:
    """Return the templates of that name, or those of a text file with one template per line.

    Raises:
        ValueError: the name is unknown and no file, or a line has not exactly one {}.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = Path(name)
    if not path.is_file():
        error = unknown("templates", name, TEMPLATES)
        raise ValueError(f"{error}; or a text file with one prompt a line, {{}} for the class")
    lines = [line for line in read_lines(path) if line]
    if bad := [line for line in lines if line.count("{}") != 1]:
        raise ValueError(f"{path}: allowed are lines with one {{}}, received {bad[0][:100]!r}")
    if not lines:
        raise ValueError(f"{path} holds no prompt; it takes one a line, {{}} for the class")
    return tuple(lines)


def prompts(class_name: str, templates: Sequence[str]) -> list[str]:
    """Return every template filled with the class name, in their order.

    >>> prompts("dog", ["a photo of a {}.", "the {}"])
    ['a photo of a dog.', 'the dog']

    Raises:
        ValueError: a template has no {}.
    """
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"template {template!r} has no {{}} for the class name")
    return [template.replace("{}", class_name) for template in templates]


def readable_names(class_names: Sequence[str]) -> list[str]:
    """Return the usual words for VOC's official names; other names are unchanged."""
    return [READABLE.get(name, name) for name in class_names]


def class_prompts(
    class_names: Sequence[str], templates: str, synonyms: Mapping[str, Sequence[str]]
) -> list[tuple[str, ...]]:
    """Return, for each class, all prompts whose embeddings are averaged.

    Args:
        class_names: as the data set spells them.
        templates: a name or a file, see `templates_by_name`; those of `OFFICIAL_NAMES` are filled
            with the names as given, others with readable ones.
        synonyms: words that replace a class name, by class name.

    Raises:
        ValueError: unknown templates.
    """
    filled = templates_by_name(templates)
    official = templates in OFFICIAL_NAMES
    texts = []
    for name, readable in zip(class_names, readable_names(class_names), strict=True):
        words = synonyms.get(name, (name if official else readable,))
        texts.append(tuple(text for word in words for text in prompts(word, filled)))
    return texts


def mean_embeddings(embeddings: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Return the normalised mean of the rows of each class (Radford et al. 2021, 3.1.4).

    Args:
        embeddings: (M,D), sorted by class.
        counts: the number of rows of each of C classes, M in all.

    Returns:
        (C,D) of the same dtype.
    """
    ends = np.cumsum(counts)[:-1]
    means = np.stack([rows.mean(axis=0) for rows in np.split(embeddings, ends)])
    return means / np.maximum(np.linalg.norm(means, axis=-1, keepdims=True), 1e-12)
