"""Parts of a packed set for cross-validation: whole shards, by links; nothing is copied."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from tfclip import files
from tfclip.records import schema
from tfclip.records.manifest import Manifest, Shard, SplitCounts, load_manifest, vocabulary_file
from tfclip.records.reader import read_shards, split_files

HELD_OUT = "held-out"
"""The split of a fold that its model does not see; the rest keeps the name it had."""
PART_OF = "part_of"
"""In the manifest of a fold: the `records`, `split`, and for each of its own splits the rows
[start, end) there."""


@dataclass(frozen=True)
class Fold:
    """One part of a split, and the rest of it.

    Attributes:
        directory: a packed set with two splits, the rest and `HELD_OUT`.
        shards: the numbers of the held-out shards among those of the split.
    """

    directory: Path
    shards: tuple[int, ...]


def make_folds(records: Path, split: str, number: int, out: Path) -> list[Fold]:
    """Divide the shards of a split into `number` parts; shard k belongs to part k modulo `number`.

    Args:
        records: a packed set; its shards are linked to.
        split: one of its splits.
        number: 2 or more.
        out: the folder to make the sets in, `fold-1`, `fold-2`, ...; those that are there stay: the
            name of the folder should say of which set they are.

    Raises:
        ValueError: fewer shards than parts, or an unknown split.
        FileNotFoundError: see `reader.split_files`.
    """
    manifest = load_manifest(records)
    shards = manifest.shards_of(split)
    if len(shards) < number:
        raise ValueError(
            f"{records}:{split} has {len(shards)} shards, too few for --folds {number}; pack it "
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
    """Count the captions, the phrases, and their lengths in words."""
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
