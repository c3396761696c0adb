"""Writes a copy of a packed set with a score for each caption, and without the worst captions."""

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
from tfclip.records.scores.caption_scores import CaptionScores, joined
from tfclip.records.tfds_metadata import write_metadata

SCORED = "scored"
"""Key in the manifest of a set with scores: their origin."""


@dataclass
class Written:
    """The result of `write_scored`.

    Attributes:
        manifest: the manifest of the new set.
        dropped: the number of dropped captions by scored split.
        pictures: the number of pictures dropped with their last caption by scored split.
    """

    manifest: Manifest
    dropped: dict[str, int] = field(default_factory=dict)
    pictures: dict[str, int] = field(default_factory=dict)


def stored_scores(records: Path, split: str) -> CaptionScores:
    """Return the scores of all captions of a split; older sets have no agreements.

    Raises:
        ValueError: the split has no scores.
    """
    features = (schema.CAPTION, schema.SCORE, schema.AGREEMENT)
    scores = []
    for record in read_split(records, split, features=features).as_numpy_iterator():
        if len(record[schema.SCORE]) != len(record[schema.CAPTION]):
            raise ValueError(
                f"{records}:{split} has no scores; give --run RUN to score its captions"
            )
        cosines, agreements = record[schema.SCORE], record[schema.AGREEMENT]
        missing = np.full(len(cosines), np.nan, np.float32)
        scores.append(CaptionScores(cosines, agreements if len(agreements) else missing))
    return joined(scores)


def worst_of(scores: Mapping[str, np.ndarray], fraction: float) -> dict[str, np.ndarray]:
    """Return a mask of the captions that fit worst for each split, (M,) bool each.

    `scores` has `CaptionScores.fit` of each split. Each mask has exactly round(fraction * M)
    captions; of equal scores the earlier one is first.
    """
    worst = {}
    for split, listed in scores.items():
        drop = np.zeros(len(listed), bool)
        drop[np.argsort(listed, kind="stable")[: round(fraction * len(listed))]] = True
        worst[split] = drop
    return worst


def write_scored(
    records: Path,
    out: Path,
    scores: Mapping[str, CaptionScores],
    drop: Mapping[str, np.ndarray],
    described: Mapping,
    *,
    overwrite: bool = False,
) -> Written:
    """Write the set `out`: the set `records` with the features of `schema.ADDED`.

    Pictures, texts, order and number of shards do not change; one record is in memory at a time. A
    picture is dropped with its last caption, unless it has regions or labels. `left_out.jsonl`
    lists all dropped captions and pictures. Splits without scores are copied.

    Args:
        records: a packed set.
        out: a new directory, or a finished set if `overwrite`.
        scores: for each split to score, those of all its M captions in order.
        drop: for each of these splits, a mask (M,) bool of the captions to drop.
        described: the origin of the scores, for the manifest.
        overwrite: replace an existing set.

    Raises:
        ValueError: the numbers of captions and scores differ, or no picture would be left.
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
        write_metadata(building, of_split, added=tuple(schema.ADDED))
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
    """Rewrites the shards of a split in order."""

    def __init__(self, split: str, scores: CaptionScores, drop: np.ndarray):
        self._split, self._scores, self._drop, self._at = split, scores, drop, 0
        self._tally: Counter[str] = Counter()
        self._words: Counter[int] = Counter()
        self._left_out: list[dict[str, str]] = []

    def shard(self, path: Path, out: Path) -> Shard:
        """Write the new version of a shard."""
        records, target = 0, out / path.name
        with tf.io.TFRecordWriter(str(target)) as writer:
            for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                rewritten = self._record(serialized)
                if rewritten is not None:
                    writer.write(rewritten)
                    records += 1
        with open(target, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Shard(path.name, self._split, records, target.stat().st_size, digest)

    def left_out(self) -> Iterator[dict[str, str]]:
        """Yield the captions and pictures dropped since the last call."""
        yield from self._left_out
        self._left_out.clear()

    def counts(self, before: SplitCounts) -> tuple[SplitCounts, dict[int, int]]:
        """Return the counts of the whole split, after its last shard.

        Raises:
            ValueError: the numbers of captions and scores differ, or no picture is left.
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
        """Return a record with its scores; None if the picture has no text or label left."""
        example = tf.train.Example.FromString(serialized)
        features = example.features.feature
        captions = list(features[schema.CAPTION].bytes_list.value)
        own = slice(self._at, self._at + len(captions))
        self._at = own.stop
        if own.stop > len(self._scores):
            raise ValueError(f"more captions than scores in {self._split!r}")
        scores, drop = self._scores[own], self._drop[own]
        key = features[schema.KEY].bytes_list.value[0].decode("utf-8", "replace")
        for at in np.flatnonzero(drop):
            text = captions[at].decode("utf-8", "replace")
            told = f"cosine {scores.cosines[at]:.4f} with the picture"
            if not np.isnan(scores.agreements[at]):
                told += f", {scores.agreements[at]:.4f} with its other captions"
            reason = f"among the worst captions, {told}: {text}"
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
        for name in (schema.CAPTION, *schema.ADDED):
            features.pop(name, None)
        if kept:
            features[schema.CAPTION].bytes_list.value.extend(kept)
            features[schema.SCORE].float_list.value.extend(scores.cosines[~drop].tolist())
            if not np.isnan(scores.agreements).any():
                agreements = scores.agreements[~drop].tolist()
                features[schema.AGREEMENT].float_list.value.extend(agreements)
        for name in [name for name in features if not features[name].WhichOneof("kind")]:
            del features[name]  # reading a missing feature has created it
        return example.SerializeToString(deterministic=True)
