"""Writes the embeddings of a teacher beside the records: all splits, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfclip import files
from tfclip.config_file import read_config
from tfclip.console import progress, say
from tfclip.evaluation.embedding.embed import embed_texts
from tfclip.evaluation.embedding.features.feature_cache import (
    PICTURES_AT_ONCE,
    Storage,
    image_features,
    text_features,
)
from tfclip.evaluation.embedding.features.stored_arrays import new_array
from tfclip.evaluation.embedding.from_features import FeatureEmbedder
from tfclip.inputs.images import decode_record_jpeg, training_views
from tfclip.inputs.view_sets import PIXELS_VERSION, view_set
from tfclip.models.compute import FLOAT32
from tfclip.models.model_directory import model_fingerprint
from tfclip.models.saving import TrainedModel, load_model
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import read_shards, split_files
from tfclip.records.teachers import DESCRIPTION, EMPTY, FORMAT, teacher_folder
from tfclip.training.data.reduced_teacher import reduce_teacher
from tfclip.training.data.teacher_words import write_words
from tfclip.training.options.saved_flags import CONFIG_FILE

FROZEN = {"image", "text"}


@dataclass(frozen=True)
class Embedder:
    """Embeds the pictures and texts of the shards of one split.

    Attributes:
        images: takes a shard and the number of its first record; yields (b, V, D) in order.
        texts: takes a shard, the number of its first text, and its texts; returns (M, D).
    """

    images: Callable[[str, int], Iterator[np.ndarray]]
    texts: Callable[[str, int, Sequence[bytes]], np.ndarray]


def write_teacher(
    run: Path,
    records: Path,
    name: str,
    splits: Sequence[str],
    views: str | None,
    precision: str,
    size: int | None = None,
    words: Path | None = None,
) -> dict[str, Any]:
    """Embed all pictures and texts of some splits with the model of a run, shard by shard.

    A run whose towers were frozen, and which was trained on these records, is embedded from the
    stored outputs of its towers.

    Args:
        run: a run directory, or a model folder, such as a converted CLIP.
        records: a directory of packed records.
        name: the name of the teacher.
        splits: the splits to embed.
        views: a set of views; None for that of the run's training, or "1".
        precision: float16 or float32.
        size: the number of principal components to keep of the embeddings; None keeps all.
        words: a file of words, one a line, of which prompts are embedded; None for no words.

    Returns:
        `folder`, `size`, `kept`, `views`, `splits`, `from_stored_features`.

    Raises:
        ValueError, OSError: the records, the run or the size are invalid, or the disk is too small.
    """
    manifest = load_manifest(records)
    shards = [shard for split in splits for shard in manifest.shards_of(split)]
    paths = {
        s: dict(zip(manifest.shards_of(s), split_files(records, s), strict=True)) for s in splits
    }
    model = load_model(run)
    if size is not None and not 0 < size <= model.config.embed_dim:
        raise ValueError(
            f"received --size {size}; the embeddings of {run} have {model.config.embed_dim} "
            f"numbers: allowed are 1 to {model.config.embed_dim}"
        )
    own_views, where = _stored(run, records)
    chosen = views or own_views
    folder = teacher_folder(records, name)
    with files.new_folder(folder, replace=True) as temporary:
        for split in splits:
            embedder = (
                _from_records(model, chosen)
                if where is None
                else _from_features(model, records, split, chosen, where)
            )
            _write_split(temporary, split, paths[split], embedder, len(view_set(chosen)), precision)
        np.save(temporary / EMPTY, embed_texts(model, [b""])[0].astype(precision))
        if words is not None:
            write_words(model, temporary, words, precision)
        kept, stored_size = 1.0, model.config.embed_dim
        if size is not None and size < stored_size:
            kept, stored_size = reduce_teacher(temporary, size), size
        described = {
            "format": FORMAT,
            "name": name,
            "run": str(run),
            "fingerprint": model_fingerprint(run),
            "records": manifest.fingerprint(),
            "splits": list(splits),
            "size": stored_size,
            "kept": kept,
            "logit_scale": float(model.dual_encoder.temperature()),
            "precision": precision,
            "pixels": PIXELS_VERSION,
            "views": [view.to_dict() for view in view_set(chosen)],
            "files": {path.name: files.checksum(path) for path in sorted(temporary.iterdir())},
        }
        text = json.dumps(described, indent=2) + "\n"
        (temporary / DESCRIPTION).write_text(text, encoding="utf-8")
    occupied = sum(path.stat().st_size for path in folder.iterdir())
    pictures = sum(shard.records for shard in shards)
    say(
        f"{folder}: {pictures:,} pictures in {len(view_set(chosen))} views and their texts, "
        f"{stored_size} numbers each, {occupied / 2**20:,.0f} MiB"
        + (f"; {100 * kept:.1f} % of their squared length" if kept < 1 else "")
    )
    return {
        "folder": str(folder),
        "size": stored_size,
        "kept": kept,
        "views": len(view_set(chosen)),
        "splits": list(splits),
        "from_stored_features": where is not None,
    }


def _write_split(
    folder: Path, split: str, paths: dict, embedder: Embedder, views: int, precision: str
) -> None:
    pictures, texts_before = 0, 0
    for shard, path in progress(paths.items(), total=len(paths), what=f"shards of {split}"):
        texts, starts = _texts(path)
        np.save(folder / f"{shard.file}.starts.npy", starts)
        embedded = embedder.texts(path, texts_before, texts)
        np.save(folder / f"{shard.file}.texts.npy", _rounded(embedded, precision))
        size, at = embedded.shape[-1], 0
        stored = new_array(folder, f"{shard.file}.images", precision, (shard.records, views, size))
        for part in embedder.images(path, pictures):
            stored[at : at + len(part)] = _rounded(part, precision)
            at += len(part)
        if at != shard.records:
            raise ValueError(f"{path} holds {at} records, but the manifest lists {shard.records}")
        stored.flush()
        pictures, texts_before = pictures + at, texts_before + len(texts)


def _texts(path: str) -> tuple[list[bytes], np.ndarray]:
    """Return the captions and phrases of a shard, and the first one of each record."""
    texts, starts = [], [0]
    for record in read_shards([path], features=(schema.CAPTION, schema.PHRASE)).as_numpy_iterator():
        texts += [*record[schema.CAPTION], *record[schema.PHRASE]]
        starts.append(len(texts))
    return texts, np.array(starts, np.int64)


def _rounded(embeddings: np.ndarray, precision: str) -> np.ndarray:
    if not np.isfinite(embeddings).all():
        raise ValueError("the embeddings of the teacher are not finite: the model diverged")
    return embeddings.astype(precision)


def _from_records(model: TrainedModel, views: str) -> Embedder:
    """Return functions that run both towers."""
    size, encoder = model.config.picture_size, model.dual_encoder
    encode = tf.function(encoder.encode_image, reduce_retracing=True, autograph=False)

    def images(path: str, first: int) -> Iterator[np.ndarray]:
        pictures = read_shards(
            [path],
            features=(schema.IMAGE, schema.ID),
            then=lambda record: training_views(
                decode_record_jpeg(record[schema.IMAGE]), views, size, record[schema.ID]
            ),
        )
        count = len(view_set(views))
        for batch in pictures.batch(max(1, PICTURES_AT_ONCE // count)).prefetch(2):
            flat = encode(tf.reshape(batch, [-1, size, size, 3])).numpy()
            yield flat.reshape(-1, count, flat.shape[-1])

    def texts(path: str, first: int, of_shard: Sequence[bytes]) -> np.ndarray:
        if not of_shard:
            return np.zeros((0, model.config.embed_dim), np.float32)
        return embed_texts(model, of_shard)

    return Embedder(images, texts)


def _from_features(
    model: TrainedModel, records: Path, split: str, views: str, where: Storage
) -> Embedder:
    """Return functions that run the heads alone, on the stored outputs of frozen towers."""
    image = image_features(model, records, split, views, where)
    text = text_features(model, records, split, where)
    embedder = FeatureEmbedder(model.dual_encoder)
    counts = {shard.file: shard.records for shard in load_manifest(records).shards_of(split)}

    def images(path: str, first: int) -> Iterator[np.ndarray]:
        last = first + counts[Path(path).name]
        for at in range(first, last, PICTURES_AT_ONCE):
            part = np.asarray(image.features[at : min(at + PICTURES_AT_ONCE, last)])
            flat = embedder.features(part.reshape(-1, *part.shape[2:]))
            yield flat.reshape(*part.shape[:2], -1)

    def texts(path: str, first: int, of_shard: Sequence[bytes]) -> np.ndarray:
        return embedder.texts(text, np.arange(first, first + len(of_shard)))

    return Embedder(images, texts)


def _stored(run: Path, records: Path) -> tuple[str, Storage | None]:
    """Return the views of the run's training, and where the outputs of its towers are stored; None
    if they are not, or not of these records."""
    if not (Path(run) / CONFIG_FILE).is_file():
        return "1", None
    flags, _ = read_config(Path(run) / CONFIG_FILE)
    frozen = set(str(flags.get("freeze", flags.get("lock", ""))).split(","))
    on = {Path(str(one).partition(":")[0]).resolve() for one in flags.get("records", ())}
    views = str(flags.get("views", "1"))
    if frozen != FROZEN or not flags.get("cache_features") or on != {Path(records).resolve()}:
        return views, None
    if flags.get("unfreeze_after") or flags.get("unlock_after"):
        return views, None
    cache = flags.get("feature_cache")
    folder = None if cache is None else Path(cache)
    return views, Storage(flags["feature_precision"], folder, flags.get("compute", FLOAT32))
