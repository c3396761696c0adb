"""Find repeated pictures and captions within and across record sets."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tfclip.records import schema
from tfclip.records.exclusions import SAME, find_exclusions
from tfclip.records.manifest import load_manifest, records_reference
from tfclip.records.reader import read_split, shard_counts
from tfclip.sources.sample import Sample, Source, SourceOptions


def find_duplicates(references: Sequence[str], threads: int = 2) -> tuple[dict, Iterator[dict]]:
    """Find repeated pictures and captions within and across splits of record sets.

    Args:
        references: DIR for all its splits, or DIR:SPLIT.
        threads: the number of threads that hash pictures.

    Returns:
        Counts: `pictures`, `same_file`, `alike`, `captions`, `repeated_captions`; and an iterator
        over an entry `records`, `key`, `reason` for every picture that repeats another one.
        Pictures with the same key do not count as repeated. Captions count as repeated if
        `make_records --deduplicate` would drop them.

    Raises:
        FileNotFoundError: no such records, see `reader.split_files`.
        ValueError: an unknown split.
    """
    sets = {}
    for reference in references:
        directory, split = records_reference(reference)
        for name in [split] if split else load_manifest(directory).splits:
            sets[f"{directory}:{name}"] = (directory, name)
    counts = {name: sum(shard_counts(*where)) for name, where in sets.items()}
    source = Source("records", counts, partial(_read, sets))
    findings = find_exclusions(source, SourceOptions(deduplicate=True), threads)
    totals: Counter[str] = Counter()
    for name in counts:
        totals.update(findings.counts(name))
    result = {
        "pictures": sum(counts.values()),
        "same_file": totals["same_file"],
        "alike": totals["alike"],
        "captions": len(findings.repeated),
        "repeated_captions": totals["repeated_captions"],
    }

    def entries() -> Iterator[dict]:
        wanted = set(findings.original[findings.why >= SAME].tolist())
        originals = {}
        for name, positions in findings.splits.items():
            for at, sample in zip(positions, _read(sets, name), strict=True):
                if at in wanted:
                    originals[at] = f"{sample.key} in {name}"
                if findings.why[at]:
                    relation = (
                        "the same file as" if findings.why[at] == SAME else "near-duplicate of"
                    )
                    reason = f"{relation} {originals[int(findings.original[at])]}"
                    yield {"records": name, "key": sample.key, "reason": reason}

    return result, entries()


def _read(sets: dict[str, tuple[Path, str]], name: str) -> Iterator[Sample]:
    features = (schema.IMAGE, schema.KEY, schema.CAPTION)
    for record in read_split(*sets[name], features=features).as_numpy_iterator():
        yield Sample(
            record[schema.KEY].decode(),
            record[schema.IMAGE],
            tuple(caption.decode("utf-8", "replace") for caption in record[schema.CAPTION]),
        )
