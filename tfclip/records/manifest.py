"""manifest.json, the description of a record set. Written last: a set without one is unfinished."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from tfclip import files
from tfclip.naming import unknown

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SKIPPED = "skipped.jsonl"
EXCLUSIONS = "left_out.jsonl"
LEARNT_VOCABULARY, VOCABULARY = "vocab.model", "vocab.txt"


@dataclass(frozen=True)
class Shard:
    """One file of records. `sha256` is the digest of the whole file, in hexadecimal."""

    file: str
    split: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitCounts:
    """The counts of a split.

    `skipped` counts the rejected inputs, which skipped.jsonl lists; `dropped` counts the captions
    and regions that were dropped from packed pictures.
    """

    images: int = 0
    captions: int = 0
    regions: int = 0
    skipped: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json.

    `caption_words` holds, for each split, the number of captions and phrases of every length in
    words. `packing` holds the options that determine the content (the number of workers does not)
    and, in its entry `vocabulary`, the type and text rules of the vocabulary, which sets of earlier
    versions lack.
    """

    source: str
    splits: dict[str, SplitCounts]
    shards: tuple[Shard, ...]
    class_names: tuple[str, ...]
    caption_words: dict[str, dict[int, int]]
    packing: dict[str, Any]
    tfclip_version: str
    schema_version: int = SCHEMA_VERSION

    def text(self) -> str:
        """Return the JSON text. Equal manifests have equal texts."""
        content = {"schema_version": self.schema_version} | dataclasses.asdict(self)
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def fingerprint(self) -> str:
        """Return the sha256 of the JSON text, which identifies the packed data in caches and
        runs."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write manifest.json atomically."""
        files.write_text(directory / MANIFEST, self.text())

    def shards_of(self, split: str) -> tuple[Shard, ...]:
        """Return the shards of a split, in order.

        Raises:
            ValueError: an unknown split; the message lists the splits of the set.
        """
        if split not in self.splits:
            raise unknown(f"split of {self.source} records", split, self.splits)
        return tuple(shard for shard in self.shards if shard.split == split)


def load_manifest(directory: Path | str) -> Manifest:
    """Read the manifest of a record set.

    Raises:
        FileNotFoundError: no such directory, or an unfinished set.
        ValueError: the manifest is damaged, or has a schema version that this tfclip does not read.
    """
    directory = Path(directory)
    make = f"python -m tfclip.make_records SOURCE --data DIR --out {directory}"
    if not directory.is_dir():
        raise FileNotFoundError(f"no records at {directory}; run {make}")
    path = directory / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{directory} has no {MANIFEST}: the set is unfinished; run {make}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version == SCHEMA_VERSION:
            return _manifest(content)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        message = f"{path} is damaged ({reason}); run {make} --overwrite"
        raise ValueError(message) from None
    raise ValueError(
        f"{path} has schema version {version!r}, this tfclip reads {SCHEMA_VERSION}; "
        f"run {make} --overwrite"
    )


def _manifest(content: dict) -> Manifest:
    fields = {field.name: content[field.name] for field in dataclasses.fields(Manifest)}
    fields["splits"] = {name: SplitCounts(**counts) for name, counts in fields["splits"].items()}
    fields["shards"] = tuple(Shard(**shard) for shard in fields["shards"])
    for shard in fields["shards"]:
        if shard.split not in fields["splits"]:
            raise ValueError(f"shard {shard.file} has an unknown split {shard.split!r}")
        if Path(shard.file).name != shard.file:
            raise ValueError(f"shard {shard.file!r} is outside the directory")
    fields["class_names"] = tuple(fields["class_names"])
    fields["caption_words"] = {
        split: {int(words): count for words, count in counts.items()}
        for split, counts in fields["caption_words"].items()
    }
    return Manifest(**fields)


def vocabulary_file(directory: Path) -> Path:
    """Return the path of a set's vocabulary, learnt pieces or WordPiece; it may not exist."""
    learnt = directory / LEARNT_VOCABULARY
    return learnt if learnt.is_file() else directory / VOCABULARY


@overload
def records_reference(text: str, default: str) -> tuple[Path, str]: ...
@overload
def records_reference(text: str, default: None = None) -> tuple[Path, str | None]: ...
def records_reference(text: str, default: str | None = None) -> tuple[Path, str | None]:
    """Split DIRECTORY:SPLIT into both parts; the split is `default` when none is given.

    Raises:
        ValueError: the directory or the split is empty.

    >>> directory, split = records_reference("records/flickr8k:dev")
    >>> str(directory), split
    ('records/flickr8k', 'dev')
    """
    path, colon, split = text.rpartition(":")
    if not colon or "/" in split or Path(text).is_dir():
        return Path(text), default
    if not split or not path:
        raise ValueError(f"received {text!r}; allowed: DIRECTORY or DIRECTORY:SPLIT")
    return Path(path), split
