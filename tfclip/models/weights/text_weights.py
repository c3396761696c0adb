"""Loads pretrained weights for text towers: from hubs, local folders and files of tfclip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import keras_hub
import numpy as np

from tfclip.failures import first_line
from tfclip.inputs.text import BytePairTokenizer, Tokenizer, WordPieceTokenizer
from tfclip.inputs.tokenizers.vocabulary import load_vocabulary
from tfclip.models import registry
from tfclip.models.weights import convert_texts, text_folders
from tfclip.models.weights.fetch import HUB, local_source
from tfclip.models.weights.names import NONE, looks_like_path
from tfclip.models.weights.pretrained.cache import kept_weights, not_kept
from tfclip.models.weights.pretrained.catalogue import pretrained
from tfclip.naming import unknown

ALLOWED = (
    "none, a name that tfclip weights list prints, a keras_hub preset name, hf://OWNER/NAME, a "
    "Hugging Face or Keras preset folder, or a tower's own .weights.h5"
)
H5 = ".h5"


@dataclass(frozen=True)
class PretrainedText:
    """A pretrained text encoder: its sizes, its vocabulary and its weights.

    Attributes:
        origin: where it comes from, for messages.
        builder: the builder of the towers that it fits; None if any may fit (`.h5`).
        options: the sizes and parts for the builder, without the pooling.
        vocabulary: the tokens, or for CLIP the merges; None if the weights come without.
        lowercase: whether the tokenizer folds case.
        arrays: by the names of `convert_texts.variables_by_name`, or None for an `.h5` file.
    """

    origin: str
    builder: str | None
    options: dict
    vocabulary: tuple[str, ...] | None
    lowercase: bool
    arrays: Mapping[str, np.ndarray] | None

    @property
    def tokenizer_kind(self) -> str:
        """The kind of tokenizer of the tower's training: "wordpiece" or "byte-pair"."""
        return "byte-pair" if self.builder == convert_texts.CLIP else "wordpiece"

    @property
    def longest_text(self) -> int | None:
        """The rows of the position table, or None for an `.h5` file."""
        arrays = self.arrays or {}
        tables = [arrays[name] for name in convert_texts.POSITIONS if name in arrays]
        return len(tables[0]) if tables else None

    def copy_into(self, tower: keras.Model) -> None:
        """Load the weights into a tower that was built with `options`; all of them or none.

        A tower for shorter texts takes the first rows of the position table.

        Raises:
            ValueError: an array is missing, left over, or of another shape.
        """
        if self.arrays is None:
            _load_h5(tower, Path(self.origin))
            return
        variables = convert_texts.variables_by_name(tower)
        missing = sorted(set(variables) - set(self.arrays))
        # A tower without BERT's pooler does not need its weights.
        extra = sorted(n for n in set(self.arrays) - set(variables) if "pooled_dense" not in n)
        if missing or extra:
            raise ValueError(
                f"--text-weights {self.origin} do not fit the tower: "
                f"missing {', '.join(missing[:3]) or 'nothing'}, left over "
                f"{', '.join(extra[:3]) or 'nothing'}"
            )
        arrays = dict(self.arrays)
        for name, variable in variables.items():
            if name in convert_texts.POSITIONS:
                arrays[name] = arrays[name][: variable.shape[0]]
            if tuple(variable.shape) != arrays[name].shape:
                raise ValueError(
                    f"--text-weights {self.origin} do not fit the tower: {name} is "
                    f"{arrays[name].shape}, the tower's is {tuple(variable.shape)}"
                )
        for name, variable in variables.items():
            variable.assign(arrays[name])

    def make_tokenizer(self, context_length: int) -> Tokenizer | None:
        """Return the tokenizer of the weights, or None if they come without a vocabulary."""
        if self.vocabulary is None:
            return None
        if self.tokenizer_kind == "byte-pair":
            return BytePairTokenizer(self.vocabulary, context_length)
        return WordPieceTokenizer(self.vocabulary, context_length, self.lowercase, "bert")


def load_text_weights(tower_name: str, weights: str) -> PretrainedText | None:
    """Read a pretrained text encoder.

    Args:
        tower_name: "bert" (any size), a fixed size such as "minilm", "clip-text", or for `.h5` any
            text tower.
        weights: see `ALLOWED`.

    Returns:
        None for "none".

    Raises:
        ValueError: the wrong architecture or sizes, damaged files, a vocabulary of another size.
        FileNotFoundError: the path does not exist, or a preset cannot be downloaded.
    """
    if weights == NONE:
        return None
    tower = registry.text_tower(tower_name)
    weights = _kept(weights)
    path = Path(weights).expanduser()
    if weights.endswith(H5):
        if not path.is_file():
            raise FileNotFoundError(f"--text-weights {weights}: no such file; allowed: {ALLOWED}")
        return PretrainedText(str(path), None, {}, _vocabulary_beside(path), True, None)
    readable = {layout.builder for layout in convert_texts.LAYOUTS.values()}
    if tower.builder not in readable:
        known = [n for n, t in registry.TEXT_TOWERS.items() if t.builder in readable]
        raise ValueError(
            f"--text-weights {weights} fits {', '.join(known)}; {tower_name} takes only its own "
            ".weights.h5"
        )
    if path.is_dir():
        found = read_folder(path)
    elif looks_like_path(weights):
        raise FileNotFoundError(f"--text-weights {weights}: no such folder; allowed: {ALLOWED}")
    elif weights.startswith(HUB):
        found = read_folder(local_source(weights))
    else:
        found = _read_preset(weights)
    if found.builder != tower.builder:
        fitting = [n for n, t in registry.TEXT_TOWERS.items() if t.builder == found.builder]
        raise ValueError(
            f"{weights} holds another architecture than {tower_name}; it fits {', '.join(fitting)}"
        )
    for key, value in tower.options.items():
        if found.options.get(key, value) != value:
            raise ValueError(
                f"{tower_name} has {key} {value}, but {weights} holds {found.options[key]}; use "
                "--text-tower bert, which takes its sizes from the weights"
            )
    return found


def _kept(weights: str) -> str:
    """Return the path in the cache for weights that are known by name, or `weights`."""
    known = None if Path(weights).expanduser().exists() else pretrained(weights, "")
    if known is not None and (path := kept_weights(known)) is not None:
        return str(path)
    if known is not None and weights == known.name:
        raise not_kept(known)
    return weights


def read_folder(path: Path) -> PretrainedText:
    """Read a Hugging Face folder or a Keras preset folder of BERT, DistilBERT or CLIP.

    Raises:
        FileNotFoundError, ValueError: as `load_text_weights`.
    """
    config_path = path / text_folders.CONFIG_FILE
    if not config_path.is_file():
        raise FileNotFoundError(
            f"{path} has no config.json, so it is not a folder of weights; put the model's "
            "config.json, model.safetensors and vocab.txt there, as on the Hugging Face hub"
        )
    config = text_folders.read_json(config_path)
    if "registered_name" in config or "class_name" in config:
        return _read_preset(str(path), str(config.get("class_name")))
    layout = text_folders.layout_of(config, config_path)
    options = text_folders.sizes_from(config, layout, config_path)
    arrays = text_folders.arrays_from(path / text_folders.WEIGHTS_FILE, layout, options)
    return _checked(
        str(path), layout.builder, options, *text_folders.tokens_from(path, layout), arrays
    )


def _checked(origin, builder, options, vocabulary, lowercase, arrays) -> PretrainedText:
    found = PretrainedText(origin, builder, options, vocabulary, lowercase, arrays)
    table = "embeddings/token_embeddings" if builder == convert_texts.CLIP else _BERT_TOKENS
    rows, tokenizer = len(arrays[table]), found.make_tokenizer(3)
    if tokenizer is not None and tokenizer.vocabulary_size != rows:
        raise ValueError(
            f"{origin}: the vocabulary has {tokenizer.vocabulary_size} tokens and the token table "
            f"{rows} rows; take both from the same model"
        )
    return found


_BERT_TOKENS = "token_embedding/embeddings"


def _read_preset(name: str, class_name: str | None = None) -> PretrainedText:
    """Read a keras_hub preset by its name, or the folder `name` that holds a `class_name`."""
    models = keras_hub.models
    classes = {
        "BertBackbone": (models.BertBackbone, models.BertTokenizer),
        "DistilBertBackbone": (models.DistilBertBackbone, models.DistilBertTokenizer),
        "CLIPBackbone": (models.CLIPBackbone, models.CLIPTokenizer),
    }
    presets = {p: c for c, (backbone, _) in classes.items() for p in backbone.presets}
    if class_name is None and name not in presets:
        raise unknown("preset for --text-weights", name, presets)
    class_name = class_name or presets[name]
    if class_name not in classes:
        raise ValueError(f"{name} is a preset of {class_name}; allowed: {', '.join(classes)}")
    backbone_class, tokenizer_class = classes[class_name]
    try:
        backbone = backbone_class.from_preset(name)
        tokenizer = tokenizer_class.from_preset(name)
    except Exception as error:  # downloading and reading raise many kinds
        if name not in presets:
            raise ValueError(
                f"{name} could not be read as a preset: {first_line(error)}"
            ) from error
        handle = backbone_class.presets[name]["kaggle_handle"].removeprefix("kaggle://")
        owner, model, _, variation, version = handle.split("/")
        page = f"https://www.kaggle.com/models/{owner}/{model}/keras/{variation}"
        raise FileNotFoundError(
            f"--text-weights {name} is not on this machine and could not be downloaded "
            f"({first_line(error)}). Download {page} (version {version}: config.json, "
            "tokenizer.json, model.weights.h5, assets/) on a machine with a network, unpack it "
            "into a folder, and pass the folder"
        ) from error
    builder = convert_texts.CLIP if class_name == "CLIPBackbone" else convert_texts.BERT
    encoder = backbone.text_encoder if builder == convert_texts.CLIP else backbone
    config, arrays = encoder.get_config(), convert_texts.hub_arrays(encoder, builder)
    if builder == convert_texts.CLIP:
        options = {
            "blocks": config["num_layers"],
            "width": config["hidden_dim"],
            "heads": config["num_heads"],
            "hidden_activation": config["intermediate_activation"],
        }
        merges = tuple(merge for merge in tokenizer.merges if "#version:" not in merge)
        return _checked(name, builder, options, merges, True, arrays)
    sizes = convert_texts.LAYOUTS["bert"].sizes
    options = {key: config[key] for key in sizes if key in config}
    if class_name == "BertBackbone":
        options["activation"] = "gelu_tanh"
    else:
        options |= {"activation": "gelu", "num_segments": 0, "pooler": False}
    vocabulary = tuple(tokenizer.get_vocabulary())
    return _checked(name, builder, options, vocabulary, bool(tokenizer.lowercase), arrays)


def _vocabulary_beside(path: Path) -> tuple[str, ...] | None:
    beside = path.with_name(text_folders.VOCABULARY_FILE)
    return tuple(load_vocabulary(beside)) if beside.is_file() else None


def _load_h5(tower: keras.Model, path: Path) -> None:
    """Load a file of `tower.save_weights(path)`; after an error the tower is unchanged."""
    before = tower.get_weights()
    try:
        with h5py.File(path) as file:
            arrays = []
            file.visititems(lambda _, node: arrays.append(node) if hasattr(node, "shape") else None)
            count = len(arrays)
        if count != len(before):
            raise ValueError(f"it holds {count} arrays, the tower has {len(before)}")
        tower.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds
        tower.set_weights(before)
        raise ValueError(
            f"--text-weights {path} does not fit this tower: {first_line(error)}"
        ) from error
