"""Reads the sizes and options of a pretrained CLIP; unsupported options are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HEAD_WIDTH = 64
ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


@dataclass(frozen=True)
class TowerSizes:
    """One tower: blocks, channels, heads, channels of its perceptrons, activation, epsilon."""

    blocks: int
    width: int
    heads: int
    mlp_width: int
    hidden_activation: str
    epsilon: float

    def __post_init__(self):
        """Check that the heads divide the width."""
        if min(self.blocks, self.width, self.heads, self.mlp_width) < 1 or self.width % self.heads:
            raise ValueError(
                f"{self.width} channels cannot be split into {self.heads} attention heads"
            )


@dataclass(frozen=True)
class Sizes:
    """The sizes of both towers, and those that they share."""

    image: TowerSizes
    text: TowerSizes
    image_size: int
    patch_size: int
    embed_dim: int
    context_length: int
    vocabulary_size: int
    end_id: int | None = None
    is_siglip: bool = False


# transformers omits options that have their default.
_COMMON = {"attention_dropout": 0.0, "dropout": 0.0}
_CLIP_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "num_channels": 3,
}
_CLIP_TEXT = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
_SIGLIP = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "intermediate_size": 3072}
_SIGLIP_VISION = {
    **_CLIP_VISION,
    **_SIGLIP,
    "patch_size": 16,
    "vision_use_head": True,
}
_SIGLIP_TEXT = {
    **_CLIP_TEXT,
    **_SIGLIP,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "vocab_size": 32000,
    "max_position_embeddings": 64,
}
ONE_TOWER = {
    "clip_vision_model": ("image", "--image-weights"),
    "clip_text_model": ("text", "--text-weights"),
    "siglip_vision_model": ("image", "--image-weights"),
    "siglip_text_model": ("text", "--text-weights"),
}


def from_hugging_face(config: Mapping, origin: str) -> Sizes:
    """Read a `config.json` of transformers.

    Raises:
        ValueError: for another model, or an option that is not supported.
    """
    kind = config.get("model_type")
    if kind in ONE_TOWER:
        tower, flag = ONE_TOWER[kind]
        raise ValueError(
            f"{origin} is of the {tower} tower alone ({kind}); a whole model has both: pass the "
            "folder of the image tower with its projection, and --text-source with that of the "
            f"text tower; or use {flag} of fit for one tower."
        )
    if kind not in ("clip", "siglip"):
        raise ValueError(
            f"{origin} is for model_type {kind!r}; convert takes clip and siglip, and open_clip's "
            "folders and files. For one tower use --image-weights or --text-weights of fit."
        )
    is_siglip = kind == "siglip"
    defaults = (_SIGLIP_VISION, _SIGLIP_TEXT) if is_siglip else (_CLIP_VISION, _CLIP_TEXT)
    vision = {**defaults[0], **(config.get("vision_config") or {})}
    text = {**defaults[1], **(config.get("text_config") or {})}
    if vision["num_channels"] != 3 or not vision.get("vision_use_head", True):
        raise ValueError(f"{origin}: pictures of {vision['num_channels']} channels or no head.")
    embed_dim = vision["hidden_size"] if is_siglip else config.get("projection_dim", 512)
    if is_siglip and text.get("projection_size", embed_dim) != embed_dim:
        raise ValueError(f"{origin}: the text tower ends in {text['projection_size']} numbers.")
    return Sizes(
        image=_tower(vision, origin),
        text=_tower(text, origin),
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        embed_dim=embed_dim,
        context_length=text["max_position_embeddings"],
        vocabulary_size=text["vocab_size"],
        end_id=None if is_siglip else text["eos_token_id"],
        is_siglip=is_siglip,
    )


def _tower(config: Mapping, origin: str) -> TowerSizes:
    named = config["hidden_act"]
    if named not in ACTIVATIONS:
        raise ValueError(
            f"{origin}: hidden_act {named!r} is not supported; allowed: {', '.join(ACTIVATIONS)}"
        )
    return TowerSizes(
        blocks=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        mlp_width=config["intermediate_size"],
        hidden_activation=ACTIVATIONS[named],
        epsilon=config["layer_norm_eps"],
    )


# Options of open_clip's configurations, with the values that change nothing.
_NEUTRAL: dict[str, object] = {
    "patch_dropout": None,
    "ls_init_value": None,
    "attentional_pool": False,
    "input_patchnorm": False,
    "global_average_pool": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "final_ln_after_pool": False,
    "pool_type": "tok",
    "output_tokens": False,
    "act_kwargs": {},
    "norm_kwargs": {},
    "embed_cls": False,
    "pad_id": 0,
    "no_causal_mask": False,
    "proj_type": "linear",
    "proj_bias": False,
    "hf_tokenizer_name": None,
    "tokenizer_kwargs": {},
    "correct_cls_mask": True,
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
    "use_cls_token": True,
    "init_logit_bias": None,
    "init_logit_scale": None,
    "custom_text": False,
    "nonscalar_logit_scale": False,
    "multimodal_cfg": None,
    "cast_dtype": None,
}
_ANYTHING = {"init_logit_bias", "init_logit_scale", "custom_text", "patch_dropout", "cast_dtype"}
_VISION = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}


def from_open_clip(config: Mapping, origin: str) -> Sizes:
    """Read the `model_cfg` of an `open_clip_config.json`.

    Raises:
        ValueError: for a tower of another kind, or an option that changes what is computed.
    """
    vision, text = config.get("vision_cfg"), config.get("text_cfg")
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise ValueError(f"{origin} has no vision_cfg and text_cfg.")
    for key, part in (("timm_model_name", vision), ("hf_model_name", text)):
        if part.get(key):
            raise ValueError(
                f"{origin}: its tower {part[key]} ({key}) is not supported; convert takes "
                "open_clip's own ViT and text transformer. SigLIP is read from its Hugging Face "
                "folder."
            )
    if isinstance(vision.get("layers", 12), (list, tuple)):
        raise ValueError(
            f"{origin}: a modified ResNet (layers {vision['layers']}) is not supported."
        )
    sizes = ("embed_dim", "quick_gelu", "vision_cfg", "text_cfg")
    for part, known in ((config, sizes), (vision, _VISION), (text, _TEXT)):
        for key, value in part.items():
            is_neutral = value is None or key in _NEUTRAL and value == _NEUTRAL[key]
            if key not in known and key not in _ANYTHING and not is_neutral:
                raise ValueError(
                    f"{origin}: the option {key} = {value!r} would change what the model computes "
                    "and is not supported."
                )
    activation = "quick_gelu" if config.get("quick_gelu", False) else "gelu"
    width, text_width = vision.get("width", 768), text.get("width", 512)
    return Sizes(
        image=TowerSizes(
            vision.get("layers", 12),
            width,
            width // vision.get("head_width", HEAD_WIDTH),
            int(width * vision.get("mlp_ratio", 4)),
            activation,
            1e-5,
        ),
        text=TowerSizes(
            text.get("layers", 12),
            text_width,
            text.get("heads", 8),
            int(text_width * text.get("mlp_ratio", 4)),
            activation,
            1e-5,
        ),
        image_size=_square_size(vision.get("image_size", 224), origin),
        patch_size=_square_size(vision.get("patch_size", 16), origin),
        embed_dim=config["embed_dim"],
        context_length=text.get("context_length", 77),
        vocabulary_size=text.get("vocab_size", 49408),
    )


def _square_size(value, origin: str) -> int:
    sides = set(value) if isinstance(value, (list, tuple)) else {value}
    if len(sides) != 1:
        raise ValueError(f"{origin}: pictures of {value} are not square.")
    return sides.pop()


def from_tensors(tensors: Mapping, activation: str) -> Sizes:
    """Derive the sizes of a bare file from the shapes of its tensors, named as in transformers.

    Raises:
        ValueError: a tensor is missing; names it.
    """
    try:
        patches = tensors["vision_model.embeddings.patch_embedding.weight"]
        places = tensors["vision_model.embeddings.position_embedding.weight"]
        tokens = tensors["text_model.embeddings.token_embedding.weight"]
        positions = tensors["text_model.embeddings.position_embedding.weight"]
        embed_dim = len(tensors["text_projection.weight"])
        image = _guess(tensors, "vision_model.encoder.layers.", activation)
        text = _guess(tensors, "text_model.encoder.layers.", activation)
    except KeyError as error:
        raise ValueError(f"the file lacks {error.args[0]}; it is not a CLIP with a ViT") from None
    side = round((len(places) - 1) ** 0.5)
    return Sizes(
        image=image,
        text=text,
        image_size=side * patches.shape[-1],
        patch_size=patches.shape[-1],
        embed_dim=embed_dim,
        context_length=len(positions),
        vocabulary_size=len(tokens),
    )


def _guess(tensors: Mapping, stem: str, activation: str) -> TowerSizes:
    numbers = {int(n.removeprefix(stem).split(".")[0]) for n in tensors if n.startswith(stem)}
    hidden, width = tensors[f"{stem}0.mlp.fc1.weight"].shape
    heads = max(1, width // HEAD_WIDTH)
    return TowerSizes(max(numbers) + 1, width, heads, hidden, activation, 1e-5)
