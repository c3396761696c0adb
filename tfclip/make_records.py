"""python -m tfclip.make_records SOURCE|verify|inspect: pack pictures and captions into records."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from tfclip.console import Command, CommandFailed, run, say
from tfclip.records.manifest import LEFT_OUT, VOCABULARY, load_manifest
from tfclip.records.options import PackOptions, planned
from tfclip.records.target import check_target
from tfclip.sources.registry import SOURCES, TFDS, open_source
from tfclip.sources.sample import SourceOptions, options_from_json, options_to_json

TRAINING = re.compile(r"train\d*")
"""Splits whose texts the vocabulary is learnt from: train, train2017."""

# What imports TensorFlow is imported by the functions below, when the flags are known to be right:
# --help and mistakes are answered at once.


@dataclass(frozen=True)
class PackFlags:
    """Pack a data set: check and store its pictures, captions, regions and labels as TFRecords."""

    data: Path
    """The folder of the data set."""
    out: Path
    """The directory to make."""
    packing: PackOptions = field(default_factory=PackOptions)
    vocab: Path | None = None
    """A WordPiece vocabulary to put beside the records; by default one is learnt from the training
    captions."""
    vocab_size: int = 8000
    """The largest size of a learnt vocabulary."""
    exclude_ids: Path | None = None
    """A file of ids of pictures to leave out, one per line; for visual_genome also coco/123."""
    exclude_images: Path | None = None
    """A folder of pictures, such as a test set: what looks like one of them is left out."""
    deduplicate: bool = False
    """Leave out pictures that repeat an earlier one, as a file or in looks, and repeated
    captions."""
    runner: str | None = None
    """Pack with Apache Beam, on DirectRunner or any other that Beam knows; by default without."""
    beam_options: tuple[str, ...] = ()
    """Beam's own options for --runner, without dashes: direct_num_workers=4."""

    def __post_init__(self):
        if self.vocab_size < 1:
            raise ValueError(f"received --vocab-size {self.vocab_size}; allowed: 1 or more")
        if self.beam_options and self.runner is None:
            raise ValueError("--beam-options go with --runner, DirectRunner for instance")
        if self.vocab is not None and not self.vocab.is_file():
            raise FileNotFoundError(f"no vocabulary at {self.vocab}; --vocab takes a text file")

    def source_options(self) -> SourceOptions:
        """Return what the source is opened with: the flags that have the names of its options."""
        known = {option.name for option in fields(SourceOptions)}
        given = {flag.name: getattr(self, flag.name) for flag in fields(self) if flag.name in known}
        return SourceOptions(seed=self.packing.seed, splits=self.packing.splits, **given)


@dataclass(frozen=True)
class VisualGenomeFlags(PackFlags):
    """Pack Visual Genome: region phrases with their boxes, split by seed when no ids are given."""

    id_lists: dict[str, Path] = field(default_factory=dict)
    """Files of image ids, one per line, for every split: train ids.txt val more.txt."""
    phrases_as_captions: bool = False
    """Store the region phrases as captions of the whole picture too."""


@dataclass(frozen=True)
class ImageFolderFlags(PackFlags):
    """Pack class folders, DIR/<class>/*.jpg or DIR/<split>/<class>/*.jpg; folders are labels."""

    caption_template: str | None = None
    """Give each picture a caption made of its class, "a photo of a {}."; by default none."""


@dataclass(frozen=True)
class CaptionTableFlags(PackFlags):
    """Pack a table of captions: .csv, .tsv or .jsonl, or a folder with one for each split."""

    images: Path | None = None
    """The folder that the paths start from; by default that of the table."""
    image_field: Annotated[str | None, arg(name="path-column")] = None
    """The column of paths; by default one that is named like one."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-columns")] = ()
    """The columns of captions; by default those that are named like some."""
    split_field: Annotated[str | None, arg(name="split-column")] = None
    """The column that names the split of a row; by default the table's name does, or train."""


@dataclass(frozen=True)
class ForeignRecordsFlags(PackFlags):
    """Pack TFRecords that others wrote: img2dataset's, TF Model Garden's COCO, rows of captions."""

    image_field: Annotated[str | None, arg(name="image-feature")] = None
    """The feature with the encoded picture; by default one of the usual names."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-features")] = ()
    """The features with captions; by default the first of the usual names."""
    key_field: Annotated[str | None, arg(name="key-feature")] = None
    """The feature with the id of the picture; by default one of the usual names."""
    boxes_as_regions: bool = False
    """Store objects as regions, with the class name for a phrase."""


@dataclass(frozen=True)
class WebdatasetFlags(PackFlags):
    """Pack webdataset shards: .tar files holding NAME.jpg with NAME.txt or NAME.json."""

    caption_fields: Annotated[tuple[str, ...], arg(name="caption-fields")] = ()
    """Take captions from these fields of NAME.json; by default from NAME.txt, or caption."""


@dataclass(frozen=True)
class TfdsFlags(PackFlags):
    """Pack a data set of TensorFlow Datasets that has captions or labels."""

    image_field: Annotated[str | None, arg(name="image-feature")] = None
    """The feature with the picture; by default the only one."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-features")] = ()
    """The features with captions, captions/text; by default those named like some."""
    caption_template: str | None = None
    """Make a caption of each class of a picture, "a photo of a {}."; by default none."""
    boxes_as_regions: bool = False
    """Store objects as regions, with the class name for a phrase."""


FLAGS = {
    "visual_genome": VisualGenomeFlags,
    "image_folder": ImageFolderFlags,
    "caption_table": CaptionTableFlags,
    "foreign_tfrecord": ForeignRecordsFlags,
    "webdataset": WebdatasetFlags,
    TFDS: TfdsFlags,
}
"""What the sources take beside the flags of all."""


@dataclass(frozen=True)
class VerifyFlags:
    """Check every byte, count and hash of packed records; exit code 1 when something is wrong."""

    records: Positional[Path]
    """A directory of packed records."""
    repair: bool = False
    """Pack the damaged shards again, and those alone; needs --data."""
    data: Path | None = None
    """The folder of the data set that the records were packed from, for --repair."""
    workers: int = PackOptions().workers
    """Processes that check pictures, for --repair."""

    def __post_init__(self):
        if self.repair != (self.data is not None):
            raise ValueError("--repair packs shards again, and takes --data DIR, the data set")
        if self.workers < 1:
            raise ValueError(f"received --workers {self.workers}; allowed: 1 or more")


@dataclass(frozen=True)
class DuplicatesFlags:
    """Find pictures and captions that packed records hold several times, within and across sets."""

    records: Positional[tuple[str, ...]]
    """Packed records, DIR or DIR:SPLIT; several are compared with each other."""
    out: Path | None = None
    """A file to list every repeated picture in, duplicates.jsonl."""
    threads: int = 2
    """Pictures that are looked at side by side."""

    def __post_init__(self):
        if self.threads < 1:
            raise ValueError(f"received --threads {self.threads}; allowed: 1 or more")
        if not self.records:
            raise ValueError("missing: RECORDS, one or more directories of packed records")


@dataclass(frozen=True)
class InspectFlags:
    """Draw a contact sheet of packed records with captions and boxes, and print statistics."""

    records: Positional[Path]
    """A directory of packed records."""
    out: Path
    """The picture to write, sheet.png."""
    split: str | None = None
    """What to look at; by default the sheet shows the first split, and all of them are counted."""
    pictures: int = 16
    """At most so many."""
    seed: int = 0
    """Decides which."""

    def __post_init__(self):
        if self.pictures < 1:
            raise ValueError(f"received --pictures {self.pictures}; allowed: 1 or more")


def make_records(source_name: str, flags: PackFlags) -> dict:
    """Pack a data set by its name, and return what was made: paths, counts, speed.

    Raises:
        ValueError, OSError: a mistake in the flags or the data; see `records.writer.pack`.
        CommandFailed: too many pictures were rejected (exit code 3).
    """
    check_target(flags.out, flags.packing.overwrite)
    source = open_source(source_name, flags.data, flags.source_options())
    planned(source, flags.packing)
    from tfclip.inputs.vocabulary import load_vocabulary, save_vocabulary
    from tfclip.records.left_out import leave_out
    from tfclip.records.writer import TooManySkipped, pack

    given = None if flags.vocab is None else load_vocabulary(flags.vocab)
    source = leave_out(source, flags.source_options(), flags.packing.workers)
    started = packed = time.monotonic()

    def add_vocabulary(building: Path, files: dict[str, list[str]]) -> None:
        nonlocal packed
        packed = time.monotonic()
        training = [file for split in files if TRAINING.fullmatch(split) for file in files[split]]
        words = given or _learn(training, flags.vocab_size)
        if words:
            save_vocabulary(words, building / VOCABULARY)
        if source.left_out:
            text = "".join(
                f"{json.dumps(line, ensure_ascii=False)}\n" for line in source.left_out()
            )
            (building / LEFT_OUT).write_text(text, encoding="utf-8", errors="backslashreplace")

    try:
        manifest = pack(
            source,
            flags.out,
            flags.packing,
            finish=add_vocabulary,
            source_options=options_to_json(flags.source_options()),
            elsewhere=_on_beam(source_name, flags),
        )
    except TooManySkipped as refusal:
        raise CommandFailed(str(refusal), exit_code=3) from None
    seconds = packed - started
    images = sum(counts.images for counts in manifest.splits.values())
    result = {
        "records": flags.out,
        "splits": manifest.splits,
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "vocabulary": (flags.out / VOCABULARY).exists(),
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 1),
    }
    for split, counts in manifest.splits.items():
        say(f"{split}: " + ", ".join(f"{n} {what}" for what, n in vars(counts).items()))
    say(f"{flags.out}: {images} images, packed in {seconds:.1f} s ({images / seconds:,.0f}/s)")
    return result


def _on_beam(source_name: str, flags: PackFlags) -> Callable | None:
    """Return what packs the shards with Beam, None without --runner."""
    if flags.runner is None:
        return None
    from tfclip.records.beam import pack_with_beam
    from tfclip.records.left_out import open_without

    given = (source_name, flags.data, flags.source_options(), flags.packing.workers)
    opened = partial(open_without, *given)
    return partial(pack_with_beam, opened, flags.runner, flags.beam_options)


def _learn(files: list[str], size: int) -> list[str]:
    """Return a vocabulary learnt from the captions and phrases in these shards, if any."""
    from tfclip.inputs.vocabulary import learn_vocabulary
    from tfclip.records import schema
    from tfclip.records.reader import read_shards

    def texts() -> Iterator[str]:
        features = (schema.CAPTION, schema.PHRASE)
        for record in read_shards(files, features=features).as_numpy_iterator():
            for name in features:
                yield from (text.decode() for text in record[name])

    first = next(texts(), None) if files else None
    return [] if first is None else learn_vocabulary(texts(), size)


def verify_records(flags: VerifyFlags) -> dict:
    """Verify packed records; `CommandFailed` when there is a problem, after telling each."""
    from tfclip.records.verify import verify

    repaired = _repair(flags.records, flags.data, flags.workers) if flags.repair else []
    problems = verify(flags.records)
    result = {"records": flags.records, "sound": not problems, "problems": problems}
    result |= {"repaired": repaired} if flags.repair else {}
    for shard in repaired:
        say(f"{shard}: packed again")
    for problem in problems:
        say(problem)
    if problems:
        raise CommandFailed(f"{flags.records}: {len(problems)} problems", result=result)
    say(f"{flags.records}: sound")
    return result


def _repair(records: Path, data: Path, workers: int) -> list[str]:
    """Pack the damaged shards of a set again; return their names."""
    from tfclip.records.left_out import open_without
    from tfclip.records.repair import pack_options, repair

    manifest = load_manifest(records)
    packing = pack_options(manifest, workers)
    told = options_from_json(manifest.packing.get("source_options", {}))
    options = replace(told, seed=packing.seed, splits=packing.splits)
    return repair(records, open_without(manifest.source, data, options, workers), workers)


def report_duplicates(flags: DuplicatesFlags) -> dict:
    """Count repeated pictures and captions, and list the pictures."""
    from tfclip.records.duplicates import find_duplicates

    result, entries = find_duplicates(flags.records, flags.threads)
    shown, lines = 5, []
    for number, entry in enumerate(entries):
        if number < shown:
            say(f"{entry['key']} in {entry['records']}: {entry['reason']}")
        elif flags.out is None:
            say("...; --out FILE lists all")
            break
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    if flags.out is not None:
        flags.out.write_text("".join(lines), encoding="utf-8")
    say(
        f"{result['pictures']:,} pictures: {result['same_file']:,} are the same file as an earlier "
        f"one, {result['alike']:,} look like one; {result['repeated_captions']:,} of "
        f"{result['captions']:,} captions were said before"
    )
    return result


def inspect_records(flags: InspectFlags) -> dict:
    """Draw the contact sheet, and tell the statistics."""
    from tfclip.records.contact_sheet import contact_sheet
    from tfclip.records.statistics import statistics, told

    pictures = contact_sheet(
        flags.records, flags.out, split=flags.split, pictures=flags.pictures, seed=flags.seed
    )
    figures = statistics(flags.records, flags.split)
    for line in told(figures):
        say(line)
    say(f"{flags.out}: {pictures} pictures")
    return {"out": flags.out, "pictures": pictures, "statistics": figures}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    names = [*SOURCES, f"{TFDS}NAME"]
    if asked := [word for word in argv[:1] if word.startswith(TFDS)]:
        names[-1:] = asked
    commands = {}
    for name in names:
        flags = FLAGS.get(TFDS if name.startswith(TFDS) else name, PackFlags)
        commands[name] = Command(flags, partial(make_records, name), f"pack {name}")
    commands["verify"] = Command(VerifyFlags, verify_records)
    commands["duplicates"] = Command(DuplicatesFlags, report_duplicates)
    commands["inspect"] = Command(InspectFlags, inspect_records)
    return run("tfclip.make_records", commands, argv, kind="source")


if __name__ == "__main__":
    sys.exit(main())
