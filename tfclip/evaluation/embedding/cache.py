"""The embeddings of a trained model, cached in its run directory.

`runs/x/embeddings/<model>/` holds one file for each group of tiles of each set of pictures, one for
all texts embedded so far, and one with the labels of each set. `<model>` is the model's
fingerprint: after further training the cache of the former model is removed. Embeddings by
OpenVINO are in a folder of their own beside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from zipfile import BadZipFile

import numpy as np

from tfclip import files
from tfclip.console import say
from tfclip.evaluation.datasets.multilabel_images import LabelledPictures, RecordPictures
from tfclip.evaluation.embedding.class_words import combined_embeddings
from tfclip.inputs.tiles import DENSE, group_boxes, tile_groups
from tfclip.inputs.view_sets import PIXELS_VERSION
from tfclip.models.compute import FLOAT32, run_compute
from tfclip.models.model_directory import CONFIG_FILE, model_directory, model_fingerprint

# TensorFlow is imported only when something is not cached: without it, results take seconds.
if TYPE_CHECKING:
    from tfclip.evaluation.embedding.from_features import Heads
    from tfclip.models.saving import TrainedModel

FOLDER = "embeddings"


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

    `fingerprint` is that of `models.model_directory`.

    Args:
        run: a run directory or a model folder.
        compute: the format of the image tower, see `models.compute`; `auto` chooses.

    Raises:
        FileNotFoundError: the directory holds no model.
        ValueError: this machine cannot compute in that format.
    """

    def __init__(self, run: Path, compute: str = FLOAT32):
        self._run = Path(run)
        folder = self._run / FOLDER
        self.fingerprint = model_fingerprint(run)
        self.compute = run_compute(run, compute)
        own = self.fingerprint[:16]
        self._folder = folder / (own if self.compute == FLOAT32 else f"{own}-{self.compute}")
        for other in folder.iterdir() if folder.is_dir() else ():
            if other.name.partition("-")[0] != own:
                shutil.rmtree(other, ignore_errors=True)

    @cached_property
    def model(self) -> TrainedModel:
        """The model itself."""
        return self._loaded(("image", "text"))

    @cached_property
    def _image_model(self) -> TrainedModel:
        return self.model if "model" in self.__dict__ else self._loaded(("image",))

    @cached_property
    def _text_model(self) -> TrainedModel:
        return self.model if "model" in self.__dict__ else self._loaded(("text",))

    def _loaded(self, modalities: Sequence[str]) -> TrainedModel:
        from tfclip.models.saving import load_model

        return replace(load_model(self._run, modalities, self.compute), is_fixed=True)

    def for_few(self, modality: str) -> TrainedModel:
        """Return a model that embeds a few pictures (in float32) or texts.

        A stored graph computes them, which is ready seconds before the layers of the model. The
        first time, the model is loaded, and the graph is made for the next time.
        """
        from tfclip.evaluation.embedding.stored_encoder import (
            VERSIONS,
            StoredEncoder,
            encoder_arrays,
        )
        from tfclip.models.saving import load_around

        own = self._run / FOLDER / self.fingerprint[:16]
        path = own / f"{_name('encoder', modality, VERSIONS)}.npz"
        arrays = _read(path)
        if arrays:
            kept = arrays
            return load_around(
                self._run, lambda directory, config, _: StoredEncoder(config, directory, kept)
            )
        model = self._loaded((modality,))
        if arrays is None and os.access(self._run, os.W_OK):
            made = encoder_arrays(model.dual_encoder, modality, model_directory(self._run))
            # Nothing, where there is no graph, so that it is not tried again.
            _write(path, made or {})
        return model

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
        path = model_directory(self._run) / CONFIG_FILE
        return json.loads(path.read_text(encoding="utf-8"))

    @cached_property
    def logit_scale(self) -> float:
        """The model's learnt temperature."""
        kept = self._kept(
            "logit_scale", lambda: {"scale": ModelEmbeddings(self.heads.model).logit_scale}
        )
        return float(kept["scale"])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed M texts; those in the cache are read from it."""
        kept = _read(self._folder / "texts.npz")
        cached = () if kept is None else map(str, kept["texts"])
        place = {text: row for row, text in enumerate(cached)}
        missing = [text for text in dict.fromkeys(texts) if text not in place]
        parts = [] if kept is None else [kept["embeddings"]]
        if missing:
            parts.append(self._new_texts(missing))
            place |= {text: row for row, text in enumerate(missing, len(place))}
            content = {"texts": list(place), "embeddings": np.concatenate(parts)}
            _write(self._folder / "texts.npz", content)
        return np.concatenate(parts)[[place[text] for text in texts]]

    def _new_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts; an error is cached too, so that it is raised again without the model."""
        path = self._folder / f"{_name('refused', *texts)}.npz"
        if refused := _read(path):
            raise ValueError(str(refused["reason"]))
        try:
            return ModelEmbeddings(self._model_for(texts)).texts(texts)
        except ValueError as error:
            _write(path, {"reason": str(error)})
            raise

    def _model_for(self, texts: Sequence[str]) -> TrainedModel:
        from tfclip.evaluation.embedding.embed import FEW_TEXTS

        loaded = {"model", "_text_model"} & self.__dict__.keys()
        few = len(texts) <= FEW_TEXTS and not loaded
        return self.for_few("text") if few else self._text_model

    def views(self, pictures: LabelledPictures, tiles: str) -> tuple[np.ndarray, np.ndarray]:
        """Embed every view of every picture that decodes; cached groups are read."""
        if not pictures.reference:  # Without a reference they cannot be recognised in the cache.
            return ModelEmbeddings(self._image_model).views(pictures, tiles)
        parts = []
        for group in _groups(tiles):
            name = _name("pictures", pictures.reference, PIXELS_VERSION, group)

            def embed(group=group) -> dict[str, np.ndarray]:
                if group == 1 and isinstance(pictures.views, RecordPictures):
                    embedded = self._whole_pictures(pictures.views.parts)
                    if embedded is not None:
                        return {"rows": np.arange(len(embedded)), "embeddings": embedded[:, None]}
                rows, embeddings = ModelEmbeddings(self._image_model).group(pictures, group)
                return {"rows": rows, "embeddings": embeddings}

            parts.append(self._kept(name, embed))
        return parts[0]["rows"], np.concatenate([part["embeddings"] for part in parts], axis=1)

    def _whole_pictures(self, parts: Sequence[tuple[Path, str]]) -> np.ndarray | None:
        """Embed pictures by stored outputs of a frozen image tower; those that are not stored are
        computed and stored for the next run, or None is returned."""
        if "image" not in self._frozen:
            return None
        from tfclip.evaluation.embedding.from_features import stored_pictures

        embedded = self.heads.pictures(parts)
        if embedded is None:
            for records, split in parts:
                stored_pictures(self._image_model, records, split, store=True)
            embedded = self.heads.pictures(parts)
        return embedded

    @cached_property
    def heads(self) -> Heads:
        """The heads alone, for stored outputs of frozen towers."""
        from tfclip.evaluation.embedding.from_features import Heads

        return Heads(self._run, self.compute)

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

        kept = self._kept(_name("labels", reference), read_fields)
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
        return self._kept(_name("other", reference), compute)

    def _kept(self, name: str, compute: Callable[[], dict]) -> dict[str, np.ndarray]:
        path = self._folder / f"{name}.npz"
        arrays = _read(path)
        if arrays is None:
            computed = compute()
            _write(path, computed)
            # As if read back: text and numbers become arrays too.
            arrays = _read(path) or {name: np.asarray(value) for name, value in computed.items()}
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


def _name(kind: str, *parts: object) -> str:
    return f"{kind}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}"


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """Return the cached arrays, or None when the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, BadZipFile):
        return None


def _write(path: Path, content: Mapping) -> None:
    """Write arrays; where the directory may not be written, they are only not kept."""
    try:
        with files.new_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **content)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        say(f"note: {path.parent} cannot be written, so that embeddings are not kept")
