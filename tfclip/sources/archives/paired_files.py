"""Pictures with text files of the same name, as img2dataset's output format "files"."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tfclip.sources.annotations.caption_json import MAX_TEXT_BYTES, json_captions
from tfclip.sources.image_folder import ENDINGS, report_ignored
from tfclip.sources.safe_paths import cache_blobs, find_below, keep_captions, missing
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in

TREE = "DIR/NAME.jpg with DIR/NAME.txt or DIR/NAME.json, in folders of any depth"


def open_image_text(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a folder of pictures, each with a text or a JSON object of the same name.

    The caption is the text of NAME.txt; or the captions are a text or list of texts in NAME.json,
    in the fields `options.caption_fields` (by default caption, captions or text). The split is
    named by a folder above the picture, and is train otherwise.

    Raises:
        FileNotFoundError: no such folder, or no picture with a text.
        ValueError: an unknown split.
    """
    if not data.is_dir():
        raise missing(data, TREE)
    stores = cache_blobs(data) if options.follow_links else ()
    counts: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    with_text = 0
    for split, _, texts in _pictures(data, ignored):
        counts[split] += 1
        with_text += bool(texts)
    if not with_text:
        raise missing(data / "NAME.jpg and NAME.txt", TREE)
    report_ignored(data, ignored)
    splits = choose_splits(counts, options.splits)

    def read(split: str) -> Iterator[Sample | Rejected]:
        for own_split, name, texts in _pictures(data):
            if own_split != split:
                continue
            key = f"image_text/{name}"
            try:
                image = find_below(data, name, stores)
                stem = os.path.splitext(name)[0]
                captions, dropped = keep_captions(
                    _captions(data, stem, texts, options.caption_fields)
                )
            except (ValueError, OSError) as reason:
                yield Rejected(key, str(reason), split)
                continue
            yield Sample(key, image, captions, split=split, dropped=dropped)

    return Source("image_text", {split: counts[split] for split in splits}, read)


def _pictures(
    data: Path, ignored: Counter[str] | None = None, below: str = ""
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the split, the path and the extensions of the text files of every picture, folder by
    folder; count the other files in `ignored` by extension."""
    with os.scandir(data / below) as entries:
        listed = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries)
    names = {name for name, is_folder in listed if not is_folder}
    split = next(filter(None, map(split_in, reversed(below.split("/")))), "train")
    for name, is_folder in listed:
        stem, ending = os.path.splitext(name)
        if name.startswith("."):
            continue
        if is_folder:
            yield from _pictures(data, ignored, f"{below}{name}/")
        elif ending.lower() in ENDINGS:
            texts = tuple(kind for kind in (".txt", ".json") if stem + kind in names)
            yield split, below + name, texts
        elif ignored is not None and ending not in (".txt", ".json"):
            ignored[ending or "without an extension"] += 1


def _captions(data: Path, stem: str, texts: tuple[str, ...], fields: tuple[str, ...]) -> list:
    if ".txt" in texts and not fields:
        content = _read(find_below(data, f"{stem}.txt"))
        return [content.decode("utf-8-sig", errors="surrogateescape").rstrip("\n")]
    if ".json" not in texts:
        raise ValueError("no text: there is neither NAME.txt nor NAME.json")
    return json_captions(_read(find_below(data, f"{stem}.json")), fields)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise ValueError(f"{path.suffix} of more than {MAX_TEXT_BYTES:,} bytes")
    return content
