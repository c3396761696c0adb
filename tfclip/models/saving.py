"""Saves and loads a trained model: its configuration, its tokenizer and its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
from keras.src.saving import saving_lib

from tfclip import files
from tfclip.failures import first_line, require_space
from tfclip.inputs.text import Tokenizer, load_tokenizer
from tfclip.models.compute import FLOAT32, chosen_compute
from tfclip.models.config import ModelConfig
from tfclip.models.contrastive_model import MODALITIES
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.frozen_weights import (
    features_digest,
    link_equal_file,
    load_towers,
    save_towers,
)
from tfclip.models.initial_values import without_random_weights
from tfclip.models.model_directory import CONFIG_FILE, WEIGHTS_FILE, model_directory
from tfclip.models.parts_of_weights import load_parts, load_text_weights_alone

# Version 2 has the weights of frozen towers in files of their own, version 1 has one file.
FORMAT_VERSION = 2
WITHOUT_FROZEN = 1


@dataclass(frozen=True)
class TrainedModel:
    """A dual encoder with the tokenizer it was trained with.

    Attributes:
        dual_encoder: the Keras model.
        tokenizer: with the vocabulary and the context length of the training.
        trained_on: what must be known to interpret its figures: recipe, records, steps, seed and,
            where known, the class names that never occurred in training (`never_trained`).
        compute: the format in which evaluation and search compute the image tower, see
            `models.compute`.
        is_fixed: the weights do not change any more, so that graphs may hold them as constants.
        frozen: the towers that did not train, as the model folder says: modality to
            `frozen_weights.features_digest`, or "" if an earlier version wrote it.
    """

    dual_encoder: DualEncoder
    tokenizer: Tokenizer
    trained_on: Mapping = field(default_factory=dict)
    compute: str = FLOAT32
    is_fixed: bool = False
    frozen: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> ModelConfig:
        """The architecture."""
        return self.dual_encoder.config


def save_model(directory: Path, model: TrainedModel) -> None:
    """Write a model folder: `model.json`, the weights, and the tokenizer's file.

    The weights are `model.weights.h5` and a file for each frozen tower, see `frozen_weights`. The
    write is atomic: an existing model is replaced only when the new one is complete.

    Raises:
        OSError: the folder cannot be written, or the disk has too little space.
    """
    description = {
        "format_version": FORMAT_VERSION if model.dual_encoder.frozen else WITHOUT_FROZEN,
        "config": model.config.to_dict(),
        "tokenizer": model.tokenizer.describe(),
        "trained_on": dict(model.trained_on),
    }
    with files.new_folder(directory, replace=True) as temporary:
        require_space(temporary, _size_of(model.dual_encoder))
        if model.dual_encoder.frozen:
            description["towers"] = save_towers(temporary, model.dual_encoder, Path(directory))
            description["tower_digests"] = {
                modality: features_digest(model.dual_encoder, modality)
                for modality in model.dual_encoder.frozen
            }
        with _without_optimizer(model.dual_encoder):
            saving_lib.save_weights_only(
                model.dual_encoder,
                temporary / WEIGHTS_FILE,
                objects_to_skip=_towers(model.dual_encoder, model.dual_encoder.frozen),
            )
        link_equal_file(temporary / WEIGHTS_FILE, Path(directory))
        model.tokenizer.save(temporary)
        text = json.dumps(description, indent=2) + "\n"
        (temporary / CONFIG_FILE).write_text(text, encoding="utf-8")


def _size_of(model: DualEncoder) -> int:
    """Return the bytes of the weights on disk, including what HDF5 adds for each array."""
    variables = model.weights
    return sum(v.value.dtype.size * math.prod(v.shape) + 4096 for v in variables) + 65_536


def _towers(model: DualEncoder, modalities: Iterable[str]) -> list[keras.Model]:
    return [getattr(model, f"{modality}_tower") for modality in modalities]


@contextmanager
def _without_optimizer(model: DualEncoder) -> Iterator[None]:
    """Keep the optimizer out of the file: it is two or three times as large as the weights."""
    optimizer, model.optimizer = getattr(model, "optimizer", None), None
    try:
        yield
    finally:
        model.optimizer = optimizer


def load_weights(directory: Path, model: DualEncoder) -> None:
    """Set the weights of `model` to those of a model folder; its optimizer is unchanged.

    Raises:
        FileNotFoundError: there is no model, or one of its files is missing.
        ValueError: the files are damaged, of another version or of another model.
    """
    directory = model_directory(directory)
    with _without_optimizer(model):
        _read_weights(directory, model, _description(directory)["towers"])


def load_model(
    path: Path, modalities: Sequence[str] = MODALITIES, compute: str = FLOAT32
) -> TrainedModel:
    """Load a trained model from a run directory or a model folder; never random weights.

    Args:
        path: the directory.
        modalities: what is loaded; ("image",) for a model that only embeds pictures, ("text",) for
            one that only embeds texts.
        compute: see `TrainedModel`; auto chooses.

    Raises:
        FileNotFoundError: there is no model, or one of its files is missing.
        ValueError: the files are damaged or of another version.
    """

    def build(directory: Path, config: ModelConfig, towers: dict[str, str]) -> DualEncoder:
        with without_random_weights():
            dual_encoder = DualEncoder(config, modalities)
        _read_weights(directory, dual_encoder, towers)
        return dual_encoder

    return load_around(path, build, compute)


def load_without_towers(path: Path, compute: str = FLOAT32) -> TrainedModel:
    """Load what a trained model has beside its towers and heads; `load_head` adds a head.

    Arguments and errors are those of `load_model`.
    """

    def build(directory: Path, config: ModelConfig, towers: dict[str, str]) -> DualEncoder:
        model = DualEncoder(config, ())
        parts = {"logit_scale": model.logit_scale, "logit_bias": model.logit_bias}
        _read_parts(directory, {name: part for name, part in parts.items() if part is not None})
        return model

    return replace(load_around(path, build, compute), is_fixed=True)


def load_head(path: Path, model: TrainedModel, modality: str, shape: Sequence[int | None]) -> None:
    """Add a head to what `load_without_towers` returned.

    Args:
        path: the directory.
        model: the model.
        modality: "image" or "text".
        shape: that of the features, without the batch.

    Raises:
        ValueError: the weights are damaged, or of features of another shape.
    """
    name, encoder = f"{modality}_head", model.dual_encoder
    with without_random_weights():
        head = encoder.new_head(modality, (None, *shape))
    _read_parts(model_directory(path), {name: head})
    setattr(encoder, name, head)


def load_around(
    path: Path,
    build: Callable[[Path, ModelConfig, dict[str, str]], DualEncoder],
    compute: str = FLOAT32,
) -> TrainedModel:
    """Load what a trained model has beside its dual encoder, which `build` returns.

    Args:
        path: the directory.
        build: function of the model folder, the architecture, and the files of frozen towers.
        compute: see `TrainedModel`.

    Raises:
        FileNotFoundError, ValueError: as `load_model`.
    """
    directory = model_directory(path)
    description = _description(directory)
    config: ModelConfig = description["config"]
    return TrainedModel(
        dual_encoder=build(directory, config, description["towers"]),
        tokenizer=load_tokenizer(directory, description["tokenizer"], config.context_length),
        trained_on=description["trained_on"],
        compute=chosen_compute(compute, config.image_tower, config.precision),
        frozen={name: description["digests"].get(name, "") for name in description["towers"]},
    )


def _description(directory: Path) -> dict:
    """Return `model.json`: `config` as a `ModelConfig`, `tokenizer`, `trained_on`, and of frozen
    towers the files, `towers`, and `digests`."""
    if not (directory / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(f"{directory} is incomplete: {WEIGHTS_FILE} is missing.")
    try:
        content = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
        described = {
            "config": ModelConfig.from_dict(content["config"]),
            "tokenizer": dict(content["tokenizer"]),
            "towers": dict(content.get("towers", {})),
            "digests": dict(content.get("tower_digests", {})),
            "trained_on": content.get("trained_on", {}),
        }
        version = content["format_version"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{directory / CONFIG_FILE} is damaged: {error}.") from error
    if version not in (WITHOUT_FROZEN, FORMAT_VERSION):
        raise ValueError(
            f"{directory} has format version {version}; this tfclip reads versions "
            f"{WITHOUT_FROZEN} and {FORMAT_VERSION}."
        )
    return described


def _read_parts(directory: Path, parts: Mapping[str, keras.layers.Layer]) -> None:
    try:
        load_parts(directory / WEIGHTS_FILE, parts)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{directory / WEIGHTS_FILE} is damaged: {first_line(error)}") from error


def _read_weights(directory: Path, model: DualEncoder, towers: dict[str, str]) -> None:
    """Read `model.weights.h5` and the files of frozen towers into a model."""
    try:
        # Only of modalities that were built.
        towers = {name: file for name, file in towers.items() if hasattr(model, f"{name}_tower")}
        load_towers(directory, model, towers)
        if not hasattr(model, "image_tower"):
            load_text_weights_alone(directory / WEIGHTS_FILE, model, towers)
            return
        saving_lib.load_weights_only(
            model, directory / WEIGHTS_FILE, objects_to_skip=_towers(model, towers)
        )
    except FileNotFoundError:
        raise
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{directory / WEIGHTS_FILE} does not fit {CONFIG_FILE}: {first_line(error)}"
        ) from error
