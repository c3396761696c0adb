"""Write a packed set again with the score of each caption, and without the worst captions."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip import files
from tfclip.console import progress
from tfclip.records import schema
from tfclip.records.manifest import (
    EXCLUSIONS,
    SKIPPED,
    Manifest,
    Shard,
    SplitCounts,
    load_manifest,
    vocabulary_file,
)
from tfclip.records.packing.target import check_target
from tfclip.records.reader import read_split, split_files
from tfclip.records.tfds_metadata import write_metadata

SCORED = "scored"
"""In the manifest of a set with scores: where they come from."""


@dataclass
class Written:
    """What was done to a set.

    Attributes:
        manifest: of the new set.
        dropped: captions that were left out, for each scored split.
        pictures: pictures that were left out with their last caption, for each scored split.
    """

    manifest: Manifest
    dropped: dict[str, int] = field(default_factory=dict)
    pictures: dict[str, int] = field(default_factory=dict)


def stored_scores(records: Path, split: str) -> np.ndarray:
    """Return the scores of all captions of a split, (M,) float32.

    Raises:
        ValueError: it has none.
    """
    features = (schema.CAPTION, schema.SCORE)
    scores = []
    for record in read_split(records, split, features=features).as_numpy_iterator():
        if len(record[schema.SCORE]) != len(record[schema.CAPTION]):
            raise ValueError(
                f"{records}:{split} has no scores; give --run RUN to rate its captions"
            )
        scores.append(record[schema.SCORE])
    return np.concatenate([np.zeros(0, np.float32), *scores])


def worst_of(scores: Mapping[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """Return for each split which captions are the worst `share` of its own, (M,) bool each.

    Exactly round(share * M) are; of equal scores the earlier caption is worse.
    """
    worst = {}
    for split, listed in scores.items():
        drop = np.zeros(len(listed), bool)
        drop[np.argsort(listed, kind="stable")[: round(share * len(listed))]] = True
        worst[split] = drop
    return worst


def write_scored(
    records: Path,
    out: Path,
    scores: Mapping[str, np.ndarray],
    drop: Mapping[str, np.ndarray],
    described: Mapping,
    *,
    overwrite: bool = False,
) -> Written:
    """Write the set `out`: that of `records` with the feature `schema.SCORE`.

    Pictures, texts and the order of the records stay as they are, in as many shards; one record is
    in memory at a time. A picture whose captions are all dropped is left out, unless it has regions
    or labels. `left_out.jsonl` lists every caption and picture that is left out. Splits without
    scores are copied.

    Args:
        records: a packed set.
        out: a directory that does not exist, or holds a finished set that may be overwritten.
        scores: for each split to be scored, (M,) float32 of all its captions in order.
        drop: for each, (M,) bool, the captions to leave out.
        described: where the scores come from, for the manifest.
        overwrite: see `out`.

    Raises:
        ValueError: another number of captions than scores, or no picture would be left.
        FileExistsError, FileNotFoundError, OSError: see `check_target` and `split_files`.
    """
    check_target(out, overwrite)
    manifest = load_manifest(records)
    written = Written(manifest)
    splits, words = dict(manifest.splits), dict(manifest.caption_words)
    shards: list[Shard] = []
    with files.new_folder(out, replace=overwrite) as building:
        with (building / EXCLUSIONS).open("w", encoding="utf-8") as excluded:
            if (records / EXCLUSIONS).is_file():
                excluded.write((records / EXCLUSIONS).read_text(encoding="utf-8"))
            for split in manifest.splits:
                paths = split_files(records, split)
                if split not in scores:
                    shards += manifest.shards_of(split)
                    for path in paths:
                        shutil.copyfile(path, building / Path(path).name)
                    continue
                rewriting = _Rewriting(split, scores[split], drop[split])
                for path in progress(paths, total=len(paths), what=f"writing {split}"):
                    shards.append(rewriting.shard(Path(path), building))
                    for line in rewriting.left_out():
                        excluded.write(json.dumps(line, ensure_ascii=False) + "\n")
                splits[split], words[split] = rewriting.counts(manifest.splits[split])
                written.dropped[split] = int(drop[split].sum())
                written.pictures[split] = manifest.splits[split].images - splits[split].images
        if not (building / EXCLUSIONS).stat().st_size:
            (building / EXCLUSIONS).unlink()
        for name in (SKIPPED, vocabulary_file(records).name):
            if (records / name).is_file():
                shutil.copyfile(records / name, building / name)
        of_split = {name: [one for one in shards if one.split == name] for name in splits}
        write_metadata(building, of_split, added=(schema.SCORE,))
        written.manifest = replace(
            manifest,
            splits=splits,
            shards=tuple(shards),
            caption_words=words,
            packing=manifest.packing | {SCORED: dict(described)},
        )
        written.manifest.save(building)
    return written


class _Rewriting:
    """The shards of one split, one after the other."""

    def __init__(self, split: str, scores: np.ndarray, drop: np.ndarray):
        self._split, self._scores, self._drop, self._at = split, scores, drop, 0
        self._tally: Counter[str] = Counter()
        self._words: Counter[int] = Counter()
        self._left_out: list[dict[str, str]] = []

    def shard(self, path: Path, out: Path) -> Shard:
        """Write one shard again."""
        records, target = 0, out / path.name
        with tf.io.TFRecordWriter(str(target)) as writer:
            for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                again = self._record(serialized)
                if again is not None:
                    writer.write(again)
                    records += 1
        with open(target, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Shard(path.name, self._split, records, target.stat().st_size, digest)

    def left_out(self) -> Iterator[dict[str, str]]:
        """Yield what was left out since the last call."""
        yield from self._left_out
        self._left_out.clear()

    def counts(self, before: SplitCounts) -> tuple[SplitCounts, dict[int, int]]:
        """Return the counts of the whole split, after its last shard.

        Raises:
            ValueError: there were more or fewer captions than scores, or no picture is left.
        """
        if self._at != len(self._scores):
            raise ValueError(f"{len(self._scores)} scores for {self._at} captions")
        if not self._tally["images"]:
            raise ValueError(f"no picture of {self._split!r} would be left")
        counts = SplitCounts(
            self._tally["images"],
            self._tally["captions"],
            self._tally["regions"],
            before.skipped,
            before.dropped + int(self._drop.sum()),
        )
        return counts, dict(sorted(self._words.items()))

    def _record(self, serialized: bytes) -> bytes | None:
        """Return a record with its scores, None when nothing is left to say about the picture."""
        example = tf.train.Example.FromString(serialized)
        features = example.features.feature
        captions = list(features[schema.CAPTION].bytes_list.value)
        mine = slice(self._at, self._at + len(captions))
        self._at = mine.stop
        if mine.stop > len(self._scores):
            raise ValueError(f"more captions than scores in {self._split!r}")
        scores, drop = self._scores[mine], self._drop[mine]
        key = features[schema.KEY].bytes_list.value[0].decode("utf-8", "replace")
        for caption, score in zip(np.array(captions, object)[drop], scores[drop], strict=True):
            text = caption.decode("utf-8", "replace")
            reason = f"among the worst captions by its cosine, {score:.4f}: {text}"
            self._left_out.append({"split": self._split, "key": key, "reason": reason})
        kept = [caption for caption, worse in zip(captions, drop, strict=True) if not worse]
        phrases = features[schema.PHRASE].bytes_list.value
        others = (schema.PHRASE, schema.LABEL, schema.DIFFICULT)
        if captions and not kept and not any(features[n].bytes_list.value for n in others):
            self._left_out.append(
                {"split": self._split, "key": key, "reason": "the picture: no caption is left"}
            )
            return None
        self._tally.update(images=1, captions=len(kept), regions=len(phrases))
        self._words.update(len(text.split()) for text in (*kept, *phrases))
        for name in (schema.CAPTION, schema.SCORE):
            features.pop(name, None)
        if kept:
            features[schema.CAPTION].bytes_list.value.extend(kept)
            features[schema.SCORE].float_list.value.extend(scores[~drop].tolist())
        for name in [name for name in features if not features[name].WhichOneof("kind")]:
            del features[name]  # asking for a feature has made it
        return example.SerializeToString(deterministic=True)
