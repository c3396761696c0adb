"""Pictures with their texts in files of the same name, as img2dataset's layout "files" has them."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfclip.sources.image_folder import ENDINGS, tell_passed_over
from tfclip.sources.safe_paths import find_below, keep_captions, missing, own_store
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in

TREE = "DIR/NAME.jpg with DIR/NAME.txt or DIR/NAME.json, in folders of any depth"
FIELDS = ("caption", "captions", "text")
MAX_TEXT_BYTES = 1_000_000


def open_image_text(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a folder of pictures, each with a text or a JSON object of the same name.

    The caption is the text of NAME.txt, or a text or list of texts in NAME.json, in the fields
    `options.caption_fields` (caption, captions or text by default). The split is what the folder
    speaks of, else train.

    Raises:
        FileNotFoundError: no such folder, or no picture with a text.
        ValueError: an unknown split.
    """
    if not data.is_dir():
        raise missing(data, TREE)
    stores = own_store(data) if options.follow_links else ()
    counts: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    texts = 0
    for split, _, found in _pictures(data, passed):
        counts[split] += 1
        texts += bool(found)
    if not texts:
        raise missing(data / "NAME.jpg and NAME.txt", TREE)
    tell_passed_over(data, passed)
    splits = choose_splits(counts, options.splits)

    def read(split: str) -> Iterator[Sample | Rejected]:
        for place, name, found in _pictures(data):
            if place != split:
                continue
            key = f"image_text/{name}"
            try:
                image = find_below(data, name, stores)
                said = _captions(data, os.path.splitext(name)[0], found, options.caption_fields)
                captions, dropped = keep_captions(said)
            except (ValueError, OSError) as reason:
                yield Rejected(key, str(reason), split)
                continue
            yield Sample(key, image, captions, split=split, dropped=dropped)

    return Source("image_text", {split: counts[split] for split in splits}, read)


def _pictures(
    data: Path, passed: Counter[str] | None = None, below: str = ""
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the split, the path and the endings of the texts of every picture, folder by folder."""
    with os.scandir(data / below) as entries:
        listed = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries)
    names = {name for name, is_folder in listed if not is_folder}
    split = next(filter(None, map(split_in, reversed(below.split("/")))), "train")
    for name, is_folder in listed:
        stem, ending = os.path.splitext(name)
        if name.startswith("."):
            continue
        if is_folder:
            yield from _pictures(data, passed, f"{below}{name}/")
        elif ending.lower() in ENDINGS:
            texts = tuple(kind for kind in (".txt", ".json") if stem + kind in names)
            yield split, below + name, texts
        elif passed is not None and ending not in (".txt", ".json"):
            passed[ending or "without an ending"] += 1


def _captions(data: Path, stem: str, found: tuple[str, ...], fields: tuple[str, ...]) -> list:
    if ".txt" in found and not fields:
        return [_text(find_below(data, f"{stem}.txt")).rstrip("\n")]
    if ".json" not in found:
        raise ValueError("no text: neither NAME.txt nor NAME.json is beside it")
    try:
        value: Any = json.loads(_text(find_below(data, f"{stem}.json")))
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"damaged JSON: {error}") from None
    named = [value[f] for f in fields or FIELDS if f in value] if isinstance(value, dict) else []
    named = named if fields else named[:1]
    return [text for one in named for text in (one if isinstance(one, list) else [one])]


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise ValueError(f"{path.suffix} of more than {MAX_TEXT_BYTES:,} bytes")
    return content.decode("utf-8-sig", errors="surrogateescape")
