"""Pack a source: checked pictures and their texts into shards, a manifest and a list of rejects."""

import contextlib
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TextIO

import tensorflow as tf

from tfclip.console import progress
from tfclip.records import schema
from tfclip.records.check import BadPicture, Checked
from tfclip.records.manifest import SKIPPED, Manifest, Shard, SplitCounts
from tfclip.records.options import PackOptions, drawn, planned, shard_ends, shard_name
from tfclip.records.pool import PictureCheckers
from tfclip.records.target import built_beside, keep_skipped_list
from tfclip.sources.sample import Rejected, Sample, Source


class TooManySkipped(Exception):
    """More inputs were rejected than allowed. The list of them is kept, the records are not."""


def pack(
    source: Source,
    out: Path,
    options: PackOptions,
    *,
    finish: Callable[[Path, dict[str, list[str]]], None] | None = None,
) -> Manifest:
    """Pack a source into `out`, and return the manifest.

    The content depends on the source and on `PackOptions.content()` alone, byte for byte. Memory
    does not grow with the number of pictures. Nothing appears at `out` until all is complete.

    Args:
        source: what to read.
        out: a directory that does not exist, or holds a finished set that may be overwritten.
        options: see `PackOptions`.
        finish: called before the manifest is written, with the directory in which the set is built
            and the shard files of every split: what it writes there becomes a part of the set.

    Raises:
        ValueError: an empty or unknown split, or a split of which no picture could be packed.
        FileExistsError: `out` holds something else.
        TooManySkipped: more than `options.max_skipped` of the inputs were rejected.
        OSError: the disk is full, or a file cannot be written.
    """
    out = Path(out)
    plan = planned(source, options)
    with built_beside(out, options.overwrite) as building:
        try:
            with (
                PictureCheckers(options.workers, options.image_size) as checkers,
                # In JSON a lone surrogate is written as the escape that backslashreplace makes.
                open(
                    building / SKIPPED, "w", encoding="utf-8", errors="backslashreplace"
                ) as skipped,
            ):
                packed = {
                    split: _pack_split(source, split, count, building, options, checkers, skipped)
                    for split, count in plan.items()
                }
            _refuse_many(packed, building, out, options.max_skipped)
            if finish is not None:
                finish(
                    building,
                    {s: [str(building / shard.file) for shard in packed[s].shards] for s in packed},
                )
            manifest = Manifest(
                source=source.name,
                splits={split: part.counts() for split, part in packed.items()},
                shards=tuple(shard for part in packed.values() for shard in part.shards),
                class_names=source.class_names,
                caption_words={s: dict(sorted(part.words.items())) for s, part in packed.items()},
                packing=options.content(),
                tfclip_version=_version(),
            )
            manifest.save(building)
        except tf.errors.OpError as error:  # TensorFlow's own words for a full disk and the like
            raise OSError(f"cannot write {out}: {error.message}") from None
    return manifest


@dataclass
class _Part:
    """What is known of one split while it is packed: `tally` holds the fields of SplitCounts."""

    tally: Counter = field(default_factory=Counter)
    words: Counter = field(default_factory=Counter)
    shards: list[Shard] = field(default_factory=list)
    first_rejected: str = ""

    def counts(self) -> SplitCounts:
        return SplitCounts(**self.tally)


def _pack_split(
    source: Source,
    split: str,
    count: int,
    building: Path,
    options: PackOptions,
    checkers: PictureCheckers,
    skipped: TextIO,
) -> _Part:
    part = _Part()
    items = _items(source, split, count, options)
    checking = checkers.in_order(items, _picture)
    ends = shard_ends(count, options.shards)
    # Hashing a finished shard takes a tenth of the time of packing it, and can go on beside.
    with contextlib.closing(checking), ThreadPoolExecutor(1) as hasher:
        checked = progress(checking, total=count, what=f"packing {split}")
        finished = []
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            path = building / shard_name(split, number, len(ends))
            before = part.tally["images"]
            with tf.io.TFRecordWriter(f"{path}.tmp") as writer:
                for item, picture in itertools.islice(checked, end - start):
                    _pack_item(item, picture, part, writer, skipped)
            records = part.tally["images"] - before
            finished.append(hasher.submit(_finish_shard, path, split, records))
        for _ in checked:  # the source's own check of its count comes after the last item
            pass
        part.shards = [shard.result() for shard in finished]
    if not part.tally["images"]:
        raise ValueError(
            f"no picture of split {split!r} of {source.name} could be packed: all {count} were "
            f"rejected, the first is {part.first_rejected}"
        )
    return part


def _items(
    source: Source, split: str, count: int, options: PackOptions
) -> Iterator[Sample | Rejected]:
    """Yield the items to pack, and see that the source keeps its word about how many there are."""
    positions = drawn(split, source.counts[split], options)
    at = -1
    for at, item in enumerate(source.read(split)):
        if positions is None or at in positions:
            yield item
    if at + 1 != source.counts[split]:
        raise ValueError(
            f"{source.name} changed while it was read: {source.counts[split]} pictures were "
            f"counted in {split!r}, {at + 1} were there"
        )


def _picture(item: Sample | Rejected) -> Path | bytes | None:
    return None if isinstance(item, Rejected) else item.image


def _pack_item(
    item: Sample | Rejected,
    picture: Checked | BadPicture | None,
    part: _Part,
    writer: tf.io.TFRecordWriter,
    skipped: TextIO,
) -> None:
    """Write one record, or one line about why there is none."""
    if isinstance(item, Rejected):
        return _reject(item, item.reason, part, skipped)
    if isinstance(picture, BadPicture):
        return _reject(item, str(picture), part, skipped)
    content = schema.values(item, picture)
    texts = content[schema.CAPTION] + content[schema.PHRASE]
    told = len(item.captions) + len(item.regions)
    if told and not (texts or item.labels or item.difficult):
        return _reject(item, "no caption and no region is left", part, skipped)
    writer.write(schema.encode(content))
    part.tally["images"] += 1
    part.tally["captions"] += len(content[schema.CAPTION])
    part.tally["regions"] += len(content[schema.PHRASE])
    part.tally["dropped"] += len(item.dropped) + told - len(texts)
    part.words.update(len(text.split()) for text in texts)


def _reject(item: Sample | Rejected, reason: str, part: _Part, skipped: TextIO) -> None:
    part.tally["skipped"] += 1
    part.first_rejected = part.first_rejected or f"{item.key}: {reason}"
    line = {"split": item.split, "key": item.key, "reason": reason}
    skipped.write(json.dumps(line, ensure_ascii=False) + "\n")


def _finish_shard(path: Path, split: str, records: int) -> Shard:
    """Hash a written shard and give it its name."""
    written = Path(f"{path}.tmp")
    with open(written, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    os.replace(written, path)
    return Shard(path.name, split, records, path.stat().st_size, digest)


def _refuse_many(packed: dict[str, _Part], building: Path, out: Path, most: float) -> None:
    skipped = sum(part.tally["skipped"] for part in packed.values())
    total = skipped + sum(part.tally["images"] for part in packed.values())
    if skipped > most * total:
        kept = keep_skipped_list(building, out)
        raise TooManySkipped(
            f"{skipped} of {total} pictures were rejected, allowed is {most:.2%}; "
            f"{kept} lists them; --max-skipped allows more"
        )


def _version() -> str:
    try:
        return metadata.version("tfclip")
    except metadata.PackageNotFoundError:  # run from its source, not installed
        return "unknown"
