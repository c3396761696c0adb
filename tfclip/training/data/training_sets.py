"""The packed sets a run trains on: opened, compared with each other, mixed by weight, counted."""

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
    """One split of packed records, and how often it is sampled beside others.

    Attributes:
        directory, split: as given.
        read_from: what is read: `directory`, or what `records.salvage` made of it.
        manifest, files: of `read_from`.
        skipped: how many damaged records it lacks.
        weight: how often it is sampled, relative to the others.
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
        """How many pictures it holds."""
        return self.manifest.splits[self.split].images

    def __str__(self) -> str:
        return f"{self.directory}:{self.split}"


@dataclass(frozen=True)
class TrainingSets:
    """What a run trains on: one set, or several that are mixed."""

    sets: tuple[TrainingSet, ...]

    @property
    def directories(self) -> list[Path]:
        """The directory of each set."""
        return [one.directory for one in self.sets]

    @property
    def files(self) -> list[str]:
        """All shards."""
        return [file for one in self.sets for file in one.files]

    @property
    def images(self) -> int:
        """How many pictures there are in all."""
        return sum(one.images for one in self.sets)

    @property
    def skipped(self) -> int:
        """How many damaged records there were."""
        return sum(one.skipped for one in self.sets)

    @property
    def drawn_from(self) -> list[str] | Mixture:
        """What `inputs.batches.training_batches` takes."""
        if len(self.sets) == 1:
            return self.files
        return Mixture(
            files=tuple(one.files for one in self.sets),
            weights=tuple(one.weight for one in self.sets),
            sizes=tuple(one.images for one in self.sets),
        )

    def fingerprint(self) -> str:
        """Return the name of the data: that of the manifest, or of all of them together."""
        names = [one.manifest.fingerprint() for one in self.sets]
        if len(names) == 1:
            return names[0]
        named = [f"{name}:{one.split}" for name, one in zip(names, self.sets, strict=True)]
        return hashlib.sha256("\n".join(named).encode()).hexdigest()

    def callbacks(
        self, *, seed: int, batch_size: int, epoch_steps: int, steps: int
    ) -> list[keras.callbacks.Callback]:
        """Return what counts the examples of each set in the log; nothing for one set."""
        mixture = self.drawn_from
        if not isinstance(mixture, Mixture):
            return []
        names = [one.directory.name for one in self.sets]
        if len(set(names)) < len(names):
            names = [f"{one.directory.name}_{one.split}" for one in self.sets]
        if len(set(names)) < len(names):
            names = [f"{at}_{name}" for at, name in enumerate(names)]
        return [_CountDrawn(mixture, names, seed, batch_size, epoch_steps, steps)]


class _CountDrawn(keras.callbacks.Callback):
    """Writes into the log how many examples of each set were drawn since the beginning.

    They are a function of seed and step, so there is nothing to keep when a run goes on.
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
        """Add `drawn_<name>` for every set, and say it."""
        step = min((epoch + 1) * self._epoch_steps, self._steps)
        counts = self._mixture.counts(self._seed, step * self._batch_size)
        if logs is not None:
            logs |= {f"drawn_{name}": float(n) for name, n in zip(self._names, counts, strict=True)}
        listed = ", ".join(f"{n:,} {name}" for name, n in zip(self._names, counts, strict=True))
        say(f"drawn in {step:,} steps: {listed}")


def open_training_sets(
    references: Sequence[str],
    weights: Sequence[float] = (),
    val: str | None = None,
    salvage_to: Path | None = None,
    *,
    val_in_training: bool = False,
) -> TrainingSets:
    """Open the records to train on.

    Args:
        references: DIR or DIR:SPLIT; without a split, train or the only one like train2017.
        weights: how often each is sampled; by default as often as it has pictures.
        val: validation records, which should share no picture with the others.
        val_in_training: allow `val` to be one of the sets themselves.
        salvage_to: where the sound records of damaged shards are copied to; None refuses damage.

    Raises:
        FileNotFoundError, ValueError: see `records.reader.split_files` and `records.salvage`.
        ValueError: a set without texts, two that have a picture in common, or one that is `val`.
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
                f"{directory}:{split} holds no caption and no region phrase to train on"
            )
        weight = weights[at] if weights else counts.images
        sets.append(TrainingSet(directory, split, read_from, manifest, files, skipped, weight))
    for one in sets:
        # A smaller set is permuted as a whole.
        if one.manifest.packing.get("order", IN_ORDER) == IN_ORDER and one.images > SHUFFLE_BLOCK:
            say(
                f"note: {one} is packed in the order of its data; if that is sorted, batches are "
                "hardly mixed: pack it again, make_records shuffles"
            )
    if val is not None:
        _check_validated(sets, val, allowed=val_in_training)
    if len(sets) > 1:
        _refuse_common(sets, val)
        share = sum(one.weight for one in sets)
        for one in sets:
            say(f"{one}: {one.images:,} pictures, {one.weight / share:.1%} of the examples")
    return TrainingSets(tuple(sets))


def training_split(manifest: Manifest) -> str:
    """The split to train on when none is named: train, or COCO's train2017."""
    training = [split for split in manifest.splits if split.startswith("train")]
    return training[0] if len(training) == 1 else "train"


def _check_validated(sets: Sequence[TrainingSet], val: str, *, allowed: bool) -> None:
    """Refuse validation on a split that is trained on, or say that it is: it chooses the model that
    has memorised its pictures."""
    directory, split = records_reference(val)
    split = split or "val"
    for one in sets:
        if one.directory.resolve() == directory.resolve() and one.split == split:
            if allowed:
                say(f"note: --val {val} is trained on: its figures measure memorisation")
                return
            raise ValueError(
                f"received --val {val}, which is trained on ({one}); give another split, hold one "
                "out with make_records --val-fraction 0.1, or allow it with --val-in-training"
            )


def _refuse_common(sets: Sequence[TrainingSet], val: str | None) -> None:
    """Refuse pictures with one key in two sets: they would be each other's positives, and one
    picture would be sampled too often. Say how many of `val` are trained on."""
    # A key begins with its source, so only sets of one source can share any.
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
                    f"{sets[other]} and {one} have {len(common):,} pictures in common (by key, "
                    f"{_key_of(one, int(common[0]))} is one); give the larger one alone, or pack "
                    "the other with --exclude-ids"
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
