"""Loads as much of a run's model as embedding takes: all of it, one side, a stored graph for a few
inputs, or the heads alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tfclip.evaluation.embedding.kept_arrays import FOLDER, file_name, keep, read_kept
from tfclip.models.compute import FLOAT32, run_compute
from tfclip.models.model_directory import model_directory, model_fingerprint

# TensorFlow is imported only when something is loaded.
if TYPE_CHECKING:
    from tfclip.evaluation.embedding.from_features import Heads
    from tfclip.models.saving import TrainedModel


class RunModel:
    """The model of a run, of which each part is loaded when it is first asked for.

    Attributes:
        run: a run directory or a model folder.
        compute: the format of the image tower, see `models.compute`.
        fingerprint: see `models.model_directory`.
        folder: where the run keeps what depends on this model.

    Raises:
        FileNotFoundError: the directory holds no model.
        ValueError: this machine cannot compute in that format.
    """

    def __init__(self, run: Path, compute: str = FLOAT32):
        self.run = Path(run)
        self.fingerprint = model_fingerprint(run)
        self.compute = run_compute(run, compute)
        self.folder = self.run / FOLDER / self.fingerprint[:16]

    @cached_property
    def whole(self) -> TrainedModel:
        """Both sides."""
        return self._loaded(("image", "text"))

    @cached_property
    def image_side(self) -> TrainedModel:
        """The image tower and its head; the whole model if that is loaded."""
        return self.whole if "whole" in self.__dict__ else self._loaded(("image",))

    @cached_property
    def text_side(self) -> TrainedModel:
        """The text tower and its head; the whole model if that is loaded."""
        return self.whole if "whole" in self.__dict__ else self._loaded(("text",))

    @cached_property
    def heads(self) -> Heads:
        """The heads alone, for stored outputs of frozen towers."""
        from tfclip.evaluation.embedding.from_features import Heads

        return Heads(self.run, self.compute)

    def text_side_for(self, count: int) -> TrainedModel:
        """Return what embeds so many texts soonest."""
        from tfclip.evaluation.embedding.embed import FEW_TEXTS

        loaded = {"whole", "text_side"} & self.__dict__.keys()
        return self.for_few("text") if count <= FEW_TEXTS and not loaded else self.text_side

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

        path = self.folder / file_name("encoder", modality, VERSIONS)
        arrays = read_kept(path)
        if arrays:
            return load_around(
                self.run, lambda directory, config, _: StoredEncoder(config, directory, arrays)
            )
        model = self._loaded((modality,))
        if arrays is None and os.access(self.run, os.W_OK):
            made = encoder_arrays(model.dual_encoder, modality, model_directory(self.run))
            # Nothing, where there is no graph, so that it is not tried again.
            keep(path, made or {})
        return model

    def _loaded(self, modalities: Sequence[str]) -> TrainedModel:
        from tfclip.models.saving import load_model

        return replace(load_model(self.run, modalities, self.compute), is_fixed=True)
