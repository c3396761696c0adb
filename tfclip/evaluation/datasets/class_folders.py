"""Checks class folders and TFDS names without importing TensorFlow."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from tfclip.sources.image_folder import ENDINGS, class_pictures

# TFDS itself has NAME, NAME/CONFIG and NAME:VERSION; the split comes last and may be a slice.
NAME = r"(?P<name>[^:\[\]]+(:\d+\.\d+\.\d+)?)"
SPLIT = r"(?P<split>[^:\[\]]+(\[[^\[\]]*\])?)"
REFERENCE = re.compile(f"{NAME}(:{SPLIT})?")


def class_folders(data: Path) -> dict[str, list[Path]]:
    """Return the picture files of every class folder, both in alphabetical order.

    They are the classes and files that `make_records image_folder` packs.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer than two class folders with pictures.
    """
    data = Path(data)
    tree = "DIR/<class name>/<picture>.jpg (or " + ", ".join(ENDINGS[1:]) + ")"
    if not data.is_dir():
        raise FileNotFoundError(f"no folder at {data}; expected {tree}")
    folders = class_pictures(data)
    if len(folders) < 2:
        raise ValueError(
            f"{data} has {len(folders)} class folders with pictures, at least 2 are needed; "
            f"expected {tree}"
        )
    return folders


def tfds_reference(reference: str) -> tuple[str, str]:
    """Split NAME[:SPLIT] into name and split; the default split is "test".

    NAME may include TFDS' configuration and version (`NAME/CONFIG:1.0.0`); SPLIT may be a slice.

    Raises:
        ValueError: the reference has another form, or tensorflow-datasets is not installed.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(
            f"received --tfds {reference!r}; allowed: NAME or NAME:SPLIT, such as cifar10:test"
        )
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ValueError("--tfds needs tensorflow-datasets; run pip install -e '.[datasets]'")
    return match["name"], match["split"] or "test"
