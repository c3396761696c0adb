"""Opens a keras_hub preset folder of CLIP or SigLIP under the names of transformers' tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tfclip.models.weights import preprocessing
from tfclip.models.weights.clip.open_clip_names import Renamed
from tfclip.models.weights.clip.settings import Sizes, TowerSizes
from tfclip.models.weights.preprocessing import Preprocessing
from tfclip.models.weights.texts.json_files import read_json

CLASSES = ("CLIPBackbone", "SigLIPBackbone")
WEIGHTS_FILE = "model.weights.h5"
ASSETS = Path("assets", "tokenizer")
_ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_approximate": "gelu_tanh",
}
_CLIP_EPSILON = 1e-5


def open_preset(path: Path) -> tuple[Mapping[str, np.ndarray], Sizes]:
    """Read a preset folder with keras_hub.

    Returns:
        The tensors by the names of transformers, and the sizes.

    Raises:
        ValueError: the folder cannot be read, or has an option that is not supported.
    """
    if (path / "preprocessor.json").is_file():
        settings = read_json(path / "preprocessor.json").get("config", {})
        if not settings.get("canonicalize_text", True):
            raise ValueError(
                f"{path}: canonicalize_text false (SigLIP 2) is not supported; allowed: true"
            )
    # Imported late: keras_hub takes seconds and memory, which other sources do not need.
    from tfclip.models.weights.convert_keras_hub_images import backbone as read_backbone

    backbone = read_backbone(str(path))
    image, text = backbone.vision_encoder, backbone.text_encoder
    is_siglip = type(backbone).__name__ == "SigLIPBackbone"
    if is_siglip and text.projection_dim != image.hidden_dim:
        raise ValueError(f"{path}: the text tower ends in {text.projection_dim} numbers.")
    sizes = Sizes(
        image=_sizes(image, path),
        text=_sizes(text, path),
        image_size=image.image_shape[0],
        patch_size=image.patch_size,
        embed_dim=image.hidden_dim if is_siglip else backbone.projection_dim,
        context_length=text.max_sequence_length,
        vocabulary_size=text.vocabulary_size,
        is_siglip=is_siglip,
    )
    tensors = _Tensors()
    if is_siglip:
        _add_siglip(tensors, backbone)
    else:
        _add_clip(tensors, backbone)
    return tensors, sizes


def preset_preprocessing(path: Path, usual: Preprocessing) -> tuple[Preprocessing, tuple[str, ...]]:
    """Read the `image_converter.json` of a preset; return also notes for the user.

    Raises:
        ValueError: for a step that tfclip does not support; names it.
    """
    from tfclip.models.weights.convert_keras_hub_images import normalization

    file = path / "image_converter.json"
    if not file.is_file():
        return usual, (
            f"{path} does not state its preprocessing: {usual.resize}, {usual.interpolation} and "
            "the usual mean and deviation are assumed",
        )
    settings = read_json(file).get("config", {})
    interpolation = settings.get("interpolation", "bilinear")
    if interpolation not in preprocessing.FILTERS.values() or settings.get("pad_to_aspect_ratio"):
        raise ValueError(
            f"{file}: interpolation {interpolation}, pad_to_aspect_ratio "
            f"{settings.get('pad_to_aspect_ratio', False)} are not supported; allowed: "
            f"{', '.join(preprocessing.FILTERS.values())}, false"
        )
    mean, deviation = normalization(settings)
    resize = "crop" if settings.get("crop_to_aspect_ratio", True) else "squash"
    notes: tuple[str, ...] = ()
    if not settings.get("antialias", False):
        notes = (
            f"{file.name} resizes without antialiasing; tfclip resizes with it, as the original "
            "CLIP and SigLIP do",
        )
    return Preprocessing(resize, interpolation, mean, deviation), notes


def _sizes(encoder, path: Path) -> TowerSizes:
    named = encoder.intermediate_activation
    if named not in _ACTIVATIONS:
        raise ValueError(
            f"{path}: the activation {named!r} is not supported; allowed: {', '.join(_ACTIVATIONS)}"
        )
    return TowerSizes(
        encoder.num_layers,
        encoder.hidden_dim,
        encoder.num_heads,
        encoder.intermediate_dim,
        _ACTIVATIONS[named],
        getattr(encoder, "layer_norm_epsilon", _CLIP_EPSILON),
    )


class _Tensors(Renamed):
    """Keras variables by the names and in the layouts of PyTorch, converted when accessed."""

    def __init__(self) -> None:
        self._table: dict[str, Callable[[], np.ndarray]] = {}
        super().__init__(self._table)

    def add(self, name: str, variable, change: Callable | None = None) -> None:
        """Add a variable, changed by `change`."""

        def take() -> np.ndarray:
            array = np.asarray(variable)
            return array if change is None else change(array)

        self._table[name] = take

    def add_norm(self, name: str, layer) -> None:
        """Add a layer norm."""
        self.add(f"{name}.weight", layer.gamma)
        self.add(f"{name}.bias", layer.beta)

    def add_dense(self, name: str, layer) -> None:
        """Add a dense layer."""
        self.add(f"{name}.weight", layer.kernel, np.transpose)
        if layer.bias is not None:
            self.add(f"{name}.bias", layer.bias)

    def add_attention(self, name: str, layer) -> None:
        """Add an attention with one matrix each for query, key and value."""
        for part in ("query", "key", "value"):
            dense, theirs = getattr(layer, f"{part}_dense"), f"{name}.{part[0]}_proj"
            self.add(f"{theirs}.weight", dense.kernel, lambda k: k.reshape(len(k), -1).T)
            self.add(f"{theirs}.bias", dense.bias, np.ravel)
        self.add_output(name, layer)

    def add_output(self, name: str, layer) -> None:
        """Add the output of an attention."""
        kernel = layer.output_dense.kernel
        self.add(f"{name}.out_proj.weight", kernel, lambda k: k.reshape(-1, k.shape[-1]).T)
        self.add(f"{name}.out_proj.bias", layer.output_dense.bias)


def _add_clip(tensors: _Tensors, backbone) -> None:
    image, text = backbone.vision_encoder, backbone.text_encoder
    name = "vision_model.embeddings"
    tensors.add(f"{name}.class_embedding", image.embedding.class_embedding)
    _add_image_embedding(tensors, name, image.embedding)
    tensors.add_norm("vision_model.pre_layrnorm", image.pre_layer_norm)
    tensors.add_norm("vision_model.post_layernorm", image.layer_norm)
    _add_text_embedding(tensors, text.embedding)
    tensors.add_norm("text_model.final_layer_norm", text.layer_norm)
    for encoder, stem in ((image, "vision_model"), (text, "text_model")):
        for index, layer in enumerate(encoder.encoder_layers):
            place = f"{stem}.encoder.layers.{index}"
            tensors.add_norm(f"{place}.layer_norm1", layer.layer_norm_1)
            tensors.add_attention(f"{place}.self_attn", layer.attention)
            tensors.add_norm(f"{place}.layer_norm2", layer.layer_norm_2)
            tensors.add_dense(f"{place}.mlp.fc1", layer.dense_1)
            tensors.add_dense(f"{place}.mlp.fc2", layer.dense_2)
    tensors.add_dense("visual_projection", backbone.vision_projection)
    tensors.add_dense("text_projection", backbone.text_projection)
    tensors.add("logit_scale", backbone.clip_head.logit_scale)


def _add_siglip(tensors: _Tensors, backbone) -> None:
    image, text = backbone.vision_encoder, backbone.text_encoder
    name = "vision_model.embeddings"
    _add_image_embedding(tensors, name, image.embedding)
    tensors.add(f"{name}.patch_embedding.bias", image.embedding.patch_embedding.bias)
    tensors.add_norm("vision_model.post_layernorm", image.post_layer_norm)
    _add_text_embedding(tensors, text.embedding)
    tensors.add_norm("text_model.final_layer_norm", text.post_layer_norm)
    for encoder, stem in ((image, "vision_model"), (text, "text_model")):
        for index, layer in enumerate(encoder.encoder_layers):
            place = f"{stem}.encoder.layers.{index}"
            tensors.add_norm(f"{place}.layer_norm1", layer.layer_norm1)
            tensors.add_attention(f"{place}.self_attn", layer.self_attn)
            tensors.add_norm(f"{place}.layer_norm2", layer.layer_norm2)
            _add_perceptron(tensors, place, layer.mlp)
    tensors.add_dense("text_model.head", text.head)
    _add_pool(tensors, image.head)
    tensors.add("logit_scale", backbone.siglip_head.logit_scale)
    tensors.add("logit_bias", backbone.siglip_head.logit_bias)


def _add_image_embedding(tensors: _Tensors, name: str, layer) -> None:
    kernel = layer.patch_embedding.kernel
    tensors.add(f"{name}.patch_embedding.weight", kernel, lambda k: k.transpose(3, 2, 0, 1))
    tensors.add(f"{name}.position_embedding.weight", layer.position_embedding.embeddings)


def _add_text_embedding(tensors: _Tensors, layer) -> None:
    name = "text_model.embeddings"
    tensors.add(f"{name}.token_embedding.weight", layer.token_embedding.embeddings)
    positions = layer.position_embedding
    table = getattr(positions, "embeddings", None)
    tensors.add(
        f"{name}.position_embedding.weight",
        table if table is not None else positions.position_embeddings,
    )


def _add_perceptron(tensors: _Tensors, place: str, layer) -> None:
    tensors.add_dense(f"{place}.mlp.fc1", layer.fc1)
    tensors.add_dense(f"{place}.mlp.fc2", layer.fc2)


def _add_pool(tensors: _Tensors, layer) -> None:
    name = "vision_model.head"
    tensors.add(f"{name}.probe", layer.probe)
    tensors.add_norm(f"{name}.layernorm", layer.layer_norm)
    _add_perceptron(tensors, name, layer.mlp)
    attention = layer.attention
    parts = (attention.query_dense, attention.key_dense, attention.value_dense)

    def kernels(_) -> np.ndarray:
        arrays = (np.asarray(part.kernel) for part in parts)
        return np.concatenate([k.reshape(len(k), -1).T for k in arrays])

    def biases(_) -> np.ndarray:
        return np.concatenate([np.ravel(part.bias) for part in parts])

    tensors.add(f"{name}.attention.in_proj_weight", layer.probe, kernels)
    tensors.add(f"{name}.attention.in_proj_bias", layer.probe, biases)
    tensors.add_output(f"{name}.attention", attention)
