"""python -m tfclip.make_records SOURCE|verify|inspect|score|embed: pack pictures and captions."""

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from tfclip import files
from tfclip.console import Command, CommandFailed, run, say
from tfclip.embed_records import embed_records
from tfclip.plugins import is_reference
from tfclip.records.flags.packing import FLAGS, PackFlags
from tfclip.records.flags.subcommands import (
    DuplicatesFlags,
    EmbedFlags,
    InspectFlags,
    ScoreFlags,
    VerifyFlags,
)
from tfclip.records.manifest import EXCLUSIONS, load_manifest, vocabulary_file
from tfclip.records.options import planned_counts, shard_ends
from tfclip.records.packing.target import check_target
from tfclip.score_records import score_records
from tfclip.sources.registry import SOURCES, TFDS, installed_sources, open_source
from tfclip.sources.sample import options_from_json, options_to_json

TRAINING = re.compile(r"train\d*")
"""Names of splits from which the vocabulary is learnt: train, train2017."""

# The functions below import TensorFlow themselves, so that --help and errors in flags are fast.


def make_records(source_name: str, flags: PackFlags) -> dict:
    """Pack a data set and return its paths, counts and speed.

    Raises:
        ValueError, OSError: the flags or the data are invalid; see `records.packing.writer.pack`.
        CommandFailed: too many pictures were rejected (exit code 3).
    """
    check_target(flags.out, flags.packing.overwrite)
    source = open_source(source_name, flags.data, flags.source_options())
    if not (flags.val_fraction or flags.test_fraction):
        planned_counts(source, flags.packing)
    from tfclip.inputs.tokenizers.of_records import add_vocabulary, check_given
    from tfclip.records.exclusions import exclude
    from tfclip.records.holdout import hold_out
    from tfclip.records.packing.writer import TooManySkipped, pack

    if flags.vocab is not None:
        check_given(flags.vocab)
    source = hold_out(source, flags.source_options(), flags.packing.workers)
    source = exclude(source, flags.source_options(), flags.packing.workers)
    started = packed = time.monotonic()

    def finish(building: Path, files: dict[str, list[str]]) -> dict:
        nonlocal packed
        packed = time.monotonic()
        training = [file for split in files if TRAINING.fullmatch(split) for file in files[split]]
        added = add_vocabulary(building, training, flags.vocab, flags.vocab_size, not flags.cased)
        if source.exclusions:
            text = "".join(
                f"{json.dumps(line, ensure_ascii=False)}\n" for line in source.exclusions()
            )
            (building / EXCLUSIONS).write_text(text, encoding="utf-8", errors="backslashreplace")
        return added

    try:
        manifest = pack(
            source,
            flags.out,
            flags.packing,
            finish=finish,
            source_options=options_to_json(flags.source_options()),
            shard_packer=_on_beam(source_name, flags),
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
        "vocabulary": vocabulary_file(flags.out).exists(),
        "seconds": round(seconds, 2),
        "images_per_second": round(images / seconds, 1),
    }
    for split, counts in manifest.splits.items():
        say(f"{split}: " + ", ".join(f"{n} {what}" for what, n in vars(counts).items()))
    say(f"{flags.out}: {images} images, packed in {seconds:.1f} s ({images / seconds:,.0f}/s)")
    return result


def plan_records(source_name: str, flags: PackFlags) -> dict:
    """Return the output of `--dry-run`: flags, pictures and shards of each split, output folder.

    Captions and labels are read as for packing, pictures are not, so that those excluded by
    `--deduplicate` and `--exclude-images` are still counted.
    """
    check_target(flags.out, flags.packing.overwrite)
    source = open_source(source_name, flags.data, flags.source_options())
    # The splits of --val-fraction are only known after reading the pictures.
    splits = () if flags.val_fraction or flags.test_fraction else flags.packing.splits
    counts = planned_counts(source, replace(flags.packing, splits=splits))
    return {
        "source": source_name,
        "flags": asdict(flags),
        "splits": {
            split: {"pictures": count, "shards": len(shard_ends(count, flags.packing.shards))}
            for split, count in counts.items()
        },
        "class_names": source.class_names,
        "writes": flags.out,
    }


def _on_beam(source_name: str, flags: PackFlags) -> Callable | None:
    """Return the function that packs shards with Beam, None without --runner."""
    if flags.runner is None:
        return None
    from tfclip.records.exclusions import open_filtered
    from tfclip.records.packing.beam import pack_with_beam

    given = (source_name, flags.data, flags.source_options(), flags.packing.workers)
    opened = partial(open_filtered, *given)
    return partial(pack_with_beam, opened, flags.runner, flags.beam_options)


def verify_records(flags: VerifyFlags) -> dict:
    """Verify packed records and print all problems; raise `CommandFailed` if there are any."""
    from tfclip.records.verify import verify

    repaired = _repair(flags.records, flags.data, flags.workers) if flags.data else []
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
    """Pack the damaged shards of a set again and return their names."""
    from tfclip.records.exclusions import open_filtered
    from tfclip.records.packing.repair import pack_options, repair

    manifest = load_manifest(records)
    packing = pack_options(manifest, workers)
    packed = options_from_json(manifest.packing.get("source_options", {}))
    options = replace(packed, seed=packing.seed, splits=packing.splits)
    return repair(records, open_filtered(manifest.source, data, options, workers), workers)


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
        files.write_text(flags.out, "".join(lines))
    say(
        f"{result['pictures']:,} pictures: {result['same_file']:,} are the same file as an earlier "
        f"one, {result['alike']:,} are near-duplicates; {result['repeated_captions']:,} of "
        f"{result['captions']:,} captions are repeated"
    )
    return result


def inspect_records(flags: InspectFlags) -> dict:
    """Draw the contact sheet, and print the statistics."""
    from tfclip.records.contact_sheet import contact_sheet
    from tfclip.records.statistics import report_lines, statistics

    pictures = contact_sheet(
        flags.records, flags.out, split=flags.split, pictures=flags.pictures, seed=flags.seed
    )
    figures = statistics(flags.records, flags.split)
    for line in report_lines(figures):
        say(line)
    say(f"{flags.out}: {pictures} pictures")
    return {"out": flags.out, "pictures": pictures, "statistics": figures}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    given = argv[0] if argv and is_reference(argv[0]) and not argv[0].startswith("-") else ""
    names = [*SOURCES, given if given.startswith(TFDS) else f"{TFDS}NAME", *installed_sources()]
    names.append(given if given and not given.startswith(TFDS) else "package.module:function")
    commands = {}
    for name in names:
        flags = FLAGS.get(TFDS if name.startswith(TFDS) else name, PackFlags)
        commands[name] = Command(
            flags, partial(make_records, name), f"pack {name}", partial(plan_records, name)
        )
    commands["verify"] = Command(VerifyFlags, verify_records)
    commands["duplicates"] = Command(DuplicatesFlags, report_duplicates)
    commands["score"] = Command(ScoreFlags, score_records)
    commands["embed"] = Command(EmbedFlags, embed_records)
    commands["inspect"] = Command(InspectFlags, inspect_records)
    return run("tfclip.make_records", commands, argv, kind="source")


if __name__ == "__main__":
    sys.exit(main())
