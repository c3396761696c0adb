"""Divides a packed set into folds for cross-validation: whole shards, as links without copies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from tfclip import files
from tfclip.records import schema
from tfclip.records.manifest import Manifest, Shard, SplitCounts, load_manifest, vocabulary_file
from tfclip.records.reader import read_shards, split_files

HELD_OUT = "held-out"
"""The name of the held-out split of a fold; the other split keeps its name."""
PART_OF = "part_of"
"""Key in the manifest of a fold: the original `records` and `split`, and the `rows` [start, end) of
it in each split of the fold."""


@dataclass(frozen=True)
class Fold:
    """A held-out part of a split, and the rest of it.

    Attributes:
        directory: a packed set with two splits, the rest and `HELD_OUT`.
        shards: the indices of the held-out shards in the original split.
    """

    directory: Path
    shards: tuple[int, ...]


def make_folds(records: Path, split: str, number: int, out: Path) -> list[Fold]:
    """Divide the shards of a split into `number` folds; fold k % number holds out shard k.

    Args:
        records: a packed set, whose shards are linked.
        split: one of its splits.
        number: the number of folds, 2 or more.
        out: the folder for the sets `fold-1`, `fold-2`, ...; existing ones are reused, so its name
            should identify the original set.

    Raises:
        ValueError: there are fewer shards than folds, or the split is unknown.
        FileNotFoundError: see `reader.split_files`.
    """
    manifest = load_manifest(records)
    shards = manifest.shards_of(split)
    if len(shards) < number:
        raise ValueError(
            f"{records}:{split} has {len(shards)} shards, fewer than --folds {number}; pack it "
            f"with --shards {number} or more"
        )
    paths = split_files(records, split)
    texts = [_texts(path) for path in paths]
    folds = []
    for part in range(number):
        directory = out / f"fold-{part + 1}"
        held_out = [at for at in range(len(shards)) if at % number == part]
        rest = [at for at in range(len(shards)) if at % number != part]
        if not directory.is_dir():
            with files.new_folder(directory) as building:
                for shard, path in zip(shards, paths, strict=True):
                    (building / shard.file).symlink_to(Path(path).resolve())
                vocabulary = vocabulary_file(records)
                if vocabulary.is_file():
                    (building / vocabulary.name).symlink_to(vocabulary.resolve())
                chosen = {split: rest, HELD_OUT: held_out}
                _manifest(records, manifest, split, shards, texts, chosen).save(building)
        folds.append(Fold(directory, tuple(held_out)))
    return folds


def _texts(path: str) -> tuple[int, int, Counter]:
    """Return the numbers of captions and of phrases, and the counts of their lengths in words."""
    captions, phrases = 0, 0
    words: Counter[int] = Counter()
    features = (schema.CAPTION, schema.PHRASE)
    for record in read_shards([path], features=features).as_numpy_iterator():
        captions += len(record[schema.CAPTION])
        phrases += len(record[schema.PHRASE])
        words.update(len(text.split()) for name in features for text in record[name])
    return captions, phrases, words


def _manifest(
    records: Path,
    manifest: Manifest,
    split: str,
    shards: tuple[Shard, ...],
    texts: list[tuple[int, int, Counter]],
    chosen: dict[str, list[int]],
) -> Manifest:
    ends = [sum(shard.records for shard in shards[: at + 1]) for at in range(len(shards))]
    return replace(
        manifest,
        splits={
            name: SplitCounts(
                images=sum(shards[at].records for at in numbers),
                captions=sum(texts[at][0] for at in numbers),
                regions=sum(texts[at][1] for at in numbers),
            )
            for name, numbers in chosen.items()
        },
        shards=tuple(
            replace(shards[at], split=name) for name, numbers in chosen.items() for at in numbers
        ),
        caption_words={
            name: dict(sorted(sum((texts[at][2] for at in numbers), Counter()).items()))
            for name, numbers in chosen.items()
        },
        packing=manifest.packing
        | {
            PART_OF: {
                "records": str(records.resolve()),
                "fingerprint": manifest.fingerprint(),
                "split": split,
                "rows": {
                    name: [[ends[at] - shards[at].records, ends[at]] for at in numbers]
                    for name, numbers in chosen.items()
                },
            }
        },
    )
