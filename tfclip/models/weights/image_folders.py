"""Loads the image encoder of a folder or preset into an image tower."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from tfclip.console import say
from tfclip.failures import first_line
from tfclip.models.layers import pixel_normalization
from tfclip.models.weights import convert_keras_hub_images
from tfclip.models.weights.convert_efficientnets import packaged_efficientnet_lite
from tfclip.models.weights.convert_torch_images import LayerWeights
from tfclip.models.weights.image_checkpoints import layout_for
from tfclip.models.weights.names import random_head
from tfclip.models.weights.safetensors_files import open_weights

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Tensors that are not part of the encoder, or follow from its sizes: classifiers, poolers, the text
# tower of a CLIP, counters. Every other tensor of a folder must belong to the tower.
_BEYOND = re.compile(
    r"(head(_dist|_drop|\.fc|\.l)?|fc|classifier(\.\d+)?|cls_classifier|distillation_classifier|"
    r"pre_logits\.\w+|pooler\.dense)\.(weight|bias)|embeddings\.mask_token|"
    r"(visual|text)_projection\.weight|text_model\..*|logit_(scale|bias)|"
    r"(.*\.)?(position_ids|num_batches_tracked|relative_position_index)"
)
_BEYOND_PACKAGED = re.compile(r"_fc\.(weight|bias)|.*\.num_batches_tracked")
# Between 1e-12 and 1e-6, or 1e-6 and 1e-5, features differ by less than 1e-5; 1e-3 is too much.
LARGEST_EPSILON_GAP = 1e-5
# Arguments of timm that no tower supports, with the values that change nothing. Arguments that add
# tensors (init_values, qk_norm) are also detected by their tensors.
_TIMM_NEUTRAL = {
    "act_layer": "gelu",
    "norm_layer": None,
    "output_stride": 32,
    "init_values": None,
    "qk_norm": False,
    "class_token": True,
    "no_embed_class": False,
    "pre_norm": False,
    "aa_layer": None,
    "attn_layer": None,
}
# First convolutions without padding, which can be adapted exactly to another normalisation.
UNPADDED = ("patches", "convnext_tiny_stem")
Normalization = tuple[tuple[float, ...], tuple[float, ...]]


def load_folder(tower: keras.Model, name: str, folder: Path) -> None:
    """Load the encoder of a timm, Hugging Face or keras_hub folder into an image tower.

    Args:
        tower, name: the tower and its registered name.
        folder: holds config.json, and model.safetensors or a keras_hub preset's weights.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files are damaged or of another architecture; the tower is unchanged.
    """
    config = _config(folder)
    if "architecture" in config:
        origin, kind = "timm", config["architecture"]
    elif "model_type" in config:
        origin, kind = "hugging_face", config["model_type"]
    elif "class_name" in config:
        origin, kind = "keras_hub", config["class_name"]
    else:
        raise ValueError(
            f"{folder / 'config.json'} names no architecture (timm), model_type (Hugging Face) or "
            "class_name (keras_hub preset)."
        )
    layout = layout_for(name, origin, kind, str(folder))
    try:
        if origin == "keras_hub":
            weights = layout.read(convert_keras_hub_images.backbone(str(folder)), tower)
            if kind == "CLIPBackbone":
                say(f"note: {random_head(folder, 'image')}")
        else:
            check_heads(tower, config)
            state = _state(folder, str(kind))
            weights = layout.read(state, tower)
            state.check_all_used(str(folder), name)
    except KeyError as error:
        raise ValueError(f"{folder} does not fit {name}: it has no weights {error}.") from error
    except (IndexError, TypeError) as error:
        raise ValueError(f"{folder} does not fit {name}: {first_line(error)}.") from error
    put(tower, name, weights, _normalization(folder, config), str(folder))


def read_packaged(
    tower: keras.Model, name: str, tensors: Mapping[str, np.ndarray], source: str
) -> None:
    """Load an EfficientNet-Lite from the tensors of its PyTorch package.

    Raises:
        ValueError: they are of another architecture; the tower is unchanged.
    """
    state = _State(tensors, beyond=_BEYOND_PACKAGED)
    try:
        weights = packaged_efficientnet_lite(state, tower)
    except KeyError as error:
        raise ValueError(f"{source} does not fit {name}: it has no weights {error}.") from error
    state.check_all_used(source, name)
    put(tower, name, weights, None, source)


def put(
    tower: keras.Model,
    name: str,
    weights: LayerWeights,
    normalization: Normalization | None,
    source: str,
) -> None:
    """Set the weights of all layers, after checking that they fit.

    Args:
        tower, name: the tower and its registered name.
        weights: the arrays of every layer that has weights, by the layer's name.
        normalization: mean and deviation of the weights' training, in units of 0..255; None for
            those of the tower.
        source: the origin of the weights, for messages.

    Raises:
        ValueError: a layer is missing or of another shape; the tower is unchanged.
    """
    layers = {
        layer.name: layer
        for layer in tower.layers
        if layer.weights and not isinstance(layer, keras.layers.Normalization)
    }
    if different := sorted(set(layers) ^ set(weights)):
        raise ValueError(
            f"{source} does not fit {name}: one of them has no layer {different[0]} "
            f"({len(weights)} layers, the tower has {len(layers)})."
        )
    for layer in layers.values():
        wanted = [tuple(variable.shape) for variable in layer.weights]
        received = [np.shape(array) for array in weights[layer.name]]
        if wanted != received:
            raise ValueError(
                f"{source} does not fit {name}: layer {layer.name} needs {wanted}, received "
                f"{received}. Learnt positions and mixed tokens fit one --image-size."
            )
    own = tower_normalization(tower)
    if normalization and not np.allclose(normalization, own, rtol=1e-3):
        first = next((layer for layer in UNPADDED if layer in weights), None)
        if first is None or len(weights[first]) < 2:
            raise ValueError(
                f"{source} was trained with the mean and deviation {normalization} of pixels, "
                f"{name} normalises with {own}, and its first convolution cannot be adapted."
            )
        kernel, bias = weights[first][:2]
        weights[first][:2] = pixel_normalization.refit_first_convolution(
            kernel, bias, trained=normalization, tower=own
        )
    for layer in layers.values():
        layer.set_weights([np.asarray(array, "float32") for array in weights[layer.name]])


def tower_normalization(tower: keras.Model) -> Normalization:
    """Return the mean and deviation of a tower's pixel normalisation, in units of 0..255."""
    for layer in tower.layers:
        if isinstance(layer, pixel_normalization.PixelNormalization):
            return layer.mean, layer.deviation
    return pixel_normalization.IMAGENET


def check_heads(tower: keras.Model, config: Mapping) -> None:
    """Check options that no shape reveals: the number of attention heads, the activation, epsilon.

    Raises:
        ValueError: names the option with both values.
    """
    inner = config.get("vision_config", config)
    inner = {**inner, **config.get("model_args", {})}
    arguments = {
        **config.get("model_args", {}),
        **config.get("pretrained_cfg", {}).get("model_args", {}),
    }
    for key, value in arguments.items():
        if key in _TIMM_NEUTRAL and value not in (None, _TIMM_NEUTRAL[key]):
            raise ValueError(
                f"The folder's network was made with {key} = {value!r}, which changes what it "
                "computes; no tower of tfclip supports that."
            )
    block = next((layer for layer in tower.layers if hasattr(layer, "heads")), None)
    if block is None:
        return
    epsilon = inner.get("layer_norm_eps", block.epsilon)
    if abs(epsilon - block.epsilon) > LARGEST_EPSILON_GAP:
        raise ValueError(
            f"The folder's norms have layer_norm_eps {epsilon}; the tower's have {block.epsilon}."
        )
    heads = inner.get("num_attention_heads", inner.get("num_heads", block.heads))
    hidden = inner.get("hidden_act", block.hidden_activation)
    if (heads, hidden) != (block.heads, block.hidden_activation):
        raise ValueError(
            f"The folder's blocks have {heads} heads and {hidden}; the tower's have {block.heads} "
            f"and {block.hidden_activation}."
        )


def _config(folder: Path) -> dict:
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "open_clip_config.json").is_file():
            raise FileNotFoundError(
                f"--image-weights {folder} is a folder of open_clip. Convert its whole model to a "
                f"run with: python -m tfclip.convert {folder} --run RUN"
            )
        raise FileNotFoundError(
            f"--image-weights {folder} has no config.json. A folder must be a timm, Hugging Face "
            "or keras_hub one, with config.json and its weights."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {first_line(error)}.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it holds no object.")
    return config


class _State(Mapping[str, np.ndarray]):
    """The tensors of a folder; records which of them are read."""

    def __init__(self, tensors: Mapping[str, np.ndarray], beyond: re.Pattern = _BEYOND):
        self.tensors = tensors
        self.beyond = beyond
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> np.ndarray:
        value = self.tensors[name]
        self.used.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def check_all_used(self, source: str, tower: str) -> None:
        """Refuse a larger network, a part of which would be lost silently."""
        unused = [name for name in self.tensors if name not in self.used]
        left = sorted(name for name in unused if not self.beyond.fullmatch(name))
        if left:
            raise ValueError(
                f"{source} holds another network than {tower}: {len(left)} of its tensors are not "
                f"part of that tower ({', '.join(left[:3])})."
            )
        if "visual_projection.weight" in unused:
            say(f"note: {random_head(source, 'image')}")


def _state(folder: Path, model_type: str) -> _State:
    """Return the tensors of a folder, without the name prefix of models with a classifier."""
    tensors = open_weights(folder, WEIGHTS)
    return _State({key.removeprefix(f"{model_type}."): tensors[key] for key in tensors})


def _normalization(folder: Path, config: Mapping) -> Normalization | None:
    """Mean and deviation in units of 0..255 where the folder states them."""

    def scaled(values: Sequence[float], unit: float) -> tuple[float, ...]:
        return tuple(unit * value for value in values)

    timm = config.get("pretrained_cfg", config)
    if "mean" in timm and "std" in timm:
        return scaled(timm["mean"], 255), scaled(timm["std"], 255)
    converter = folder / "image_converter.json"
    if converter.is_file():
        settings = json.loads(converter.read_text(encoding="utf-8"))["config"]
        return convert_keras_hub_images.normalization(settings)
    # What transformers 4 and 5 write.
    for file in ("preprocessor_config.json", "processor_config.json"):
        if not (folder / file).is_file():
            continue
        settings = json.loads((folder / file).read_text(encoding="utf-8"))
        settings = settings.get("image_processor", settings)
        unit = 1 / settings.get("rescale_factor", 1 / 255)
        if not settings.get("do_normalize", True):
            return (0.0,) * 3, (unit,) * 3
        if "image_mean" in settings and "image_std" in settings:
            return scaled(settings["image_mean"], unit), scaled(settings["image_std"], unit)
    return None
