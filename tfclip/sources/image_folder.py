"""Class folders: DIR/<class>/*.jpg, or DIR/<split>/<class>/*.jpg."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tfclip.console import say
from tfclip.sources.safe_paths import find_below, missing, own_store
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in

ENDINGS = tuple(".jpg .jpeg .jpe .jfif .png .gif .bmp .webp .tif .tiff .heic .heif .avif".split())
"""Names of pictures, in any case of letters; what is in a file is told by its content alone."""
TREE = "DIR/<class name>/<picture>.jpg, or DIR/<split>/<class name>/<picture>.jpg"


def open_image_folder(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a folder of class folders, or of splits (train, val, test...) of such folders.

    The label of a picture is the name of its class folder; the picture may lie deeper. Files
    without the ending of a picture are passed over, which is said; hidden files and folders are
    passed over too. With
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
    passed: Counter[str] = Counter()
    counts = {split: sum(1 for _ in _pictures(data, roots[split], passed)) for split in splits}
    tell_passed_over(data, passed)
    for split in splits:
        if not counts[split]:
            raise missing(roots[split] / "<class name>/<picture>.jpg", TREE)
    stores = own_store(data) if options.follow_links else ()
    read = partial(_read, data, stores, roots, template)
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


def class_pictures(data: Path) -> dict[str, list[Path]]:
    """Return the pictures of every class folder that has some, as `open_image_folder` reads them;
    what it would reject or pass over is said and left out.

    Raises:
        FileNotFoundError: no such folder.
    """
    if not data.is_dir():
        raise missing(data, TREE)
    passed: Counter[str] = Counter()
    found: dict[str, list[Path]] = {}
    for class_name, path in _pictures(data, data, passed):
        try:
            found.setdefault(class_name, []).append(find_below(data, path))
        except ValueError as reason:
            say(f"left out: {reason}")
    tell_passed_over(data, passed)
    return {name: paths for name, paths in found.items() if paths}


def tell_passed_over(data: Path, passed: Counter[str]) -> None:
    """Say how many files are passed over, by their endings."""
    if passed:
        kinds = ", ".join(f"{count:,} {ending}" for ending, count in passed.most_common(8))
        say(f"{data}: {passed.total():,} files have no picture's ending and are not read: {kinds}")


def _pictures(
    data: Path, root: Path, passed: Counter[str] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the class and the path (from `data`) of every picture, folder by folder; count the
    other files in `passed`."""
    for class_name in _folders(root):
        for path in _files(f"{root}/{class_name}", passed):
            yield class_name, os.path.relpath(path, data)


def _files(folder: str, passed: Counter[str] | None = None) -> Iterator[str]:
    # A linked folder could lead out of the data, or round in a circle.
    with os.scandir(folder) as found:
        entries = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in found)
    for name, is_folder in entries:
        ending = os.path.splitext(name)[1].lower()
        if name.startswith("."):
            continue
        if is_folder:
            yield from _files(f"{folder}/{name}", passed)
        elif ending in ENDINGS:
            yield f"{folder}/{name}"
        elif passed is not None:
            passed[ending or "without an ending"] += 1


def _read(
    data: Path,
    stores: tuple[Path, ...],
    roots: dict[str, Path],
    template: str | None,
    split: str,
) -> Iterator[Sample | Rejected]:
    for class_name, path in _pictures(data, roots[split]):
        key = f"image_folder/{path}"
        try:
            image = find_below(data, path, stores)
        except ValueError as reason:
            yield Rejected(key, str(reason), split)
            continue
        captions = () if template is None else (class_caption(template, class_name),)
        yield Sample(key, image, captions, labels=(class_name,), split=split)
