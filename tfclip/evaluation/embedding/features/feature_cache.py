"""The outputs of frozen towers over a split of records: computed once, stored, checked, reused.

Each modality of a split has a folder, `<records>/features/<fingerprint>/`. Its name is the hash of
everything that determines the content (weights and sizes of the tower, preprocessing, records), so
that it is never reused for another model or other records.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.console import progress
from tfclip.evaluation.embedding.features.eight_bits import (
    CODES,
    LEVELS,
    EightBits,
    store_eight_bits,
)
from tfclip.evaluation.embedding.features.joined_arrays import JoinedArrays
from tfclip.evaluation.embedding.features.part_features import cut_features, cut_texts, whole_of
from tfclip.evaluation.embedding.features.stored_arrays import digest, new_array, stored_arrays
from tfclip.evaluation.embedding.text_batches import batches_by_length, places_of_texts
from tfclip.inputs.batches import caption_id
from tfclip.inputs.images import decode_record_jpeg, training_views
from tfclip.inputs.text import Tokenizer
from tfclip.inputs.view_sets import PIXELS_VERSION, view_set
from tfclip.models.compute import FLOAT32
from tfclip.models.frozen_weights import features_digest
from tfclip.models.image_features import feature_function
from tfclip.models.saving import TrainedModel
from tfclip.quiet import quiet_float16
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import read_split

FORMAT = 1
FOLDER = "features"
EIGHT_BITS = "uint8"
PICTURES_AT_ONCE = 64
# The number of texts whose lengths or ids are computed at a time.
TEXTS_AT_ONCE = 8192


@dataclass(frozen=True)
class Storage:
    """How features are stored.

    Attributes:
        precision: float32; float16, which has half the size and rounds to 11 bits; or uint8, which
            stores image features in 8 bits (see `eight_bits`) and text features in float16.
        cache: the folder; None for `<records>/features`.
        compute: the format in which the image tower computes, see `models.compute`.
    """

    precision: str = "float32"
    cache: Path | None = None
    compute: str = FLOAT32

    @property
    def written(self) -> str:
        """The type that features are written in first; that of texts stays."""
        return "float16" if self.precision == EIGHT_BITS else self.precision


@dataclass(frozen=True)
class ImageFeatures:
    """Features of the N pictures of a split, in packing order.

    Attributes:
        features: (N, V, F) or (N, V, P, F) float16 or float32, of V views; memory-mapped.
        image_id: (N,) int64.
    """

    features: np.ndarray | EightBits | JoinedArrays
    image_id: np.ndarray

    def first(self, count: int) -> ImageFeatures:
        """Return those of the first `count` pictures."""
        return ImageFeatures(self.features[:count], self.image_id[:count])


@dataclass(frozen=True)
class TextFeatures:
    """Features of the M captions and phrases of the N records of a split, grouped by record.

    The last text is the empty one, for records without texts.

    Attributes:
        features: (M, F) float16 or float32, or (T, F) for all T tokens of all texts; memory-mapped.
        token_starts: (M + 1,) int64, the index of the first token of each text; None for (M, F).
        text_starts: (N + 1,) int64, the index of the first text of each record.
        caption_id: (M,) int64.
    """

    features: np.ndarray | JoinedArrays
    token_starts: np.ndarray | None
    text_starts: np.ndarray
    caption_id: np.ndarray

    def first(self, count: int) -> TextFeatures:
        """Return those of the first `count` records, over the same arrays of texts."""
        return replace(self, text_starts=self.text_starts[: count + 1])


def image_features(
    model: TrainedModel, records: Path, split: str, views: str, where: Storage
) -> ImageFeatures:
    """Return the image tower's outputs for all views of a split, computed if they are not stored.

    Args:
        model: its image tower runs in inference mode.
        records: a directory of packed records.
        split: one of its splits.
        views: a name in `inputs.images.VIEW_SETS`.
        where: how and where features are stored.

    Raises:
        ValueError: a stored folder is damaged; the message says what to delete.
        OSError: the disk is too small for the features, or the folder cannot be written.
    """
    quiet_float16()
    encoder = model.dual_encoder
    what = image_description(model, records, split, views, where)
    label = f"image features of {split}"
    number = load_manifest(records).splits[split].images

    def compute(folder: Path) -> None:
        shape = (number, len(view_set(views)), *encoder.image_tower.output_shape[1:])
        if whole := whole_of(records, split):
            larger = image_features(model, whole[0], whole[1], views, where)
            stored = larger.features
            if isinstance(stored, EightBits):
                np.save(folder / f"{LEVELS}.npy", stored.levels)
                cut_features(folder / f"{CODES}.npy", stored.codes, whole[2])
            else:
                cut_features(folder / "features.npy", stored, whole[2])
            np.save(folder / "image_id.npy", larger.image_id[whole[2]])
            return
        size = model.config.picture_size
        pictures = read_split(
            records,
            split,
            features=(schema.IMAGE, schema.ID),
            then=lambda record: (
                training_views(
                    decode_record_jpeg(record[schema.IMAGE]), views, size, record[schema.ID]
                ),
                record[schema.ID],
            ),
        )
        stored = new_array(folder, "features", where.written, shape)
        ids = new_array(folder, "image_id", np.int64, (number,))
        at_once = max(1, PICTURES_AT_ONCE // shape[1])
        run = feature_function(encoder, where.compute)
        at = 0
        batches = pictures.batch(at_once).prefetch(2)
        for pixels, image_id in progress(batches, total=-(-number // at_once), what=label):
            rows = len(pixels)
            flat = tf.reshape(pixels, [-1, size, size, 3])
            features = _rounded(run(flat), where.written, encoder.config.image_tower)
            stored[at : at + rows] = features.reshape(rows, *shape[1:])
            ids[at : at + rows] = image_id.numpy()
            at += rows
        if where.precision == EIGHT_BITS:
            store_eight_bits(folder, stored)
            (folder / "features.npy").unlink()

    arrays = stored_arrays(what, where.cache or records / FOLDER, compute, label)
    if where.precision == EIGHT_BITS:
        return ImageFeatures(EightBits(arrays[CODES], arrays[LEVELS]), arrays["image_id"])
    return ImageFeatures(arrays["features"], arrays["image_id"])


def text_features(model: TrainedModel, records: Path, split: str, where: Storage) -> TextFeatures:
    """Return the text tower's outputs for all texts of a split, computed if they are not stored.

    Arguments and errors are those of `image_features`.
    """
    quiet_float16()
    what = text_description(model, records, split, where)
    label = f"text features of {split}"

    def compute(folder: Path) -> None:
        tower, tokenizer = model.dual_encoder.text_tower, model.tokenizer
        per_token = len(tower.output_shape) == 3
        if whole := whole_of(records, split):
            larger = text_features(model, whole[0], whole[1], where)
            arrays = larger.features, larger.token_starts, larger.text_starts, larger.caption_id
            cut_texts(folder, *arrays, whole[2])
            return
        texts, text_starts = _texts(records, split)
        np.save(folder / "text_starts.npy", text_starts)
        np.save(folder / "caption_id.npy", caption_id(tf.constant(texts, tf.string)).numpy())
        lengths = np.minimum(
            _in_parts(tokenizer.token_counts, texts), model.config.context_length
        ).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        if per_token:
            np.save(folder / "token_starts.npy", starts)
        shape = (int(starts[-1]) if per_token else len(texts), tower.output_shape[-1])
        stored = new_array(folder, "features", where.written, shape)
        fixed = tower.input["token_ids"].shape[1]
        tokens_spec = [tf.TensorSpec([None, fixed], kind) for kind in (tf.int32, tf.bool)]
        run = tf.function(
            model.dual_encoder.text_features, input_signature=tokens_spec, autograph=False
        )
        places = places_of_texts(texts)
        distinct = list(places)
        lengths = lengths[[rows[0] for rows in places.values()]]
        batches = batches_by_length(lengths)
        for chosen in progress(batches, total=len(batches), what=label):
            tokens = tokenizer([distinct[at] for at in chosen])
            longest = fixed or int(lengths[chosen].max())
            ids, mask = tokens["token_ids"][:, :longest], tokens["text_mask"][:, :longest]
            features = _rounded(run(ids, mask), where.written, model.config.text_tower)
            for feature, chosen_row in zip(features, chosen, strict=True):
                for at in places[distinct[chosen_row]]:
                    if per_token:
                        stored[starts[at] : starts[at + 1]] = feature[: lengths[chosen_row]]
                    else:
                        stored[at] = feature

    arrays = stored_arrays(what, where.cache or records / FOLDER, compute, label)
    return TextFeatures(
        arrays["features"], arrays.get("token_starts"), arrays["text_starts"], arrays["caption_id"]
    )


def image_description(
    model: TrainedModel, records: Path, split: str, views: str, where: Storage
) -> dict:
    """Return everything that determines the image tower's outputs over a split, as JSON types."""
    return {
        **_described(model, "image", records, split, where),
        "image_size": model.config.image_size,
        **model.config.picture_size.non_defaults(),
        "pixels": PIXELS_VERSION,
        "views": [view.to_dict() for view in view_set(views)],
        **({} if where.compute == FLOAT32 else {"compute": where.compute}),
    }


def text_description(model: TrainedModel, records: Path, split: str, where: Storage) -> dict:
    """Return everything that determines the text tower's outputs over a split, as JSON types."""
    return {
        **_described(model, "text", records, split, where),
        "context_length": model.config.context_length,
        "tokenizer": _tokenizer_digest(model.tokenizer),
    }


def _described(
    model: TrainedModel, modality: str, records: Path, split: str, where: Storage
) -> dict:
    """Return what determines the outputs of a tower, apart from the preprocessing."""
    config = model.config
    # Of a model that does not change, the folder has it, so that the tower need not be there.
    digest = model.frozen.get(modality) if model.is_fixed else None
    return {
        "format": FORMAT,
        "side": modality,  # the key in fingerprints of stored features
        "tower": getattr(config, f"{modality}_tower"),
        "options": dict(getattr(config, f"{modality}_options")),
        "precision": config.precision,
        "stored": where.precision if modality == "image" else where.written,
        "weights": digest or features_digest(model.dual_encoder, modality),
        "records": load_manifest(records).fingerprint(),
        "split": split,
    }


def _tokenizer_digest(tokenizer: Tokenizer) -> str:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        saved = [path.read_bytes().hex() for path in sorted(Path(folder).iterdir())]
    return digest([tokenizer.describe(), saved])


def _texts(records: Path, split: str) -> tuple[list[bytes], np.ndarray]:
    """Return the texts of all records, captions before phrases, and the index of each first one.

    The last text is the empty one, which records without texts are trained with.
    """
    texts, counts = [], []
    listed = read_split(records, split, features=(schema.CAPTION, schema.PHRASE))
    for record in listed.as_numpy_iterator():
        of_record = [*record[schema.CAPTION], *record[schema.PHRASE]]
        texts += of_record
        counts.append(len(of_record))
    return [*texts, b""], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _rounded(features: tf.Tensor, precision: str, tower: str) -> np.ndarray:
    """Round features to `precision`.

    Raises:
        ValueError: a value is NaN, infinite, or too large for float16.
    """
    rounded = tf.cast(features, precision).numpy()
    if not np.isfinite(rounded).all():
        raise ValueError(
            f"features of {tower} are not finite, or above 65,504, the largest float16; use "
            "--feature-precision float32"
        )
    return rounded


def _in_parts(function: Callable, texts: list[bytes]) -> np.ndarray:
    parts = range(0, len(texts), TEXTS_AT_ONCE)
    return np.concatenate([function(texts[at : at + TEXTS_AT_ONCE]).numpy() for at in parts])
