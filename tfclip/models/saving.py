"""Saves and loads a trained model: its configuration, its tokenizer and its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tfclip import files
from tfclip.failures import first_line, require_space
from tfclip.inputs.text import Tokenizer, load_tokenizer
from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.model_directory import CONFIG_FILE, WEIGHTS_FILE, model_directory

FORMAT_VERSION = 1


@dataclass(frozen=True)
class TrainedModel:
    """A dual encoder with the tokenizer it was trained with.

    Attributes:
        dual_encoder: the Keras model.
        tokenizer: with the vocabulary and the context length of the training.
        trained_on: what must be known to interpret its figures: recipe, records, steps, seed and,
            where known, the class names that never occurred in training (`never_trained`).
    """

    dual_encoder: DualEncoder
    tokenizer: Tokenizer
    trained_on: Mapping = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        """The architecture."""
        return self.dual_encoder.config


def save_model(directory: Path, model: TrainedModel) -> None:
    """Write a model folder: `model.json`, `model.weights.h5`, and the tokenizer's file.

    The write is atomic: an existing model is replaced only when the new one is complete.

    Raises:
        OSError: the folder cannot be written, or the disk has too little space.
    """
    description = {
        "format_version": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "tokenizer": model.tokenizer.describe(),
        "trained_on": dict(model.trained_on),
    }
    with files.new_folder(directory, replace=True) as temporary:
        require_space(temporary, _size_of(model.dual_encoder))
        with _without_optimizer(model.dual_encoder):
            model.dual_encoder.save_weights(temporary / WEIGHTS_FILE)
        model.tokenizer.save(temporary)
        text = json.dumps(description, indent=2) + "\n"
        (temporary / CONFIG_FILE).write_text(text, encoding="utf-8")


def _size_of(model: DualEncoder) -> int:
    """Return the bytes of the weights on disk, including what HDF5 adds for each array."""
    variables = model.weights
    return sum(v.value.dtype.size * math.prod(v.shape) + 4096 for v in variables) + 65_536


@contextmanager
def _without_optimizer(model: DualEncoder) -> Iterator[None]:
    """Keep the optimizer out of the file: it is two or three times as large as the weights."""
    optimizer, model.optimizer = getattr(model, "optimizer", None), None
    try:
        yield
    finally:
        model.optimizer = optimizer


def load_model(path: Path) -> TrainedModel:
    """Load a trained model from a run directory or a model folder; never random weights.

    Raises:
        FileNotFoundError: there is no model, or one of its files is missing.
        ValueError: the files are damaged or of another version.
    """
    directory = model_directory(path)
    if not (directory / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(f"{directory} is incomplete: {WEIGHTS_FILE} is missing.")
    try:
        description = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        config = ModelConfig.from_dict(description["config"])
        tokenizer = dict(description["tokenizer"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{directory / CONFIG_FILE} is damaged: {error}.") from error
    if description["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{directory} has format version {description['format_version']}; this tfclip reads "
            f"version {FORMAT_VERSION}."
        )
    dual_encoder = DualEncoder(config)
    try:
        dual_encoder.load_weights(directory / WEIGHTS_FILE)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{directory / WEIGHTS_FILE} does not fit {CONFIG_FILE}: {first_line(error)}"
        ) from error
    return TrainedModel(
        dual_encoder=dual_encoder,
        tokenizer=load_tokenizer(directory, tokenizer, config.context_length),
        trained_on=description.get("trained_on", {}),
    )
