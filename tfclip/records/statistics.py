"""Statistics of a record set: picture sizes, text lengths, frequent words and duplicates."""

import hashlib
import itertools
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfclip.console import progress
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import read_split

MOST = 10
"""The number of the most frequent captions and words to list."""
TEXTS = (schema.CAPTION, schema.PHRASE)

_UNITS = {
    "width": "pixels",
    "height": "pixels",
    "bytes": "of a picture",
    "captions_per_image": "",
    "regions_per_image": "",
    "words": "of a text",
    "characters": "of a text",
}
_WORD = re.compile(r"\w+(?:'\w+)*")


def statistics(directory: Path, split: str | None = None) -> dict[str, Any]:
    """Return statistics of the pictures and texts of a record set.

    Texts are compared stripped and in lower case; pictures byte for byte. Takes 8 bytes of memory
    for every picture and text, and the distinct words.

    Args:
        directory: a record set.
        split: one of its splits; by default all.

    Returns:
        `images`, `captions`, `regions`; `width`, `height` (pixels), `bytes` (of a JPEG),
        `captions_per_image`, `regions_per_image`, `words` (of a text) and `characters`: each
        {min, median, mean, p95, max}; `vocabulary`: {words: number of distinct words, once: number
        of words that occur once, most: [[word, times]]}; `frequent_captions`: [[text, times]];
        `duplicate_images`, `duplicate_captions`: the number of repetitions; `duplicates`: the keys
        of some equal pictures.

    Raises:
        FileNotFoundError: no such records.
        ValueError: an unknown split.
    """
    splits = [split] if split else list(load_manifest(directory).splits)
    values = {name: array("q") for name in _UNITS}
    words: Counter[str] = Counter()
    pictures, texts = array("q"), array("q")
    for record in _records(directory, splits, schema.FEATURES):
        for name in ("width", "height"):
            values[name].append(int(record[f"image/{name}"]))
        values["bytes"].append(len(record[schema.IMAGE]))
        values["captions_per_image"].append(len(record[schema.CAPTION]))
        values["regions_per_image"].append(len(record[schema.PHRASE]))
        pictures.append(_hash(record[schema.IMAGE]))
        for text in _texts(record):
            text_words = _WORD.findall(text)
            words.update(text_words)
            values["words"].append(len(text_words))
            values["characters"].append(len(text))
            texts.append(_hash(text.encode()))
    return {
        "images": len(values["width"]),
        "captions": sum(values["captions_per_image"]),
        "regions": sum(values["regions_per_image"]),
        **{name: _summary(numbers) for name, numbers in values.items()},
        "vocabulary": {
            "words": len(words),
            "once": sum(times == 1 for times in words.values()),
            "most": [list(pair) for pair in words.most_common(MOST)],
        },
        "frequent_captions": _frequent(directory, splits, texts),
        "duplicate_images": len(pictures) - len(np.unique(pictures)),
        "duplicate_captions": len(texts) - len(np.unique(texts)),
        "duplicates": _equal_pictures(directory, splits, pictures),
    }


def report_lines(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a report on the result of `statistics`."""
    yield ", ".join(f"{figures[what]:,} {what}" for what in ("images", "captions", "regions"))
    for name, unit in _UNITS.items():
        if summary := figures[name]:
            listed = ", ".join(f"{what} {value:,}" for what, value in summary.items())
            yield f"{name.replace('_', ' ')} {unit}".strip() + f": {listed}"
    vocabulary = figures["vocabulary"]
    most = ", ".join(f"{word} {times:,}" for word, times in vocabulary["most"])
    if most:
        yield f"{vocabulary['words']:,} distinct words, {vocabulary['once']:,} seen once; {most}"
    for text, times in figures["frequent_captions"]:
        yield f"{times:6,} x {text}"
    yield (
        f"duplicates: {figures['duplicate_images']:,} pictures, "
        f"{figures['duplicate_captions']:,} texts"
    )
    for keys in figures["duplicates"]:
        yield f"  the same picture: {', '.join(keys)}"


def _records(
    directory: Path, splits: Sequence[str], features: Sequence[str]
) -> Iterator[dict[str, Any]]:
    manifest = load_manifest(directory)
    for split in splits:
        records = read_split(directory, split, features=features).as_numpy_iterator()
        images = manifest.splits[split].images
        yield from progress(records, total=images, what=f"reading {split}")


def _texts(record: dict[str, Any]) -> Iterator[str]:
    for text in itertools.chain(*(record[name] for name in TEXTS)):
        yield text.decode("utf-8", "replace").strip().lower()


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), signed=True)


def _summary(values: array) -> dict[str, float] | None:
    if not values:
        return None
    listed = np.asarray(values)
    return {
        "min": int(listed.min()),
        "median": round(float(np.median(listed)), 1),
        "mean": round(float(listed.mean()), 1),
        "p95": round(float(np.percentile(listed, 95)), 1),
        "max": int(listed.max()),
    }


def _repeated(hashes: array) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes that occur more than once, most frequent first, and their frequencies."""
    values, times = np.unique(np.asarray(hashes, np.int64), return_counts=True)
    order = np.argsort(-times[times > 1], kind="stable")[:MOST]
    return values[times > 1][order], times[times > 1][order]


def _frequent(directory: Path, splits: Sequence[str], hashes: array) -> list[list]:
    """Read the texts again, to find the most frequent ones by their hashes."""
    wanted, times = _repeated(hashes)
    named: dict[int, str] = {}
    for record in _records(directory, splits, TEXTS) if len(wanted) else ():
        for text in _texts(record):
            if (number := _hash(text.encode())) in wanted:
                named[number] = text
        if len(named) == len(wanted):
            break
    listed = zip(wanted.tolist(), times.tolist(), strict=True)
    return [[named[number], count] for number, count in listed]


def _equal_pictures(directory: Path, splits: Sequence[str], hashes: array) -> list[list[str]]:
    wanted, _ = _repeated(hashes)
    keys: dict[int, list[str]] = {number: [] for number in wanted.tolist()}
    if not keys:
        return []
    for record, number in zip(_records(directory, splits, (schema.KEY,)), hashes, strict=True):
        if len(keys.get(number, [""] * MOST)) < MOST:
            keys[number].append(record[schema.KEY].decode())
    return list(keys.values())
