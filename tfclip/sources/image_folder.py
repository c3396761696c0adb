"""Class folders: DIR/<class>/*.jpg, or DIR/<split>/<class>/*.jpg."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in
from tfclip.sources.untrusted import find_below, missing

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
TREE = "DIR/<class name>/<picture>.jpg, or DIR/<split>/<class name>/<picture>.jpg"


def open_image_folder(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a folder of class folders, or of splits (train, val, test...) of such folders.

    The label of a picture is the name of its class folder; the picture may lie deeper. Files
    without the ending of a picture are passed over, hidden ones too. With
    `options.caption_template`, "a photo of a {}.", each picture has that caption; otherwise none.

    Raises:
        FileNotFoundError: no such folder, or no picture in class folders.
        ValueError: an unknown split, or a template without {}.
    """
    if not data.is_dir():
        raise missing(data, TREE)
    template = check_template(options.caption_template)
    folders = _folders(data)
    named = {split_in(name): name for name in folders}
    if folders and None not in named and len(named) == len(folders):
        roots = {split: data / name for split, name in named.items()}
    else:
        roots = {"train": data}
    splits = choose_splits(roots, options.splits)
    classes = tuple(sorted({name for split in splits for name in _folders(roots[split])}))
    counts = {split: sum(1 for _ in _pictures(data, roots[split])) for split in splits}
    for split in splits:
        if not counts[split]:
            raise missing(roots[split] / "<class name>/<picture>.jpg", TREE)
    read = partial(_read, data, roots, template)
    return Source("image_folder", counts, read, classes)


def check_template(template: str | None) -> str | None:
    """Return the template; ValueError when it does not hold {} once."""
    if template is not None and template.count("{}") != 1:
        raise ValueError(f"received --caption-template {template!r}; allowed: a text with one {{}}")
    return template


def class_caption(template: str, class_name: str) -> str:
    """Return the caption of a class, whose name may have "_" for spaces."""
    return template.replace("{}", class_name.replace("_", " "))


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _pictures(data: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Yield the class and the path (from `data`) of every picture, folder by folder."""
    for class_name in _folders(root):
        for path in _files(f"{root}/{class_name}"):
            yield class_name, os.path.relpath(path, data)


def _files(folder: str) -> Iterator[str]:
    # A linked folder could lead out of the data, or round in a circle.
    with os.scandir(folder) as found:
        entries = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in found)
    for name, is_folder in entries:
        if name.startswith("."):
            continue
        if is_folder:
            yield from _files(f"{folder}/{name}")
        elif os.path.splitext(name)[1].lower() in ENDINGS:
            yield f"{folder}/{name}"


def _read(
    data: Path, roots: dict[str, Path], template: str | None, split: str
) -> Iterator[Sample | Rejected]:
    for class_name, path in _pictures(data, roots[split]):
        key = f"image_folder/{path}"
        try:
            image = find_below(data, path)
        except ValueError as reason:
            yield Rejected(key, str(reason), split)
            continue
        captions = () if template is None else (class_caption(template, class_name),)
        yield Sample(key, image, captions, labels=(class_name,), split=split)
