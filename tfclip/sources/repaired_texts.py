"""A source whose captions and region phrases are repaired, see `text_repair.fix_text`."""

from collections.abc import Iterator
from dataclasses import replace

from tfclip.sources.sample import Rejected, Sample, Source
from tfclip.text_repair import fix_text


def with_repaired_texts(source: Source) -> Source:
    """Return the source with repaired captions and phrases; labels stay as they are."""

    def read(split: str) -> Iterator[Sample | Rejected]:
        return map(_repaired, source.read(split))

    return replace(source, read=read)


def _repaired(item: Sample | Rejected) -> Sample | Rejected:
    if isinstance(item, Rejected):
        return item
    return replace(
        item,
        captions=tuple(map(fix_text, item.captions)),
        regions=tuple(one._replace(phrase=fix_text(one.phrase)) for one in item.regions),
    )
