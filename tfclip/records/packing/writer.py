"""Pack a source into shards of records, a manifest and a list of rejected inputs."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfclip.console import say
from tfclip.records.manifest import SKIPPED, Manifest, SplitCounts
from tfclip.records.options import PackOptions, Span, planned_counts, shard_spans
from tfclip.records.packing.journal import FIRST_FRAMES, Finished, Journal
from tfclip.records.packing.pool import PictureCheckers
from tfclip.records.packing.split_writer import changed_shards, pack_shards
from tfclip.records.packing.target import built_beside, keep_skipped_list
from tfclip.records.tfds_metadata import write_metadata
from tfclip.sources.sample import Source
from tfclip.version import __version__

ShardPacker = Callable[[Path, Mapping[str, list[Span]], PackOptions], Iterable[Finished]]
"""Packs the given shards of every split into a directory, and yields their entries."""


class TooManySkipped(Exception):
    """More inputs were rejected than allowed. Their list is kept, the records are not."""


def pack(
    source: Source,
    out: Path,
    options: PackOptions,
    *,
    finish: Callable[[Path, dict[str, list[str]]], Mapping[str, Any] | None] | None = None,
    source_options: Mapping[str, Any] | None = None,
    shard_packer: ShardPacker | None = None,
) -> Manifest:
    """Pack a source into `out`, and return the manifest.

    The bytes depend on the source and on `PackOptions.content()` alone. Memory does not grow with
    the number of pictures. `out` appears when everything is complete; a run that was killed or
    failed leaves its finished shards for the next one, which packs the rest.

    Args:
        source: the source to pack.
        out: a directory that does not exist, or a finished set to replace.
        options: the options of packing.
        finish: called before the manifest is written, with the directory in which the set is built
            and the shard files of every split. The files it writes there become part of the set,
            and the mapping it returns is added to `packing` in the manifest.
        source_options: the options of the source that differ from their defaults, for the manifest:
            a repair opens the source with them.
        shard_packer: packs the shards instead of local worker processes, see
            `records.packing.beam`.

    Raises:
        ValueError: an empty or unknown split, or a split of which no picture could be packed.
        FileExistsError: `out` holds other files.
        BlockingIOError: another run is packing the same set.
        TooManySkipped: more than `options.max_skipped` of the inputs were rejected.
        OSError: the disk is full, or a file cannot be written.
    """
    out = Path(out)
    plan = planned_counts(source, options)
    with built_beside(out, options.overwrite) as (building, journal):
        try:
            spans = {s: shard_spans(s, count, options.shards) for s, count in plan.items()}
            missing = {s: _missing(source, s, spans[s], options, journal, building) for s in spans}
            if shard_packer is not None:
                for entry in shard_packer(building, missing, options):
                    journal.add(entry)
            elif any(missing.values()):
                with PictureCheckers(options.workers, options.image_size) as checkers:
                    for split, wanted in missing.items():
                        pack_shards(
                            source,
                            split,
                            spans[split],
                            wanted,
                            building,
                            options,
                            checkers,
                            journal.add,
                        )
            packed = {
                split: _Part(tuple(journal[span.file] for span in spans[split])) for split in spans
            }
            _list_skipped(packed, building)
            _report_converted(packed)
            _check_skipped(packed, building, out, options.max_skipped)
            for split, part in packed.items():
                _check_not_empty(source, split, part)
            added = None
            if finish is not None:
                added = finish(
                    building,
                    {
                        s: [str(building / file) for file in part.files]
                        for s, part in packed.items()
                    },
                )
            write_metadata(building, {s: [one.shard for one in packed[s].finished] for s in packed})
            manifest = Manifest(
                source=source.name,
                splits={split: part.counts() for split, part in packed.items()},
                shards=tuple(one.shard for part in packed.values() for one in part.finished),
                class_names=source.class_names,
                caption_words={split: part.words() for split, part in packed.items()},
                packing=options.content()
                | {"source_options": dict(source_options or {})}
                | dict(added or {}),
                tfclip_version=__version__,
            )
            manifest.save(building)
        except tf.errors.OpError as error:  # TensorFlow raises these for a full disk, for example
            raise OSError(f"cannot write {out}: {error.message}") from None
    return manifest


@dataclass(frozen=True)
class _Part:
    """The finished shards of one split, in order."""

    finished: tuple[Finished, ...]

    @property
    def files(self) -> list[str]:
        return [one.shard.file for one in self.finished]

    @property
    def rejected(self) -> Iterator[tuple[str, str]]:
        return itertools.chain.from_iterable(one.skipped for one in self.finished)

    def counts(self) -> SplitCounts:
        return SplitCounts(**sum((Counter(one.tally) for one in self.finished), Counter()))

    def words(self) -> dict[int, int]:
        return dict(sorted(sum((Counter(one.words) for one in self.finished), Counter()).items()))


def _missing(
    source: Source,
    split: str,
    spans: list[Span],
    options: PackOptions,
    journal: Journal,
    building: Path,
) -> list[Span]:
    """Return the shards that no earlier run has finished from the same inputs."""
    if any(span.file in journal for span in spans):
        for file in changed_shards(source, split, spans, options, journal, building):
            journal.forget(file)
    missing = [span for span in spans if span.file not in journal]
    if len(missing) < len(spans):
        say(f"{split}: {len(spans) - len(missing)} of {len(spans)} shards are finished already")
    return missing


def _list_skipped(packed: dict[str, _Part], building: Path) -> None:
    # A lone surrogate becomes an escape that is valid in JSON.
    with open(building / SKIPPED, "w", encoding="utf-8", errors="backslashreplace") as file:
        for split, part in packed.items():
            for key, reason in part.rejected:
                line = {"split": split, "key": key, "reason": reason}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _report_converted(packed: dict[str, _Part]) -> None:
    for split, part in packed.items():
        formats = sum((Counter(one.converted) for one in part.finished), Counter())
        if frames := formats.pop(FIRST_FRAMES, 0):
            say(f"{split}: {frames:,} pictures hold several frames or pages; the first one is used")
        if formats:
            kinds = ", ".join(f"{count:,} {name}" for name, count in formats.most_common())
            say(
                f"{split}: {kinds} pictures were converted to JPEG; exported models do not read "
                "these formats"
            )


def _check_not_empty(source: Source, split: str, part: _Part) -> None:
    counts = part.counts()
    if not counts.images:
        key, reason = next(part.rejected)
        raise ValueError(
            f"no picture of split {split!r} of {source.name} could be packed: all {counts.skipped} "
            f"were rejected, the first is {key}: {reason}"
        )


def _check_skipped(packed: dict[str, _Part], building: Path, out: Path, most: float) -> None:
    counts = [part.counts() for part in packed.values()]
    skipped = sum(split.skipped for split in counts)
    total = skipped + sum(split.images for split in counts)
    if skipped > most * total:
        kept = keep_skipped_list(building, out)
        raise TooManySkipped(
            f"{skipped} of {total} pictures were rejected, allowed: {most:.2%}; {kept} lists them; "
            "--max-skipped allows more"
        )
