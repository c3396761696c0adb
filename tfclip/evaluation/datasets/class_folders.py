"""Where pictures of one class each lie, checked without TensorFlow: folders, or a TFDS name."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from tfclip.sources.image_folder import ENDINGS, class_pictures

# NAME, NAME/CONFIG and NAME:VERSION are TFDS' own; the split comes last, and may be a slice.
NAME = r"(?P<name>[^:\[\]]+(:\d+\.\d+\.\d+)?)"
SPLIT = r"(?P<split>[^:\[\]]+(\[[^\[\]]*\])?)"
REFERENCE = re.compile(f"{NAME}(:{SPLIT})?")


def class_folders(data: Path) -> dict[str, list[Path]]:
    """The picture files of every class folder, both in alphabetical order: the classes and files
    that `make_records image_folder` packs.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer than two class folders with pictures.
    """
    data = Path(data)
    tree = "DIR/<class name>/<picture>.jpg (or " + ", ".join(ENDINGS[1:]) + ")"
    if not data.is_dir():
        raise FileNotFoundError(f"no folder at {data}; expected {tree}")
    filled = class_pictures(data)
    if len(filled) < 2:
        raise ValueError(
            f"{data} has {len(filled)} class folders with pictures, at least 2 are needed; "
            f"expected {tree}"
        )
    return filled


def tfds_reference(reference: str) -> tuple[str, str]:
    """Cut NAME[:SPLIT] in two; the split is test when not given.

    NAME may have TFDS' configuration and version, `NAME/CONFIG:1.0.0`; SPLIT may be a slice.

    Raises:
        ValueError: for anything else, or when tensorflow-datasets is not installed.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(
            f"received --tfds {reference!r}; allowed: NAME or NAME:SPLIT, such as cifar10:test"
        )
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ValueError("--tfds needs tensorflow-datasets; run pip install -e '.[datasets]'")
    return match["name"], match["split"] or "test"
