"""Pretrained weights for text towers: from the libraries' hubs and from local folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import keras_hub

from tfclip.models import registry
from tfclip.models.pretrained import NONE, first_line, looks_like_path


@dataclass(frozen=True)
class PretrainedText:
    """A text encoder read from a preset or folder: its sizes, its vocabulary, its weights."""

    options: dict
    vocabulary: tuple[str, ...]
    lowercase: bool
    backbone: keras_hub.models.Backbone

    def copy_into(self, tower: keras.Model) -> None:
        """Put the weights into a BERT text tower that was built with `options`."""
        tower.get_layer("bert_backbone").set_weights(self.backbone.get_weights())


def load_text_weights(tower_name: str, weights: str) -> PretrainedText | None:
    """Read a pretrained BERT encoder.

    Args:
        tower_name: "bert" (any size) or a fixed size such as "bert-small".
        weights: "none", a keras_hub preset name such as "bert_small_en_uncased", or a local folder:
            a Keras preset or a Hugging Face one (config.json, model.safetensors, vocab.txt).

    Returns:
        None for "none".

    Raises:
        ValueError: when the tower is no BERT, or the sizes are not those of the tower's name.
        FileNotFoundError: when the preset or folder cannot be read.
    """
    if weights == NONE:
        return None
    fixed = registry.text_tower(tower_name)
    if not fixed.builder.endswith(":bert"):
        known = [n for n in registry.TEXT_TOWERS if n.startswith("bert")]
        raise ValueError(
            f"--text-weights are read for {', '.join(known)}. Received tower: {tower_name}."
        )
    if looks_like_path(weights) and not Path(weights).is_dir():
        raise FileNotFoundError(f"--text-weights {weights}: no such folder.")
    try:
        backbone = keras_hub.models.BertBackbone.from_preset(weights)
        tokenizer = keras_hub.models.BertTokenizer.from_preset(weights)
    except Exception as error:
        raise FileNotFoundError(
            f"--text-weights {weights} could not be read as a BERT preset ({first_line(error)}). "
            "Allowed: none, a keras_hub preset name (needs its download), or a folder with "
            "config.json, model.safetensors and vocab.txt."
        ) from error
    config = backbone.get_config()
    sizes = ("num_layers", "hidden_dim", "num_heads", "intermediate_dim")
    sizes += ("max_sequence_length", "num_segments")
    options = {key: config[key] for key in sizes}
    for key, value in fixed.options.items():
        if options.get(key, value) != value:
            raise ValueError(
                f"{tower_name} has {key} {value}, but {weights} holds {options[key]}. Use "
                "--text-tower bert, which takes its sizes from the weights."
            )
    return PretrainedText(
        options=options,
        vocabulary=tuple(tokenizer.get_vocabulary()),
        lowercase=bool(tokenizer.lowercase),
        backbone=backbone,
    )
