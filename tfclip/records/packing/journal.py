"""The journal of an unfinished set: one line for each finished shard, with a digest of its
inputs."""

import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import __version__ as pillow_version

from tfclip.records.manifest import SCHEMA_VERSION, Shard
from tfclip.sources.sample import Rejected, Sample

JOURNAL = "finished.jsonl"


FIRST_FRAMES = "first frames"


@dataclass(frozen=True)
class Finished:
    """A finished shard.

    Attributes:
        shard: the shard, as in the manifest.
        inputs: the digest of its inputs, see `Inputs`.
        tally: its contribution to the fields of SplitCounts.
        words: the number of captions and phrases by their length in words.
        skipped: key and reason of its rejected inputs.
        converted: the number of pictures by original format, for the formats that only packing
            reads; under `FIRST_FRAMES` that of pictures whose further frames are left out.
    """

    shard: Shard
    inputs: str
    tally: dict[str, int]
    words: dict[int, int]
    skipped: tuple[tuple[str, str], ...]
    converted: dict[str, int] = field(default_factory=dict)


class Inputs:
    """Digest of everything that determines the bytes of a shard: its items, in order, and the
    options.

    A picture file contributes its path, size and modification time, so that the digest is much
    faster than packing.
    """

    def __init__(self, image_size: int | None):
        self._hash = hashlib.blake2b(digest_size=16)
        # Versions of Pillow may convert and resize to different bytes.
        self._hash.update(repr((SCHEMA_VERSION, pillow_version, image_size)).encode())

    def add(self, item: Sample | Rejected) -> None:
        """Add the next item."""
        names = (name for name in item.__slots__ if name != "image")
        self._hash.update(repr([getattr(item, name) for name in names]).encode())
        if isinstance(item, Rejected):
            return
        if isinstance(item.image, bytes):
            self._hash.update(hashlib.sha256(item.image).digest())
            return
        try:
            status = os.stat(item.image)
            identity: tuple[object, ...] = (str(item.image), status.st_size, status.st_mtime_ns)
        except OSError as error:
            identity = (str(item.image), error.errno)
        self._hash.update(repr(identity).encode())

    def digest(self) -> str:
        """Return the digest of the items added so far."""
        return self._hash.hexdigest()


class Journal:
    """The file of finished shards in the directory of an unfinished set, locked by one run at a
    time.

    Raises:
        BlockingIOError: another run is packing into the same directory.
    """

    def __init__(self, building: Path):
        path = building / JOURNAL
        self._file = open(path, "a+", encoding="utf-8")
        try:
            # The kernel releases the lock when the process ends, however it ends.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise BlockingIOError(
                f"another run packs into {building}; wait for it, or choose another --out"
            ) from None
        self._file.seek(0)
        entries = [entry for line in self._file if (entry := entry_of(line))]
        self._finished = {entry.shard.file: entry for entry in entries if _intact(building, entry)}
        # A killed run may have left an incomplete line.
        self._file.seek(0)
        self._file.truncate()
        for entry in self._finished.values():
            self._write(entry)

    def __len__(self) -> int:
        return len(self._finished)

    @property
    def records(self) -> int:
        """The number of records in the finished shards."""
        return sum(entry.shard.records for entry in self._finished.values())

    def __contains__(self, file: str) -> bool:
        return file in self._finished

    def __getitem__(self, file: str) -> Finished:
        return self._finished[file]

    def add(self, entry: Finished) -> None:
        """Record a finished shard, after the shard was renamed to its final name."""
        self._finished[entry.shard.file] = entry
        self._write(entry)

    def forget(self, file: str) -> None:
        """Remove a shard whose inputs have changed, so that it is packed again."""
        del self._finished[file]

    def close(self) -> None:
        """Release the lock, also for workers that were forked and still live."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._file.close()

    def _write(self, entry: Finished) -> None:
        self._file.write(json.dumps(asdict(entry)) + "\n")
        self._file.flush()


def entry_of(line: str) -> Finished | None:
    """Return the entry in a line of JSON, or None for an incomplete line."""
    try:
        content = json.loads(line)
        return Finished(
            Shard(**content["shard"]),
            content["inputs"],
            content["tally"],
            {int(words): count for words, count in content["words"].items()},
            tuple((key, reason) for key, reason in content["skipped"]),
            dict(content.get("converted", {})),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _intact(building: Path, entry: Finished) -> bool:
    """Return whether the shard is unchanged: a power failure may have lost data since."""
    path = building / entry.shard.file
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.shard.sha256
    except OSError:
        return False
