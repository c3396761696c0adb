"""Reads text encoders of keras_hub: presets by name, and preset folders."""

from __future__ import annotations

import keras_hub

from tfclip.failures import first_line
from tfclip.models.weights import convert_texts
from tfclip.models.weights.names import random_head
from tfclip.models.weights.texts.pretrained_text import PretrainedText
from tfclip.models.weights.texts.tokenizer_files import TokenizerFiles
from tfclip.naming import unknown


def read_preset(name: str, class_name: str | None = None) -> PretrainedText:
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
        tokens = TokenizerFiles("byte-pair", merges)
        notes = (random_head(name, "text"),)
        return PretrainedText(name, builder, options, tokens, arrays, notes=notes).checked()
    sizes = convert_texts.LAYOUTS["bert"].sizes
    options = {key: config[key] for key in sizes if key in config}
    if class_name == "BertBackbone":
        options["activation"] = "gelu_tanh"
    else:
        options |= {"activation": "gelu", "num_segments": 0, "pooler": False}
    vocabulary, lowercase = tuple(tokenizer.get_vocabulary()), bool(tokenizer.lowercase)
    tokens = TokenizerFiles("wordpiece", vocabulary, lowercase=lowercase)
    return PretrainedText(name, builder, options, tokens, arrays).checked()
