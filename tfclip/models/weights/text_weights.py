"""Loads pretrained weights for text towers: from hubs, local folders and files of tfclip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tfclip.inputs.tokenizers.vocabulary import load_vocabulary
from tfclip.models import registry
from tfclip.models.weights import convert_texts, text_folders
from tfclip.models.weights.fetch import HUB, local_source
from tfclip.models.weights.names import NONE, looks_like_path, random_head
from tfclip.models.weights.pretrained.cache import kept_weights, not_kept
from tfclip.models.weights.pretrained.catalogue import pretrained
from tfclip.models.weights.safetensors_files import open_weights
from tfclip.models.weights.texts.json_files import read_json
from tfclip.models.weights.texts.presets import read_preset
from tfclip.models.weights.texts.pretrained_text import PretrainedText
from tfclip.models.weights.texts.sentence_modules import read_modules
from tfclip.models.weights.texts.tokenizer_files import (
    VOCABULARY_FILE,
    TokenizerFiles,
    find_merges,
    read_tokenizer,
)

ALLOWED = (
    "none, a name that tfclip weights list prints, a keras_hub preset name, hf://OWNER/NAME, a "
    "Hugging Face or Keras preset folder, or a tower's own .weights.h5"
)
H5 = ".h5"


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
    tower, named = registry.text_tower(tower_name), weights
    weights = _kept(weights)
    path = Path(weights).expanduser()
    if weights.endswith(H5):
        if not path.is_file():
            raise FileNotFoundError(f"--text-weights {weights}: no such file; allowed: {ALLOWED}")
        return PretrainedText(str(path), None, {}, _tokens_beside(path), None)
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
        found = read_preset(weights)
    if found.builder != tower.builder:
        fitting = [n for n, t in registry.TEXT_TOWERS.items() if t.builder == found.builder]
        raise ValueError(
            f"{weights} holds another architecture than {tower_name}; it fits {', '.join(fitting)}"
        )
    entry = pretrained(named, "")
    if entry is not None and entry.tower != tower_name and "pooling" not in found.options:
        # Its files in the cache do not state the pooling; its own tower does.
        pooling = registry.text_tower(entry.tower).options["pooling"]
        options = {**found.options, "pooling": pooling, "pooler": False}
        found = replace(found, options=options)
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
    """Read a Hugging Face or sentence-transformers folder of BERT, DistilBERT, XLM-R or CLIP, or a
    Keras preset folder.

    Raises:
        FileNotFoundError, ValueError: as `load_text_weights`.
    """
    modules = read_modules(path)
    folder = modules.folder
    config_path = folder / text_folders.CONFIG_FILE
    if not config_path.is_file():
        raise FileNotFoundError(
            f"{folder} has no config.json, so it is not a folder of weights; put the model's "
            "config.json, model.safetensors and tokenizer.json there, as on the Hugging Face hub"
        )
    config = read_json(config_path)
    if "registered_name" in config or "class_name" in config:
        return read_preset(str(path), str(config.get("class_name")))
    layout = text_folders.layout_of(config, config_path)
    options = text_folders.sizes_from(config, layout, config_path)
    tensors = open_weights(folder, text_folders.WEIGHTS)
    arrays = text_folders.arrays_from(folder, tensors, layout, options, config)
    if layout.builder == convert_texts.CLIP:
        merges = find_merges(folder)
        tokens = TokenizerFiles("byte-pair", tuple(merges)) if merges is not None else None
    else:
        tokens = read_tokenizer(folder, modules.lowercase)
        arrays |= modules.arrays
        options |= modules.options
    notes = (*modules.notes, *(tokens.notes if tokens else ()))
    if "text_projection.weight" in tensors:
        notes += (random_head(path, "text"),)
    found = PretrainedText(
        str(path), layout.builder, options, tokens, arrays, modules.longest, notes
    )
    return found.checked(config.get("vocab_size"))


def _tokens_beside(path: Path) -> TokenizerFiles | None:
    beside = path.with_name(VOCABULARY_FILE)
    return TokenizerFiles("wordpiece", tuple(load_vocabulary(beside))) if beside.is_file() else None
