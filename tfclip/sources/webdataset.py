"""webdataset shards: tar files in which the files of one sample share a name and stand together."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tfclip.sources.index import Index
from tfclip.sources.safe_paths import MAX_PICTURE_BYTES, keep_captions, missing
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, files_by_split, stable_hash

TREE = "a .tar file, or DIR/*.tar, holding NAME.jpg with NAME.txt or NAME.json"
PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
TEXTS = ("txt", "caption", "text")
FIELDS = ("caption", "captions", "text")
MAX_TEXT_BYTES = 1_000_000

_TAR = re.compile(r"\.tar$")
# What a damaged tar makes tarfile raise, beside its own errors.
_DAMAGE = (tarfile.TarError, ValueError, OverflowError, EOFError, OSError)


def open_webdataset(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a .tar file, or a folder of them, at any depth.

    A sample is a run of files whose names are equal up to the first dot of the last part. Captions
    are the text of NAME.txt (one), or a text or list of texts in NAME.json, in the fields
    `options.caption_fields` (caption, captions or text by default). The split is what the name of
    a shard or a folder speaks of, else train. Nothing is unpacked.

    Raises:
        FileNotFoundError: no shard, or no picture in the shards of a split.
        ValueError: an unknown split.
    """
    shards = files_by_split(data, _TAR)
    if not shards:
        raise missing(data / "*.tar" if data.is_dir() else data, TREE)
    splits = {
        split: _Split(data, shards[split], split, options.caption_fields or FIELDS)
        for split in choose_splits(shards, options.splits)
    }
    return Source(
        "webdataset", {name: split.count for name, split in splits.items()}, lambda s: splits[s]()
    )


class _File(NamedTuple):
    ending: str
    member: tarfile.TarInfo


class _Split:
    """The shards of one split, gone through once to count what is there."""

    def __init__(self, data: Path, shards: list[Path], split: str, fields: tuple[str, ...]):
        self.data, self.shards, self.split, self.fields = data, shards, split, fields
        self.index, self.count, pictures = Index(), 0, 0
        for shard in shards:
            for name, found in _groups(shard):
                self.index.add(stable_hash(name), self.count, 0)
                self.count += 1
                pictures += isinstance(found, list) and _picture(found) is not None
        if not pictures:
            places = ", ".join(map(str, shards[:3]))
            raise FileNotFoundError(f"no picture in {places}; expected: {TREE}")

    def __call__(self) -> Iterator[Sample | Rejected]:
        number = -1
        for shard in self.shards:
            with open(shard, "rb") as file:
                for name, found in _groups(shard):
                    number += 1
                    key = f"webdataset/{name}"
                    try:
                        if isinstance(found, str):
                            key = f"webdataset/{shard.name}"
                            raise ValueError(found)
                        if self.index.positions(stable_hash(name))[0] != number:
                            raise ValueError("duplicate id: an earlier sample has the same name")
                        yield self._sample(key, file, found)
                    except ValueError as reason:
                        yield Rejected(key, str(reason), self.split)

    def _sample(self, key: str, file, found: list[_File]) -> Sample:
        picture = _picture(found)
        if picture is None:
            raise ValueError(f"no picture, but {', '.join(f.ending for f in found)!a:.100}")
        captions, dropped = keep_captions(self._captions(file, found))
        image = _content(file, picture, MAX_PICTURE_BYTES)
        return Sample(key, image, captions, split=self.split, dropped=dropped)

    def _captions(self, file, found: list[_File]) -> list:
        for one in found:
            if one.ending in TEXTS and not self.fields_asked:
                return [_content(file, one, MAX_TEXT_BYTES).decode(errors="surrogateescape")]
        for one in found:
            if one.ending == "json":
                return self._of_json(_content(file, one, MAX_TEXT_BYTES))
        return []

    @property
    def fields_asked(self) -> bool:
        return self.fields is not FIELDS

    def _of_json(self, content: bytes) -> list:
        try:
            value = json.loads(content.decode(errors="surrogateescape"))
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"damaged JSON: {error}") from None
        said = [value[f] for f in self.fields if f in value] if isinstance(value, dict) else []
        said = said if self.fields_asked else said[:1]
        return [text for one in said for text in (one if isinstance(one, list) else [one])]


def _groups(shard: Path) -> Iterator[tuple[str, list[_File] | str]]:
    """Yield the name and the files of every sample, and last what damage ends the shard, if any."""
    name, files = "", []
    try:
        with tarfile.open(shard, "r:") as tar:
            while member := tar.next():
                tar.members.clear()  # tarfile keeps them all
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
            # In the middle tarfile takes what is no header for the end.
            with open(shard, "rb") as file:
                file.seek(tar.offset)
                if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise ValueError("no end of the archive")
    except _DAMAGE as error:
        told = " ".join(str(error).split())[:100]
        problem = f"{shard.name} is damaged, and what follows is not read: {told}"
        if files:
            yield name, files
        yield f"{shard.name}, damaged", problem
        return
    if files:
        yield name, files


def _picture(files: list[_File]) -> _File | None:
    return next((one for one in files if one.ending in PICTURES), None)


def _content(file, one: _File, most: int) -> bytes:
    """Return the bytes of a file within the tar."""
    if one.member.size > most:
        raise ValueError(f".{one.ending} of more than {most:,} bytes")
    file.seek(one.member.offset_data)
    content = file.read(one.member.size)
    if len(content) < one.member.size:
        raise ValueError(f".{one.ending} is cut off: the tar ends within it")
    return content
