"""Make a record set without the damaged records of another: copies of the intact records of damaged
shards, links to intact shards."""

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
from tfclip.graphs import as_written
from tfclip.records import schema
from tfclip.records.manifest import Manifest, Shard, SplitCounts, load_manifest
from tfclip.records.reader import read_shards
from tfclip.records.verify import file_problems

# The length field of a record that is not empty and shorter than 4 GiB.
_LENGTH = re.compile(rb"(?!\0{4}).{4}\0{4}", re.DOTALL)
_HEADER = 12
"""Bytes before the content of a record: its length (8) and the checksum of the length (4)."""
_FRAME = _HEADER + 4
"""Bytes of a record apart from its content."""


def salvage(directory: Path, split: str, folder: Path) -> tuple[Path, int]:
    """Make a record set of the intact records of a split, if any record is damaged.

    All shards are read once, for their sha256. The new set is named after its fingerprint, which
    depends on the records alone, so that a later run reuses it after a check.

    Args:
        directory: a record set.
        split: one of its splits; the new set has only this one.
        folder: the folder in which the new set is made.

    Returns:
        The directory to read from, and the number of skipped records: `directory` and 0 when all
        records are intact.

    Raises:
        FileNotFoundError: no manifest, or a missing shard.
        ValueError: a damaged manifest; a shard that is intact but differs from the manifest; or no
            intact record.
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
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        building = Path(temporary, "set")
        building.mkdir()
        try:
            copies = {shard.file: _copy_intact(directory, shard, building) for shard in damaged}
            salvaged = _manifest(directory, manifest, split, copies, building)
        except tf.errors.OpError as error:
            raise OSError(f"cannot copy records to {folder}: {error.message}") from None
        salvaged.save(building)
        target = folder / salvaged.fingerprint()[:16]
        if not _exists(target, building, salvaged):
            shutil.rmtree(target, ignore_errors=True)
            try:
                files.publish(building, target)
            except OSError:  # another worker was faster
                if not _exists(target, building, salvaged):
                    raise
    skipped = sum(shard.records - copies[shard.file].records for shard in damaged)
    records = sum(shard.records for shard in shards)
    say(f"{directory}:{split}: {skipped:,} of {records:,} records are damaged and skipped")
    return target, skipped


def _copy_intact(directory: Path, shard: Shard, out: Path) -> Shard:
    """Copy the records of a damaged shard whose checksums are right, and report the others."""
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
                break  # TensorFlow takes a truncated header for the end of the file
            except tf.errors.DataLossError:
                first = records if first is None else first
                offset = _next_header(path, offset + 1)
    lost = shard.records - records
    if lost < 0 or (lost == 0 and first is None and offset == size):
        raise ValueError(
            f"{path} is not damaged but differs from the packed file: {records} intact records, "
            f"the manifest lists {shard.records}; pack again with --overwrite"
        )
    first_lost = f", the first is record {records if first is None else first}" if lost else ""
    say(f"{path}: skipped {lost} of {shard.records} records{first_lost}")
    with open(copy, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return dataclasses.replace(shard, records=records, bytes=copy.stat().st_size, sha256=digest)


def _records_from(path: Path, offset: int) -> Iterator[bytes]:
    """Yield the records from an offset on; DataLossError at the first damaged one."""

    # tf.data.TFRecordDataset cannot start within a file. Its operation can, but only inside another
    # dataset: alone it fails, because its graph lacks the offset (TensorFlow 2.21).
    def open_at(start: tf.Tensor) -> tf.data.Dataset:
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[str(path)], compression_type="", buffer_size=1 << 18, byte_offsets=[start]
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))

    offsets = tf.data.Dataset.from_tensors(tf.constant(offset, tf.int64))
    return offsets.flat_map(as_written(open_at)).as_numpy_iterator()


def _next_header(path: Path, start: int) -> int:
    """Return the offset of the next header with a right checksum, or the size of the file.

    The length of the damaged record is not used, because bytes of it may be missing.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (start := _possible_length(content, start)) <= len(content) - _HEADER:
            (checksum,) = struct.unpack_from("<I", content, start + 8)
            if _masked_crc32c(content[start : start + 8]) == checksum:
                return start
            start += 1
        return len(content)


def _possible_length(content: mmap.mmap, start: int) -> int:
    match = _LENGTH.search(content, start)
    return match.start() if match else len(content)


def _masked_crc32c(data: bytes) -> int:
    """Return the checksum of TFRecord: CRC-32C (RFC 3720), rotated and with an offset added."""
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
    """Link the intact shards into `building`, count its texts, and return its manifest."""
    shards = tuple(copies.get(shard.file, shard) for shard in manifest.shards_of(split))
    for shard in shards:
        if shard.file not in copies:
            (building / shard.file).symlink_to((directory / shard.file).resolve())
    images = sum(shard.records for shard in shards)
    if not images:
        raise ValueError(f"{directory}:{split} has no intact record; pack again with --overwrite")
    texts: Counter[str] = Counter()
    words: Counter[int] = Counter()
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


def _exists(target: Path, building: Path, manifest: Manifest) -> bool:
    """Return whether `target` already holds this set, intact and with the same links."""
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
