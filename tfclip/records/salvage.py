"""A packed set without its damaged records: copies of the sound ones, links to the sound shards."""

import dataclasses
import hashlib
import mmap
import os
import re
import shutil
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from tfclip import files
from tfclip.console import progress, say
from tfclip.records import schema
from tfclip.records.manifest import Manifest, Shard, SplitCounts, load_manifest
from tfclip.records.reader import read_shards
from tfclip.records.verify import file_problems

# The length of a record that is not empty and below 4 GiB, as TFRecord writes it.
_LENGTH = re.compile(rb"(?!\0{4}).{4}\0{4}", re.DOTALL)
_HEADER = 12
"""Bytes before the content of a record: its length and the checksum of that."""
_FRAME = _HEADER + 4


def salvage(directory: Path, split: str, folder: Path) -> tuple[Path, int]:
    """Make a packed set of the sound records of a split, if any of them are damaged.

    All shards are read once, for their sha256. The new set depends on the records alone, and its
    fingerprint tells it from the whole one: found in `folder`, it is checked and taken again.

    Args:
        directory: a packed set.
        split: one of its splits; the new set has no other.
        folder: where the new set is made, under a name of its own.

    Returns:
        Where to read from, and how many records were skipped: `directory` and 0 where all is sound.

    Raises:
        FileNotFoundError, ValueError: no readable manifest; a shard is missing, or is sound but
            another than was packed; no record is left.
        OSError: a copy cannot be written.
    """
    manifest = load_manifest(directory)
    shards = manifest.shards_of(split)
    damaged = []
    for shard in progress(shards, total=len(shards), what=f"checking {split}"):
        path = directory / shard.file
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; pack again with --overwrite")
        if any(file_problems(path, shard)):
            damaged.append(shard)
    if not damaged:
        return directory, 0
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        building = Path(beside, "set")
        building.mkdir()
        try:
            copies = {shard.file: _copy_sound(directory, shard, building) for shard in damaged}
            salvaged = _manifest(directory, manifest, split, copies, building)
        except tf.errors.OpError as error:
            raise OSError(f"cannot copy records to {folder}: {error.message}") from None
        salvaged.save(building)
        target = folder / salvaged.fingerprint()[:16]
        if not _is_there(target, building, salvaged):
            shutil.rmtree(target, ignore_errors=True)
            try:
                files.publish(building, target)
            except OSError:  # another worker was faster
                if not _is_there(target, building, salvaged):
                    raise
    skipped = sum(shard.records - copies[shard.file].records for shard in damaged)
    records = sum(shard.records for shard in shards)
    say(f"{directory}:{split}: {skipped:,} of {records:,} records are damaged and skipped")
    return target, skipped


def _copy_sound(directory: Path, shard: Shard, out: Path) -> Shard:
    """Copy the records of a damaged shard that have the right checksums, and say how many lack."""
    path, copy = directory / shard.file, out / shard.file
    size = path.stat().st_size
    records, first, offset = 0, None, 0
    with tf.io.TFRecordWriter(str(copy)) as writer:
        while offset < size:
            try:
                for serialized in _records_from(path, offset):
                    writer.write(serialized)
                    records += 1
                    offset += len(serialized) + _FRAME
                break  # TensorFlow takes the first bytes of a header for the end of the file
            except tf.errors.DataLossError:
                first = records if first is None else first
                offset = _next_header(path, offset + 1)
    lost = shard.records - records
    if lost < 0 or (lost == 0 and first is None and offset == size):
        raise ValueError(
            f"{path} is not damaged, but not the file that was packed: {records} sound records, "
            f"the manifest lists {shard.records}; pack again with --overwrite"
        )
    first_lost = f", the first is record {records if first is None else first}" if lost else ""
    say(f"{path}: skipped {lost} of {shard.records} records{first_lost}")
    with open(copy, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return dataclasses.replace(shard, records=records, bytes=copy.stat().st_size, sha256=digest)


def _records_from(path: Path, offset: int) -> Iterator[bytes]:
    """Yield the records from a byte on; DataLossError at the first that is damaged."""

    # tf.data.TFRecordDataset cannot begin within a file. The operation it is made of can, but only
    # inside another dataset: alone it fails, as its graph lacks the offset (TensorFlow 2.21).
    def opened(start: tf.Tensor) -> tf.data.Dataset:
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[str(path)], compression_type="", buffer_size=1 << 18, byte_offsets=[start]
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))

    offsets = tf.data.Dataset.from_tensors(tf.constant(offset, tf.int64))
    return offsets.flat_map(opened).as_numpy_iterator()


def _next_header(path: Path, start: int) -> int:
    """Return where the next header with the right checksum is, or the size of the file.

    The length of a damaged record is not trusted: bytes may be missing from it.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (start := _possible_length(content, start)) <= len(content) - _HEADER:
            (checksum,) = struct.unpack_from("<I", content, start + 8)
            if _masked_crc32c(content[start : start + 8]) == checksum:
                return start
            start += 1
        return len(content)


def _possible_length(content: mmap.mmap, start: int) -> int:
    found = _LENGTH.search(content, start)
    return found.start() if found else len(content)


def _masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord: Castagnoli's (RFC 3720), rotated and shifted."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _manifest(
    directory: Path, manifest: Manifest, split: str, copies: dict[str, Shard], building: Path
) -> Manifest:
    """Link the sound shards into `building`, count its texts, and return its manifest."""
    shards = tuple(copies.get(shard.file, shard) for shard in manifest.shards_of(split))
    for shard in shards:
        if shard.file not in copies:
            (building / shard.file).symlink_to((directory / shard.file).resolve())
    images = sum(shard.records for shard in shards)
    if not images:
        raise ValueError(f"{directory}:{split} has no sound record; pack again with --overwrite")
    texts, words = Counter(), Counter()
    files = [str(building / shard.file) for shard in shards]
    contents = read_shards(files, features=(schema.CAPTION, schema.PHRASE)).as_numpy_iterator()
    for record in progress(contents, total=images, what=f"counting {split}"):
        for name in (schema.CAPTION, schema.PHRASE):
            texts[name] += len(record[name])
            words.update(len(text.decode().split()) for text in record[name])
    counts = SplitCounts(
        images, texts[schema.CAPTION], texts[schema.PHRASE], dropped=manifest.splits[split].dropped
    )
    return dataclasses.replace(
        manifest,
        splits={split: counts},
        shards=shards,
        caption_words={split: dict(sorted(words.items()))},
    )


def _is_there(target: Path, building: Path, manifest: Manifest) -> bool:
    """Whether an earlier run has left this set at `target`, whole and with the same links."""
    try:
        if load_manifest(target) != manifest:
            return False
    except (FileNotFoundError, ValueError):
        return False
    return all(
        os.path.realpath(target / shard.file) == os.path.realpath(building / shard.file)
        if (building / shard.file).is_symlink()
        else not any(file_problems(target / shard.file, shard))
        for shard in manifest.shards
    )
