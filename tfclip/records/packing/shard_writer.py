"""Write one shard of records, and describe it when it is finished."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from tfclip import files
from tfclip.records import schema
from tfclip.records.check import BadPicture, Checked
from tfclip.records.manifest import Shard
from tfclip.records.packing.journal import FIRST_FRAMES, Finished, Inputs
from tfclip.sources.sample import Rejected, Sample


class Unusable(ValueError):
    """An item that cannot become a record; the message is the reason."""


def usable(
    item: Sample | Rejected, picture: Checked | BadPicture | None
) -> tuple[Sample, Checked, dict[str, list]]:
    """Return a sample, its checked picture and the values of its record, see `schema.values`.

    Raises:
        Unusable: the item or its picture was rejected, or none of its texts is left.
    """
    if isinstance(item, Rejected):
        raise Unusable(item.reason)
    if not isinstance(picture, Checked):
        raise Unusable(str(picture))
    content = schema.values(item, picture)
    texts = len(item.captions) + len(item.regions)
    left = content[schema.CAPTION] or content[schema.PHRASE]
    if texts and not (left or item.labels or item.difficult):
        raise Unusable("no caption and no region is left")
    return item, picture, content


def tally_of(item: Sample, content: dict[str, list]) -> Counter[str]:
    """Return the contribution of a record to SplitCounts."""
    captions, regions = len(content[schema.CAPTION]), len(content[schema.PHRASE])
    texts = len(item.captions) + len(item.regions)
    return Counter(
        images=1,
        captions=captions,
        regions=regions,
        dropped=len(item.dropped) + texts - captions - regions,
    )


class ShardWriter:
    """Writes the temporary file `path`.tmp, which `finish` renames to `path`."""

    def __init__(self, path: Path, split: str, image_size: int | None):
        self._path, self._split = path, split
        self._inputs = Inputs(image_size)
        self._tally: Counter[str] = Counter()
        self._words: Counter[int] = Counter()
        self._skipped: list[tuple[str, str]] = []
        self._converted: Counter[str] = Counter()

    def write(
        self, checked: Iterable[tuple[Sample | Rejected, Checked | BadPicture | None]]
    ) -> None:
        """Write the records of all items of the shard."""
        with tf.io.TFRecordWriter(f"{self._path}.tmp") as writer:
            for item, result in checked:
                self._inputs.add(item)
                try:
                    sample, picture, content = usable(item, result)
                except Unusable as reason:
                    self._tally["skipped"] += 1
                    self._skipped.append((item.key, str(reason)))
                    continue
                writer.write(schema.encode(content))
                if picture.converted:
                    self._converted[picture.converted] += 1
                self._converted[FIRST_FRAMES] += picture.has_more_frames
                self._tally.update(tally_of(sample, content))
                texts = content[schema.CAPTION] + content[schema.PHRASE]
                self._words.update(len(text.split()) for text in texts)

    def finish(self) -> Finished:
        """Hash the written file, rename it, and return its entry."""
        written = Path(f"{self._path}.tmp")
        with open(written, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.publish(written, self._path)
        size = self._path.stat().st_size
        shard = Shard(self._path.name, self._split, self._tally["images"], size, digest)
        return Finished(
            shard,
            self._inputs.digest(),
            dict(self._tally),
            dict(self._words),
            tuple(self._skipped),
            dict(+self._converted),
        )
