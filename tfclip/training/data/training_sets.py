"""The record sets of a run: opened, compared with each other, mixed by weight, counted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from tfclip.console import say
from tfclip.inputs.mixture import Mixture
from tfclip.records import schema
from tfclip.records.manifest import Manifest, load_manifest, records_reference
from tfclip.records.options import IN_ORDER
from tfclip.records.reader import SHUFFLE_BLOCK, read_split, split_files
from tfclip.records.salvage import salvage


@dataclass(frozen=True)
class TrainingSet:
    """A split of packed records, and its sampling weight.

    Attributes:
        directory, split: the given records.
        read_from: the directory to read: `directory`, or its copy by `records.salvage`.
        manifest, files: the manifest and shards of `read_from`.
        skipped: the number of damaged records that are left out.
        weight: the sampling weight relative to other sets.
    """

    directory: Path
    split: str
    read_from: Path
    manifest: Manifest
    files: tuple[str, ...]
    skipped: int
    weight: float

    @property
    def images(self) -> int:
        """Return the number of pictures of the set."""
        return self.manifest.splits[self.split].images

    @property
    def counts(self) -> list[int]:
        """Return the number of records in each of `files`."""
        return [shard.records for shard in self.manifest.shards_of(self.split)]

    def __str__(self) -> str:
        return f"{self.directory}:{self.split}"


@dataclass(frozen=True)
class TrainingSets:
    """The training data of a run: one set, or several that are mixed."""

    sets: tuple[TrainingSet, ...]

    @property
    def directories(self) -> list[Path]:
        """Return the directory of each set."""
        return [one.directory for one in self.sets]

    @property
    def files(self) -> list[str]:
        """Return the shards of all sets."""
        return [file for one in self.sets for file in one.files]

    @property
    def counts(self) -> list[int]:
        """Return the number of records in each of `files`."""
        return [count for one in self.sets for count in one.counts]

    @property
    def images(self) -> int:
        """Return the number of pictures of all sets."""
        return sum(one.images for one in self.sets)

    @property
    def skipped(self) -> int:
        """Return the number of damaged records that are left out."""
        return sum(one.skipped for one in self.sets)

    @property
    def inputs(self) -> list[str] | Mixture:
        """Return the input of `inputs.batches.training_batches`: shards, or a mixture of sets."""
        if len(self.sets) == 1:
            return self.files
        return Mixture(
            files=tuple(one.files for one in self.sets),
            weights=tuple(one.weight for one in self.sets),
            sizes=tuple(one.images for one in self.sets),
            counts_of_files=tuple(tuple(one.counts) for one in self.sets),
        )

    def fingerprint(self) -> str:
        """Return the fingerprint of the set, or a hash of those of several sets."""
        prints = [one.manifest.fingerprint() for one in self.sets]
        if len(prints) == 1:
            return prints[0]
        lines = [f"{each}:{one.split}" for each, one in zip(prints, self.sets, strict=True)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def callbacks(
        self, *, seed: int, batch_size: int, epoch_steps: int, steps: int
    ) -> list[keras.callbacks.Callback]:
        """Return a callback that logs the number of examples of each set; none for one set."""
        mixture = self.inputs
        if not isinstance(mixture, Mixture):
            return []
        names = [one.directory.name for one in self.sets]
        if len(set(names)) < len(names):
            names = [f"{one.directory.name}_{one.split}" for one in self.sets]
        if len(set(names)) < len(names):
            names = [f"{at}_{name}" for at, name in enumerate(names)]
        return [_CountSampled(mixture, names, seed, batch_size, epoch_steps, steps)]


class _CountSampled(keras.callbacks.Callback):
    """Logs how many examples of each set were sampled since the start of the run.

    The numbers are a function of seed and step, so that no state is saved for resuming.
    """

    def __init__(
        self,
        mixture: Mixture,
        names: Sequence[str],
        seed: int,
        batch_size: int,
        epoch_steps: int,
        steps: int,
    ):
        super().__init__()
        self._mixture, self._names, self._seed = mixture, names, seed
        self._batch_size, self._epoch_steps, self._steps = batch_size, epoch_steps, steps

    def on_epoch_end(self, epoch, logs=None):
        """Add `drawn_<name>` for each set to the logs, and print the numbers."""
        step = min((epoch + 1) * self._epoch_steps, self._steps)
        counts = self._mixture.counts(self._seed, step * self._batch_size)
        if logs is not None:
            logs |= {f"drawn_{name}": float(n) for name, n in zip(self._names, counts, strict=True)}
        listed = ", ".join(f"{n:,} {name}" for name, n in zip(self._names, counts, strict=True))
        say(f"examples sampled in {step:,} steps: {listed}")


def open_training_sets(
    references: Sequence[str],
    weights: Sequence[float] = (),
    val: str | None = None,
    salvage_to: Path | None = None,
    *,
    val_in_training: bool = False,
) -> TrainingSets:
    """Open the training records.

    Args:
        references: DIR or DIR:SPLIT; by default the split train, or the only one like train2017.
        weights: the sampling weight of each; by default its number of pictures.
        val: validation records, which should not share pictures with the others.
        val_in_training: allow `val` to be one of the training sets.
        salvage_to: the folder for the intact records of damaged shards; None refuses damage.

    Raises:
        FileNotFoundError, ValueError: see `records.reader.split_files` and `records.salvage`.
        ValueError: a set has no texts, two sets have pictures in common, or a set is `val`.
    """
    sets = []
    for at, reference in enumerate(references):
        directory, split = records_reference(reference)
        manifest = load_manifest(directory)
        split = split or training_split(manifest)
        read_from, skipped = directory, 0
        if salvage_to is not None:
            read_from, skipped = salvage(directory, split, salvage_to)
            manifest = load_manifest(read_from)
        files = tuple(split_files(read_from, split))
        counts = manifest.splits[split]
        if not counts.captions + counts.regions:
            raise ValueError(
                f"{directory}:{split} contains no captions or region phrases to train on"
            )
        weight = weights[at] if weights else counts.images
        sets.append(TrainingSet(directory, split, read_from, manifest, files, skipped, weight))
    for one in sets:
        # Smaller sets are shuffled as a whole.
        if one.manifest.packing.get("order", IN_ORDER) == IN_ORDER and one.images > SHUFFLE_BLOCK:
            say(
                f"note: {one} is packed in the order of its source; if that is sorted, batches are "
                "poorly mixed. Pack it again: make_records shuffles by default"
            )
    if val is not None:
        _check_validated(sets, val, allowed=val_in_training)
    if len(sets) > 1:
        _refuse_common(sets, val)
        total = sum(one.weight for one in sets)
        for one in sets:
            say(f"{one}: {one.images:,} pictures, {one.weight / total:.1%} of the examples")
    return TrainingSets(tuple(sets))


def training_split(manifest: Manifest) -> str:
    """Return the default split for training: train, or the only one like train2017."""
    training = [split for split in manifest.splits if split.startswith("train")]
    return training[0] if len(training) == 1 else "train"


def _check_validated(sets: Sequence[TrainingSet], val: str, *, allowed: bool) -> None:
    """Refuse validation on a split that is trained on, or print a note if it is allowed: the best
    model would be the one that memorised its pictures."""
    directory, split = records_reference(val)
    split = split or "val"
    for one in sets:
        if one.directory.resolve() == directory.resolve() and one.split == split:
            if allowed:
                say(f"note: --val {val} is trained on: its metrics measure memorisation")
                return
            raise ValueError(
                f"received --val {val}, which is trained on ({one}); give another split, hold out "
                "one with make_records --val-fraction 0.1, or allow it with --val-in-training"
            )


def _refuse_common(sets: Sequence[TrainingSet], val: str | None) -> None:
    """Refuse pictures with the same key in two sets: they would be each other's positives, and
    sampled too often. Print how many pictures of `val` are trained on."""
    # A key begins with its source, so only sets of the same source can share keys.
    sources = [one.manifest.source for one in sets]
    ids: dict[int, np.ndarray] = {}
    for at, one in enumerate(sets):
        for other in range(at):
            if sources[at] != sources[other]:
                continue
            for which in (at, other):
                if which not in ids:
                    ids[which] = _ids(sets[which].read_from, sets[which].split)
            if len(common := np.intersect1d(ids[at], ids[other])):
                raise ValueError(
                    f"{sets[other]} and {one} have {len(common):,} pictures with the same key, "
                    f"such as {_key_of(one, int(common[0]))}; use only the larger set, or pack the "
                    "other with --exclude-ids"
                )
    if val is None:
        return
    directory, split = records_reference(val)
    source = load_manifest(directory).source
    split = split or "val"
    for at, one in enumerate(sets):
        if sources[at] == source:
            trained = ids[at] if at in ids else _ids(one.read_from, one.split)
            if shared := len(np.intersect1d(trained, _ids(directory, split))):
                say(f"note: {shared:,} pictures of --val are trained on, in {one}")


def _ids(directory: Path, split: str) -> np.ndarray:
    read = read_split(directory, split, features=(schema.ID,), then=lambda r: r[schema.ID])
    parts = list(read.batch(4096).as_numpy_iterator())
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _key_of(one: TrainingSet, image_id: int) -> str:
    for record in read_split(
        one.read_from, one.split, features=(schema.ID, schema.KEY)
    ).as_numpy_iterator():
        if record[schema.ID] == image_id:
            return record[schema.KEY].decode("utf-8", "replace")
    return str(image_id)
