"""Verify a record set against its manifest, and locate damaged records."""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import tensorflow as tf
from PIL import Image

from tfclip.console import progress
from tfclip.records import schema
from tfclip.records.check import is_plain_jpeg
from tfclip.records.manifest import SKIPPED, Shard, load_manifest


def verify(directory: Path) -> list[str]:
    """Return the problems of a record set, one line each; an empty list means that it is intact.

    Checks the length and sha256 of every shard, the checksum, schema and id of every record, and
    every count of the manifest. Problems name the shard and the record (counted from 0).

    Raises:
        FileNotFoundError: no such set, see `load_manifest`.
        ValueError: no readable manifest.
    """
    manifest = load_manifest(directory)
    problems = []
    counted: dict[str, Counter[str]] = {split: Counter() for split in manifest.splits}
    seen: dict[str, set[int]] = {split: set() for split in manifest.splits}
    for shard in progress(manifest.shards, total=len(manifest.shards), what="verifying"):
        result = _verify_shard(
            directory / shard.file, shard, counted[shard.split], seen[shard.split]
        )
        problems += [f"{shard.file}: {problem}" for problem in result]
    for split, skipped in _skipped(directory / SKIPPED).items():
        counted.setdefault(split, Counter())["skipped"] = skipped
    for split, counts in manifest.splits.items():
        for what in ("images", "captions", "regions", "skipped"):
            actual, expected = counted[split][what], getattr(counts, what)
            if actual != expected:
                problems.append(f"split {split}: {actual} {what}, the manifest lists {expected}")
    listed = {shard.file for shard in manifest.shards}
    problems += [
        f"{path.name}: not in the manifest"
        for path in sorted(directory.glob("*.tfrecord"))
        if path.name not in listed
    ]
    return problems


def file_problems(path: Path, shard: Shard) -> Iterator[str]:
    """Yield the problems of the file of a shard as a whole: its length and its sha256."""
    if not path.is_file():
        yield "missing"
        return
    if path.stat().st_size != shard.bytes:
        yield f"{path.stat().st_size} bytes, the manifest lists {shard.bytes}"
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
            yield "the sha256 differs from the manifest"


def _verify_shard(path: Path, shard: Shard, counted: Counter, seen: set[int]) -> Iterator[str]:
    yield from file_problems(path, shard)
    if not path.is_file():
        return
    records = 0
    try:
        for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            for problem in _verify_record(serialized, counted, seen):
                yield f"record {records}: {problem}"
            records += 1
    except tf.errors.OpError as error:
        yield f"record {records}: {_first_words(error)}"
    if records != shard.records:
        yield f"{records} readable records, the manifest lists {shard.records}"


def _verify_record(serialized: bytes, counted: Counter, seen: set[int]) -> Iterator[str]:
    """Yield the problems of one record, and add its contents to `counted`."""
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except Exception as error:  # protobuf's DecodeError, which is not public
        yield f"not a tf.train.Example ({error})"
        return
    values = {}
    for name, kind in {**schema.SINGLE, **schema.LISTS, **schema.ADDED}.items():
        field = {tf.string: "bytes_list", tf.int64: "int64_list", tf.float32: "float_list"}[kind]
        stored = features[name].WhichOneof("kind") if name in features else None
        values[name] = list(getattr(features[name], field).value) if stored == field else []
        if stored not in (None, field):
            yield f"{name} is a {stored}, not a {field}"
            return
        if name in schema.SINGLE and len(values[name]) != 1:
            yield f"{name} has {len(values[name])} values, not 1"
            return
    yield from _verify_values(values, seen)
    counted["images"] += 1
    counted["captions"] += len(values[schema.CAPTION])
    counted["regions"] += len(values[schema.PHRASE])


def _verify_values(values: dict[str, list], seen: set[int]) -> Iterator[str]:
    try:
        texts = (schema.KEY, schema.CAPTION, schema.PHRASE, schema.LABEL, schema.DIFFICULT)
        key = [text.decode() for name in texts for text in values[name]][0]
    except UnicodeDecodeError:
        yield "a text that is not UTF-8"
        return
    identity = values[schema.ID][0]
    if identity != schema.image_id(key):
        yield f"{key}: the id does not match the key"
    if identity in seen:
        yield f"{key}: a second record with this key"
    seen.add(identity)
    for name in (schema.SCORE, schema.AGREEMENT):
        scores = values[name]
        if scores and len(scores) != len(values[schema.CAPTION]):
            yield f"{key}: {len(scores)} scores of {len(values[schema.CAPTION])} captions"
        if not all(-1.01 <= score <= 1.01 for score in scores):
            yield f"{key}: a score that is no cosine"
    lengths = {len(values[name]) for name in (schema.PHRASE, *schema.BOX)}
    xmin, ymin, xmax, ymax = (values[name] for name in schema.BOX)
    valid = (
        0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
        for x0, y0, x1, y1 in zip(xmin, ymin, xmax, ymax, strict=False)
    )
    if len(lengths) != 1 or not all(valid):
        yield f"{key}: the region boxes do not match the phrases or exceed the picture"
    try:
        jpeg = values[schema.IMAGE][0]
        with Image.open(BytesIO(jpeg), formats=["JPEG"]) as picture:
            size = picture.size
        if not is_plain_jpeg(jpeg):
            yield f"{key}: not a baseline JPEG"
        if size != (values[schema.WIDTH][0], values[schema.HEIGHT][0]):
            yield f"{key}: the size of the JPEG differs from the record"
    except Exception as error:  # see check.check_picture
        yield f"{key}: not a JPEG ({error})"


def _skipped(path: Path) -> Counter:
    """Return the number of lines of each split; malformed lines are ignored."""
    counted: Counter[str] = Counter()
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, LookupError, TypeError):
                counted[json.loads(line)["split"]] += 1
    return counted


def _first_words(error: tf.errors.OpError) -> str:
    return " ".join(error.message.split(" [Op:")[0].split("}}")[-1].split())


@contextlib.contextmanager
def damage_named(files: Iterable[str]) -> Iterator[None]:
    """Replace TensorFlow's "corrupted record" error by one that names the shard and the record.

    Args:
        files: the shards that are read within the block; they are searched after an error.

    Raises:
        ValueError: a shard is damaged or truncated.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        for file in files:
            records = 0
            try:
                for _ in tf.data.TFRecordDataset(file):
                    records += 1
            except tf.errors.DataLossError as damage:
                raise ValueError(
                    f"{file}: record {records} is damaged ({_first_words(damage)}); run python -m "
                    f"tfclip.make_records verify {Path(file).parent}, or train without it with "
                    "--skip-damaged"
                ) from error
        raise
