"""Class names as sentences: templates by name, and readable names for Pascal VOC."""

from collections.abc import Sequence

from tfclip.naming import unknown

TEMPLATES: dict[str, tuple[str, ...]] = {
    "single": ("a photo of a {}.",),
    # CLIP_benchmark's list for VOC2007 is the single one (its en_zeroshot_classification_templates,
    # "voc2007_multilabel"), filled with the official names.
    "voc": ("a photo of a {}.",),
    "short": ("{}",),
    "region": ("the {}",),
}

READABLE = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "television",
}
"""Official names of VOC that captions rarely use, and the words that they do use."""


def templates_by_name(name: str) -> tuple[str, ...]:
    """Return the templates of that name, each with one {} for the class.

    Raises:
        ValueError: an unknown name; lists the known ones.
    """
    if name not in TEMPLATES:
        raise unknown("templates", name, TEMPLATES)
    return TEMPLATES[name]


def prompts(class_name: str, templates: Sequence[str]) -> list[str]:
    """Return the class name in every template, in their order; nothing else is changed.

    Raises:
        ValueError: a template without {}, which would say the same of every class.
    """
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"template {template!r} has no {{}} for the class name")
    return [template.replace("{}", class_name) for template in templates]


def readable_names(class_names: Sequence[str]) -> list[str]:
    """Return the names as captions have them; names that are not VOC's stay as they are."""
    return [READABLE.get(name, name) for name in class_names]
