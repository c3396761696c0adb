"""Pretrained weights for text towers: from hubs, from local folders, and from our own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import keras_hub
import numpy as np

from tfclip.inputs.text import WordPieceTokenizer
from tfclip.inputs.vocabulary import load_vocabulary
from tfclip.models import registry, text_folders
from tfclip.models.pretrained import NONE, first_line, looks_like_path
from tfclip.naming import unknown

ALLOWED = (
    "none, a keras_hub preset name, hf://OWNER/NAME, a folder with config.json, model.safetensors "
    "and vocab.txt, a Keras preset folder, or a tower's own .weights.h5"
)
H5 = ".h5"
# In keras_hub's DistilBERT both tables are in one layer.
_BOTH_TABLES = "token_and_position_embedding/"


@dataclass(frozen=True)
class PretrainedText:
    """A text encoder that was read: its sizes, its vocabulary, its weights.

    Attributes:
        origin: where it is from, for messages.
        options: the sizes and parts for the tower's builder; nothing about pooling.
        vocabulary: the tokens, or None where the weights bring none (`.h5`).
        lowercase: whether the tokenizer folds case.
        arrays: by the paths of the tower's variables, or None for an `.h5` file.
    """

    origin: str
    options: dict
    vocabulary: tuple[str, ...] | None
    lowercase: bool
    arrays: Mapping[str, np.ndarray] | None
    tokenizer_kind: str = "wordpiece"

    def copy_into(self, tower: keras.Model) -> None:
        """Put the weights into a tower that was built with `options`; all of them or none.

        Raises:
            ValueError: when an array is missing, left over, or of another shape.
        """
        if self.arrays is None:
            _load_h5(tower, Path(self.origin))
            return
        variables = {variable.path: variable for variable in tower.weights}
        missing = sorted(set(variables) - set(self.arrays))
        # A tower without BERT's pooler has no use for it.
        extra = sorted(n for n in set(self.arrays) - set(variables) if "pooled_dense" not in n)
        if missing or extra:
            raise ValueError(
                f"--text-weights {self.origin} do not fit the tower: "
                f"missing {', '.join(missing[:3]) or 'nothing'}, left over "
                f"{', '.join(extra[:3]) or 'nothing'}"
            )
        for name, variable in variables.items():
            if tuple(variable.shape) != self.arrays[name].shape:
                raise ValueError(
                    f"--text-weights {self.origin} do not fit the tower: {name} is "
                    f"{self.arrays[name].shape}, the tower's is {tuple(variable.shape)}"
                )
        for name, variable in variables.items():
            variable.assign(self.arrays[name])

    def make_tokenizer(self, context_length: int) -> WordPieceTokenizer | None:
        """The tokenizer that belongs to the weights, or None where they bring no vocabulary."""
        if self.vocabulary is None:
            return None
        return WordPieceTokenizer(self.vocabulary, context_length, self.lowercase, "bert")


def load_text_weights(tower_name: str, weights: str) -> PretrainedText | None:
    """Read a pretrained text encoder.

    Args:
        tower_name: "bert" (any size), a fixed size such as "minilm", or for `.h5` any text tower.
        weights: see `ALLOWED`.

    Returns:
        None for "none".

    Raises:
        ValueError: the wrong architecture or sizes, damaged files, a vocabulary of another size.
        FileNotFoundError: nothing there, or a preset that cannot be fetched.
    """
    if weights == NONE:
        return None
    tower = registry.text_tower(tower_name)
    path = Path(weights).expanduser()
    if weights.endswith(H5):
        if not path.is_file():
            raise FileNotFoundError(f"--text-weights {weights}: no such file; allowed: {ALLOWED}")
        return PretrainedText(str(path), {}, _vocabulary_beside(path), True, None)
    if not tower.builder.endswith(":bert"):
        known = [n for n, t in registry.TEXT_TOWERS.items() if t.builder == _BERT_BUILDER]
        raise ValueError(
            f"--text-weights {weights} are read for {', '.join(known)}; {tower_name} takes only "
            "its own .weights.h5"
        )
    if path.is_dir():
        found = read_folder(path)
    elif looks_like_path(weights):
        raise FileNotFoundError(f"--text-weights {weights}: no such folder; allowed: {ALLOWED}")
    elif weights.startswith("hf://"):
        found = read_folder(_fetch(weights))
    else:
        found = _read_preset(weights)
    for key, value in tower.options.items():
        if found.options.get(key, value) != value:
            raise ValueError(
                f"{tower_name} has {key} {value}, but {weights} holds {found.options[key]}; use "
                "--text-tower bert, which takes its sizes from the weights"
            )
    return found


_BERT_BUILDER = registry.TEXT_TOWERS["bert"].builder


def read_folder(path: Path) -> PretrainedText:
    """Read a Hugging Face folder or a Keras preset folder of BERT or DistilBERT.

    Raises:
        FileNotFoundError, ValueError: as `load_text_weights`.
    """
    config_path = path / text_folders.CONFIG_FILE
    if not config_path.is_file():
        raise FileNotFoundError(
            f"{path} has no config.json, so it is no folder of weights; put the model's "
            "config.json, model.safetensors and vocab.txt there, as the Hugging Face hub has them"
        )
    config = text_folders.read_json(config_path)
    if "registered_name" in config or "class_name" in config:
        return _read_preset(str(path), str(config.get("class_name")))
    options = text_folders.sizes_from(config, config_path)
    tokenizer = {}
    if (path / text_folders.TOKENIZER_FILE).is_file():
        tokenizer = text_folders.read_json(path / text_folders.TOKENIZER_FILE)
    vocabulary_path = path / text_folders.VOCABULARY_FILE
    if not vocabulary_path.is_file():
        raise FileNotFoundError(
            f"{path} has no vocab.txt; fetch that file of the model from the Hugging Face hub into "
            "the folder"
        )
    return _checked(
        str(path),
        options,
        load_vocabulary(vocabulary_path),
        bool(tokenizer.get("do_lower_case", True)),
        text_folders.arrays_from(path / text_folders.WEIGHTS_FILE, options),
    )


def _checked(origin, options, vocabulary, lowercase, arrays) -> PretrainedText:
    rows = len(arrays["token_embedding/embeddings"])
    if len(vocabulary) != rows:
        raise ValueError(
            f"{origin}: the vocabulary has {len(vocabulary)} tokens and the token table {rows} "
            "rows; take both from the same model"
        )
    return PretrainedText(origin, options, tuple(vocabulary), lowercase, arrays)


def _read_preset(name: str, class_name: str | None = None) -> PretrainedText:
    """Read a keras_hub preset by its name, or the folder `name` that holds a `class_name`."""
    models = keras_hub.models
    classes = {
        "BertBackbone": (models.BertBackbone, models.BertTokenizer),
        "DistilBertBackbone": (models.DistilBertBackbone, models.DistilBertTokenizer),
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
    except Exception as error:  # whatever the download or the reading raises
        if name not in presets:
            raise ValueError(
                f"{name} could not be read as a preset: {first_line(error)}"
            ) from error
        handle = backbone_class.presets[name]["kaggle_handle"].removeprefix("kaggle://")
        owner, model, _, variation, version = handle.split("/")
        page = f"https://www.kaggle.com/models/{owner}/{model}/keras/{variation}"
        raise FileNotFoundError(
            f"--text-weights {name} is not here and could not be fetched ({first_line(error)}). "
            f"Fetch {page} (version {version}: config.json, tokenizer.json, model.weights.h5, "
            "assets/) where there is a network, unpack it into a folder, and give the folder"
        ) from error
    config = backbone.get_config()
    sizes = {*text_folders.BERT_SIZES} & {*config}
    options = {key: config[key] for key in sizes}
    if class_name == "BertBackbone":
        options["activation"] = "gelu_tanh"
    else:
        options |= {"activation": "gelu", "num_segments": 0, "pooler": False}
    arrays = {
        variable.path.removeprefix(_BOTH_TABLES): keras.ops.convert_to_numpy(variable.value)
        for variable in backbone.weights
    }
    return _checked(name, options, tokenizer.get_vocabulary(), bool(tokenizer.lowercase), arrays)


def _fetch(handle: str) -> Path:
    """The local copy of the `hf://OWNER/NAME` folder; fetched when it is not there."""
    import huggingface_hub  # comes with keras_hub's tokenizers; nothing else here needs it

    repository = handle.removeprefix("hf://")
    files = [
        text_folders.CONFIG_FILE,
        text_folders.WEIGHTS_FILE,
        text_folders.VOCABULARY_FILE,
        text_folders.TOKENIZER_FILE,
    ]
    try:
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=files))
    except Exception as error:  # no network, no such repository, no space
        raise FileNotFoundError(
            f"--text-weights {handle} is not here and could not be fetched ({first_line(error)}). "
            f"Fetch {', '.join(files)} from https://huggingface.co/{repository}/tree/main where "
            "there is a network, into one folder, and give the folder"
        ) from error


def _vocabulary_beside(path: Path) -> tuple[str, ...] | None:
    beside = path.with_name(text_folders.VOCABULARY_FILE)
    return tuple(load_vocabulary(beside)) if beside.is_file() else None


def _load_h5(tower: keras.Model, path: Path) -> None:
    """Load `tower.save_weights(path)`'s file, or leave the tower as it was and raise."""
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
            f"--text-weights {path} is not of this tower: {first_line(error)}"
        ) from error
