"""WebDataset shards: tar files in which the files of a sample are adjacent and share a name."""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tfclip.sources.annotations.caption_json import MAX_TEXT_BYTES, json_captions
from tfclip.sources.archives.members import tar_entries
from tfclip.sources.index import Index
from tfclip.sources.safe_paths import MAX_PICTURE_BYTES, keep_captions, missing
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, files_by_split, stable_hash

TREE = "a .tar file, or DIR/*.tar, holding NAME.jpg with NAME.txt or NAME.json"
PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
TEXTS = ("txt", "caption", "text")

_TAR = re.compile(r"\.tar$")
# The errors that tarfile raises for damaged archives.
_DAMAGE = (tarfile.TarError, ValueError, OverflowError, EOFError, OSError)


def open_webdataset(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a .tar file, or a folder of them, at any depth.

    A sample is a sequence of files whose paths are equal up to the first dot of the file name. The
    caption is the text of NAME.txt; or the captions are a text or list of texts in NAME.json, in
    the fields `options.caption_fields` (by default caption, captions or text). The split is named
    by the shard or a folder above it, and is train otherwise. Nothing is unpacked.

    Raises:
        FileNotFoundError: no shards, or no picture in the shards of a split.
        ValueError: an unknown split.
    """
    shards = files_by_split(data, _TAR)
    if not shards:
        raise missing(data / "*.tar" if data.is_dir() else data, TREE)
    splits = {
        split: _Split(shards[split], split, options.caption_fields)
        for split in choose_splits(shards, options.splits)
    }
    return Source(
        "webdataset", {name: split.count for name, split in splits.items()}, lambda s: splits[s]()
    )


class _File(NamedTuple):
    ending: str
    member: tarfile.TarInfo


class _Split:
    """The shards of one split, read once to count the samples."""

    def __init__(self, shards: list[Path], split: str, fields: tuple[str, ...]):
        self.shards, self.split, self.fields = shards, split, fields
        self.index, self.count, pictures = Index(), 0, 0
        for shard in shards:
            for name, files in _groups(shard):
                self.index.add(stable_hash(name), self.count, 0)
                self.count += 1
                pictures += isinstance(files, list) and _picture(files) is not None
        if not pictures:
            places = ", ".join(map(str, shards[:3]))
            raise FileNotFoundError(f"no picture in {places}; expected: {TREE}")

    def __call__(self) -> Iterator[Sample | Rejected]:
        number = -1
        for shard in self.shards:
            with open(shard, "rb") as file:
                for name, files in _groups(shard):
                    number += 1
                    key = f"webdataset/{name}"
                    try:
                        if isinstance(files, str):
                            key = f"webdataset/{shard.name}"
                            raise ValueError(files)
                        if self.index.positions(stable_hash(name))[0] != number:
                            raise ValueError("duplicate id: an earlier sample has the same name")
                        yield self._sample(key, file, files)
                    except ValueError as reason:
                        yield Rejected(key, str(reason), self.split)

    def _sample(self, key: str, tar: BinaryIO, files: list[_File]) -> Sample:
        picture = _picture(files)
        if picture is None:
            endings = ", ".join(file.ending for file in files)
            raise ValueError(f"no picture among the files {endings!a:.100}")
        captions, dropped = keep_captions(self._captions(tar, files))
        image = _content(tar, picture, MAX_PICTURE_BYTES)
        return Sample(key, image, captions, split=self.split, dropped=dropped)

    def _captions(self, tar: BinaryIO, files: list[_File]) -> list:
        for file in files:
            if file.ending in TEXTS and not self.fields:
                return [_content(tar, file, MAX_TEXT_BYTES).decode(errors="surrogateescape")]
        for file in files:
            if file.ending == "json":
                return json_captions(_content(tar, file, MAX_TEXT_BYTES), self.fields)
        return []


def _groups(shard: Path) -> Iterator[tuple[str, list[_File] | str]]:
    """Yield the name and the files of every sample; where a shard is damaged, at last its
    problem."""
    name, files = "", list[_File]()
    try:
        with open(shard, "rb") as tar:
            for member in tar_entries(tar):
                if not member.isreg() or member.issparse():
                    continue
                folder, slash, last = member.name.rpartition("/")
                stem, _, ending = last.partition(".")
                if not stem:  # .DS_Store and the like
                    continue
                if folder + slash + stem != name and files:
                    yield name, files
                    files = []
                name = folder + slash + stem
                files.append(_File(ending.lower(), member))
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:100]
        problem = f"{shard.name} is damaged; the rest of it is not read: {reason}"
        if files:
            yield name, files
        yield f"{shard.name}, damaged", problem
        return
    if files:
        yield name, files


def _picture(files: list[_File]) -> _File | None:
    return next((file for file in files if file.ending in PICTURES), None)


def _content(tar: BinaryIO, file: _File, most: int) -> bytes:
    """Return the bytes of a file in the tar archive; ValueError for more than `most` bytes."""
    if file.member.size > most:
        raise ValueError(f".{file.ending} of more than {most:,} bytes")
    tar.seek(file.member.offset_data)
    content = tar.read(file.member.size)
    if len(content) < file.member.size:
        raise ValueError(f".{file.ending} is truncated: the archive ends within it")
    return content
