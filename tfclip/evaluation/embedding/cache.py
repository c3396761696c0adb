"""The embeddings of a trained model, cached in its run directory.

`runs/x/embeddings/<model>/` holds one file for each group of tiles of each set of pictures, one for
all texts embedded so far, and one with the labels of each set. `<model>` is the model's
fingerprint: after further training the cache of the former model is removed. Embeddings by
OpenVINO are in a folder of their own beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tfclip.evaluation.datasets.multilabel_images import LabelledPictures, RecordPictures
from tfclip.evaluation.embedding.class_words import combined_embeddings
from tfclip.evaluation.embedding.kept_arrays import file_name, keep, read_kept
from tfclip.evaluation.embedding.run_model import RunModel
from tfclip.inputs.tiles import DENSE, group_boxes, tile_groups
from tfclip.inputs.view_sets import PIXELS_VERSION
from tfclip.models.compute import FLOAT32
from tfclip.models.model_directory import CONFIG_FILE, model_directory

# TensorFlow is imported only when something is not cached: without it, results take seconds.
if TYPE_CHECKING:
    from tfclip.models.saving import TrainedModel


class Embeddings(Protocol):
    """The interface of a model that is measured."""

    @property
    def logit_scale(self) -> float:
        """The model's learnt temperature."""

    @property
    def trained_on(self) -> Mapping:
        """See `models.saving.TrainedModel`."""

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed M texts: (M,D) float32, unit norm."""

    def views(self, pictures: LabelledPictures, tiles: str) -> tuple[np.ndarray, np.ndarray]:
        """Embed the pictures that decode: rows (N,) int64, (N,T,D) float32, unit norm."""


class ModelEmbeddings:
    """The embeddings of a model in memory, without a cache."""

    def __init__(self, model: TrainedModel):
        self._model = model
        self.trained_on = model.trained_on

    @property
    def logit_scale(self) -> float:
        """The model's present temperature."""
        return float(self._model.dual_encoder.temperature())

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed M texts; ValueError for one that is longer than the model's context."""
        from tfclip.evaluation.embedding.embed import embed_texts
        from tfclip.inputs.text import check_lengths

        check_lengths(texts, self._model.tokenizer)
        return embed_texts(self._model, texts)

    def views(self, pictures: LabelledPictures, tiles: str) -> tuple[np.ndarray, np.ndarray]:
        """Embed every view of every picture that decodes."""
        parts = [self.group(pictures, group) for group in _groups(tiles)]
        return parts[0][0], np.concatenate([embeddings for _, embeddings in parts], axis=1)

    def group(self, pictures: LabelledPictures, tiles: int | str) -> tuple[np.ndarray, np.ndarray]:
        """Embed one group of tiles of every picture that decodes; `dense` is all its windows."""
        from tfclip.evaluation.embedding.embed import embed_pictures

        layout = DENSE if tiles == DENSE else "1"
        boxes = group_boxes(1 if tiles == DENSE else int(tiles))
        views = pictures.views(self._model.config.picture_size, boxes)
        return embed_pictures(self._model, views, total=len(pictures.keys), tiles=layout)


class RunEmbeddings:
    """The embeddings of a run's model, cached; the model is loaded when one is missing.

    Attributes:
        model: what is loaded of it.
        fingerprint, compute: those of `RunModel`.

    Args:
        run: a run directory or a model folder.
        compute: the format of the image tower, see `models.compute`; `auto` chooses.

    Raises:
        FileNotFoundError: the directory holds no model.
        ValueError: this machine cannot compute in that format.
    """

    def __init__(self, run: Path, compute: str = FLOAT32):
        self.model = RunModel(run, compute)
        self.fingerprint, self.compute = self.model.fingerprint, self.model.compute
        self._folder = self.model.folder
        if self.compute != FLOAT32:
            self._folder = self._folder.with_name(f"{self._folder.name}-{self.compute}")
        kept = self._folder.parent
        for other in kept.iterdir() if kept.is_dir() else ():
            if other.name.partition("-")[0] != self.model.folder.name:
                shutil.rmtree(other, ignore_errors=True)

    @cached_property
    def trained_on(self) -> Mapping:
        """The training data that the model's configuration records."""
        return self._described.get("trained_on", {})

    @property
    def _frozen(self) -> Mapping:
        """The frozen towers whose stored outputs can be found."""
        return self._described.get("tower_digests", {})

    @cached_property
    def _described(self) -> Mapping:
        path = model_directory(self.model.run) / CONFIG_FILE
        return json.loads(path.read_text(encoding="utf-8"))

    @cached_property
    def logit_scale(self) -> float:
        """The model's learnt temperature."""
        kept = self._kept(
            "logit_scale.npz",
            lambda: {"scale": ModelEmbeddings(self.model.heads.model).logit_scale},
        )
        return float(kept["scale"])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed M texts; those in the cache are read from it."""
        kept = read_kept(self._folder / "texts.npz")
        cached = () if kept is None else map(str, kept["texts"])
        place = {text: row for row, text in enumerate(cached)}
        missing = [text for text in dict.fromkeys(texts) if text not in place]
        parts = [] if kept is None else [kept["embeddings"]]
        if missing:
            parts.append(self._new_texts(missing))
            place |= {text: row for row, text in enumerate(missing, len(place))}
            content = {"texts": list(place), "embeddings": np.concatenate(parts)}
            keep(self._folder / "texts.npz", content)
        return np.concatenate(parts)[[place[text] for text in texts]]

    def _new_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts; an error is cached too, so that it is raised again without the model."""
        path = self._folder / file_name("refused", *texts)
        if refused := read_kept(path):
            raise ValueError(str(refused["reason"]))
        try:
            return ModelEmbeddings(self.model.text_side_for(len(texts))).texts(texts)
        except ValueError as error:
            keep(path, {"reason": str(error)})
            raise

    def views(self, pictures: LabelledPictures, tiles: str) -> tuple[np.ndarray, np.ndarray]:
        """Embed every view of every picture that decodes; cached groups are read."""
        if not pictures.reference:  # Without a reference they cannot be recognised in the cache.
            return ModelEmbeddings(self.model.image_side).views(pictures, tiles)
        parts = []
        for group in _groups(tiles):
            name = file_name("pictures", pictures.reference, PIXELS_VERSION, group)

            def embed(group=group) -> dict[str, np.ndarray]:
                if group == 1 and isinstance(pictures.views, RecordPictures):
                    embedded = self._whole_pictures(pictures.views.parts)
                    if embedded is not None:
                        return {"rows": np.arange(len(embedded)), "embeddings": embedded[:, None]}
                rows, embeddings = ModelEmbeddings(self.model.image_side).group(pictures, group)
                return {"rows": rows, "embeddings": embeddings}

            parts.append(self._kept(name, embed))
        return parts[0]["rows"], np.concatenate([part["embeddings"] for part in parts], axis=1)

    def _whole_pictures(self, parts: Sequence[tuple[Path, str]]) -> np.ndarray | None:
        """Embed pictures by stored outputs of a frozen image tower; those that are not stored are
        computed and stored for the next run, or None is returned."""
        if "image" not in self._frozen:
            return None
        from tfclip.evaluation.embedding.from_features import stored_pictures

        embedded = self.model.heads.pictures(parts)
        if embedded is None:
            for records, split in parts:
                stored_pictures(self.model.image_side, records, split, store=True)
            embedded = self.model.heads.pictures(parts)
        return embedded

    def labels(
        self, reference: str, read: Callable[[], LabelledPictures], views: Callable
    ) -> LabelledPictures:
        """Return labelled pictures; their labels are read once and cached.

        Args:
            reference: identifies the content of the pictures and labels.
            read: function that reads them.
            views: as in `LabelledPictures`.
        """
        fields = ("split", "class_names", "keys", "present", "difficult", "skipped")

        def read_fields() -> dict:
            pictures = read()
            return {field: getattr(pictures, field) for field in fields}

        kept = self._kept(file_name("labels", reference), read_fields)
        return LabelledPictures(
            str(kept["split"]),
            tuple(map(str, kept["class_names"])),
            tuple(map(str, kept["keys"])),
            kept["present"],
            kept["difficult"],
            views,
            int(kept["skipped"]),
            reference,
        )

    def arrays(self, reference: str, compute: Callable[[], dict]) -> dict[str, np.ndarray]:
        """Return arrays that depend on the model and `reference`, computed once and cached."""
        return self._kept(file_name("other", reference), compute)

    def _kept(self, name: str, compute: Callable[[], dict]) -> dict[str, np.ndarray]:
        path = self._folder / name
        arrays = read_kept(path)
        if arrays is None:
            computed = compute()
            keep(path, computed)
            # As if read back: text and numbers become arrays too.
            arrays = read_kept(path) or {key: np.asarray(one) for key, one in computed.items()}
        return arrays


def _groups(tiles: str) -> tuple[int | str, ...]:
    """Return the parts of a layout that are embedded, and kept, one by one."""
    return (DENSE,) if tiles == DENSE else tile_groups(tiles)


def class_embeddings_of(
    embeddings: Embeddings,
    texts: Sequence[Sequence[str]],
    negatives: Sequence[Sequence[str]] = (),
) -> np.ndarray:
    """Embed each of C classes by its texts, see `combined_embeddings`: (C,D) float32."""
    return combined_embeddings(embeddings.texts, texts, negatives)
