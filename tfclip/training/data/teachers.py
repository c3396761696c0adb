"""The stored embeddings of teachers: opened, and looked up for each batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip import files
from tfclip.inputs.view_sets import view_set
from tfclip.models.objective.distillation import IMAGE, TEXT
from tfclip.records.manifest import load_manifest
from tfclip.records.teachers import EMPTY, KINDS, check_teachers, teacher_folder


@dataclass(frozen=True)
class Teacher:
    """The embeddings of one teacher over the N records of a split, in packing order.

    Attributes:
        name: its name beside the records.
        fingerprint: the sha256 of the teacher's model.
        scale: its logit scale.
        images: for each shard (n, V, D), memory-mapped.
        texts: for each shard (m, D), memory-mapped.
        starts: for each shard (n + 1,) int64, the first text of each record.
        empty: (D,), the embedding of the empty text.
    """

    name: str
    fingerprint: str
    scale: float
    images: Sequence[np.ndarray]
    texts: Sequence[np.ndarray]
    starts: Sequence[np.ndarray]
    empty: np.ndarray

    @property
    def size(self) -> int:
        """Return the size D of the embeddings."""
        return self.empty.shape[-1]


@dataclass(frozen=True)
class Teachers:
    """The teachers of a run; the embeddings of a picture or text stand side by side.

    Attributes:
        teachers: at least one; all over the same records.
        counts: the number of records of each shard.
    """

    teachers: tuple[Teacher, ...]
    counts: tuple[int, ...]

    def look_up(self, rows: tf.Tensor, views: tf.Tensor, places: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the embeddings of a batch as float32, for `models.objective.distillation`.

        Args:
            rows: (B,) int64, the positions of the records in the split.
            views: (B,) int32, the view of each picture.
            places: (B,) or (B, K) int32, the position of each text in its record; -1 for the empty
                text.

        Returns:
            `teacher_image` (B, E) and `teacher_text` (B, E) or (B, K, E), where E is the sum of the
            sizes of the embeddings.
        """
        images, texts = tf.numpy_function(self.embeddings, [rows, views, places], [tf.float32] * 2)
        width = sum(one.size for one in self.teachers)
        return {
            IMAGE: tf.ensure_shape(images, [*rows.shape, width]),
            TEXT: tf.ensure_shape(texts, [*places.shape, width]),
        }

    def embeddings(
        self, rows: np.ndarray, views: np.ndarray, places: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what `look_up` does, for arrays."""
        ends = np.cumsum(self.counts)
        shards = np.searchsorted(ends, rows, side="right")
        own = rows - (ends - self.counts)[shards]
        flat = places.reshape(len(rows), -1)
        width = sum(one.size for one in self.teachers)
        images = np.empty((len(rows), width), np.float32)
        texts = np.empty((*flat.shape, width), np.float32)
        start = 0
        for teacher in self.teachers:
            columns = slice(start, start + teacher.size)
            for shard in np.unique(shards):
                here = np.flatnonzero(shards == shard)
                at = own[here]
                images[here, columns] = teacher.images[shard][at, views[here]]
                texts[here, :, columns] = _texts_of(teacher, shard, at, flat[here])
            start = columns.stop
        return images, texts.reshape(*places.shape, width)


def _texts_of(teacher: Teacher, shard: int, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the embeddings (B, K, D) of texts, by their places (B, K) in records (B,) of a shard;
    a place below 0 is the empty text."""
    stored = teacher.texts[shard]
    if not len(stored):
        return np.broadcast_to(teacher.empty, (*places.shape, teacher.size))
    at = teacher.starts[shard][rows][:, None] + np.maximum(places, 0)
    found = stored[np.minimum(at, len(stored) - 1)]
    if (without := places < 0).any():
        found[without] = teacher.empty
    return found


def open_teachers(records: Path, split: str, names: Sequence[str], views: str) -> Teachers:
    """Open the stored embeddings of teachers, after checking their bytes.

    Args:
        records: a directory of packed records.
        split: the split that is trained on.
        names: the teachers.
        views: the set of views that is trained on; the stored one must begin with it.

    Raises:
        FileNotFoundError, ValueError: a teacher is missing or damaged, or does not fit; the message
            says what to run.
    """
    shards = load_manifest(records).shards_of(split)
    wanted = [view.to_dict() for view in view_set(views)]
    described = check_teachers(records, split, names, wanted)
    opened = []
    for name, content in zip(names, described, strict=True):
        folder = teacher_folder(records, name)
        arrays = {}
        for file in [EMPTY, *(f"{s.file}.{k}.npy" for s in shards for k in KINDS)]:
            path = folder / file
            if not path.is_file() or files.checksum(path) != content["files"].get(file):
                raise ValueError(
                    f"{path} is damaged or missing; run python -m tfclip.make_records embed "
                    f"{records} --teacher RUN --name {name} --overwrite"
                )
            # Still mapped, without the time that np.memmap takes for each index.
            arrays[file] = np.asarray(np.load(path, mmap_mode="r"))
        opened.append(
            Teacher(
                name,
                content["fingerprint"],
                float(content["logit_scale"]),
                images=[arrays[f"{shard.file}.images.npy"] for shard in shards],
                texts=[arrays[f"{shard.file}.texts.npy"] for shard in shards],
                starts=[arrays[f"{shard.file}.starts.npy"] for shard in shards],
                empty=np.asarray(arrays[EMPTY], np.float32),
            )
        )
    return Teachers(tuple(opened), tuple(shard.records for shard in shards))
