"""A source whose captions and region phrases are repaired, see `text_repair.fix_text`."""

from collections.abc import Iterator
from dataclasses import replace

from tfclip.console import say
from tfclip.sources.sample import Rejected, Sample, Source
from tfclip.text_repair import fix_text


def with_repaired_texts(source: Source) -> Source:
    """Return the source with repaired captions and phrases; labels stay as they are.

    When a split has been read for the first time, the number of changed texts is printed.
    """
    told: set[str] = set()

    def read(split: str) -> Iterator[Sample | Rejected]:
        texts = changed = 0
        for item in source.read(split):
            if isinstance(item, Rejected):
                yield item
                continue
            repaired = _repaired(item)
            pairs = list(zip(_texts(item), _texts(repaired), strict=True))
            texts += len(pairs)
            changed += sum(before != after for before, after in pairs)
            yield repaired
        if split not in told:
            told.add(split)
            say(f"--fix-text: {changed:,} of {texts:,} captions and phrases of {split} changed")

    return replace(source, read=read)


def _texts(item: Sample) -> list[str]:
    return [*item.captions, *(one.phrase for one in item.regions)]


def _repaired(item: Sample) -> Sample:
    return replace(
        item,
        captions=tuple(map(fix_text, item.captions)),
        regions=tuple(one._replace(phrase=fix_text(one.phrase)) for one in item.regions),
    )
