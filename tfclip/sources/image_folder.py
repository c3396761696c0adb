"""Pictures in class folders: DIR/<class>/*.jpg, or DIR/<split>/<class>/*.jpg."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tfclip.console import say
from tfclip.sources.safe_paths import cache_blobs, find_below, missing
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in

ENDINGS = tuple(".jpg .jpeg .jpe .jfif .png .gif .bmp .webp .tif .tiff .heic .heif .avif".split())
"""Extensions of picture files, matched without case. The format itself is read from the content."""
TREE = "DIR/<class name>/<picture>.jpg, or DIR/<split>/<class name>/<picture>.jpg"


def open_image_folder(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a folder of class folders, or of split folders (train, val, test...) of them.

    The label of a picture is the name of its class folder; the picture may be in a folder below it.
    A single folder around all others is entered, and folders beside splits (see `_roots`) are
    ignored; both are reported. Hidden files and folders are skipped, and so are files without a
    picture's extension, whose number is reported. With `options.caption_template`, for example
    "a photo of a {}.", each picture gets that caption; otherwise none.

    Raises:
        FileNotFoundError: no such folder, or no picture in class folders.
        ValueError: an unknown split, or a template without {}.
    """
    if not data.is_dir():
        raise missing(data, TREE)
    template = check_template(options.caption_template)
    roots = _roots(data)
    splits = choose_splits(roots, options.splits)
    classes = tuple(sorted({name for split in splits for name in _folders(roots[split])}))
    ignored: Counter[str] = Counter()
    counts = {split: sum(1 for _ in _pictures(data, roots[split], ignored)) for split in splits}
    report_ignored(data, ignored)
    for split in splits:
        if not counts[split]:
            raise missing(roots[split] / "<class name>/<picture>.jpg", TREE)
    stores = cache_blobs(data) if options.follow_links else ()
    read = partial(_read, data, stores, roots, template)
    return Source("image_folder", counts, read, classes)


def _roots(data: Path) -> dict[str, Path]:
    """Return the folders of class folders by split.

    All folders name splits, or two or more do and hold folders alone: then the others are ignored,
    which is reported. A single folder around everything is entered.
    """
    folders = _folders(data)
    by_split = {split: name for name in folders if (split := split_in(name))}
    others = sorted(set(folders) - set(by_split.values()))
    if not others and by_split:
        return {split: data / name for split, name in by_split.items()}
    if len(by_split) > 1 and all(_holds_folders(data / name) for name in by_split.values()):
        names = ", ".join(sorted(by_split.values()))
        say(f"{data}: splits are {names}; ignored: {list_names(others)}")
        return {split: data / name for split, name in by_split.items()}
    if len(folders) == 1 and _holds_folders(data / folders[0]):
        say(f"{data}: the classes are the folders in {data / folders[0]}")
        return _roots(data / folders[0])
    return {"train": data}


def _holds_folders(folder: Path) -> bool:
    """Return whether a folder holds folders, and no picture beside them."""
    with os.scandir(folder) as listing:
        entries = [entry for entry in listing if not entry.name.startswith(".")]
    pictures = any(os.path.splitext(entry.name)[1].lower() in ENDINGS for entry in entries)
    return not pictures and any(entry.is_dir() for entry in entries)


def list_names(names: list[str]) -> str:
    """Return the first eight names, for a message."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def check_template(template: str | None) -> str | None:
    """Return the template; ValueError when it does not contain {} exactly once."""
    if template is not None and template.count("{}") != 1:
        raise ValueError(
            f"received --caption-template {template!r}; allowed: a text with exactly one {{}}"
        )
    return template


def class_caption(template: str, class_name: str) -> str:
    """Return the caption of a class; "_" in its name becomes a space.

    >>> class_caption("a photo of a {}.", "fire_truck")
    'a photo of a fire truck.'
    """
    return template.replace("{}", class_name.replace("_", " "))


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def class_pictures(data: Path) -> dict[str, list[Path]]:
    """Return the pictures of every class folder that is not empty, as `open_image_folder` reads
    them.

    Pictures that it would reject are reported and omitted, and the number of other files is
    reported.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it holds several splits.
    """
    if not data.is_dir():
        raise missing(data, TREE)
    ignored: Counter[str] = Counter()
    pictures: dict[str, list[Path]] = {}
    roots = _roots(data)
    if len(roots) > 1:
        places = ", ".join(f"--data {root}" for root in roots.values())
        raise ValueError(f"{data} holds splits of class folders; give one of them: {places}")
    for class_name, path in _pictures(data, next(iter(roots.values())), ignored):
        try:
            pictures.setdefault(class_name, []).append(find_below(data, path))
        except ValueError as reason:
            say(f"{data}: excluded: {reason}")
    report_ignored(data, ignored)
    return {name: paths for name, paths in pictures.items() if paths}


def report_ignored(data: Path, ignored: Counter[str]) -> None:
    """Report how many files are ignored because of their extension."""
    if ignored:
        kinds = ", ".join(f"{count:,} {ending}" for ending, count in ignored.most_common(8))
        say(f"{data}: {ignored.total():,} files without a picture's extension are ignored: {kinds}")


def _pictures(
    data: Path, root: Path, ignored: Counter[str] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the class and the path (relative to `data`) of every picture, folder by folder; count
    the other files in `ignored` by extension."""
    for class_name in _folders(root):
        for path in _files(f"{root}/{class_name}", ignored):
            yield class_name, os.path.relpath(path, data)


def _files(folder: str, ignored: Counter[str] | None = None) -> Iterator[str]:
    # A linked folder could lead out of the data, or into a cycle.
    with os.scandir(folder) as listing:
        entries = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in listing)
    for name, is_folder in entries:
        ending = os.path.splitext(name)[1].lower()
        if name.startswith("."):
            continue
        if is_folder:
            yield from _files(f"{folder}/{name}", ignored)
        elif ending in ENDINGS:
            yield f"{folder}/{name}"
        elif ignored is not None:
            ignored[ending or "without an extension"] += 1


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
