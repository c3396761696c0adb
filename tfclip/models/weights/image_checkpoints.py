"""The networks of timm, Hugging Face and keras_hub that each image tower can be loaded from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tfclip.models.weights import (
    convert_efficientnets,
    convert_keras_hub_images,
    convert_torch_images,
)
from tfclip.models.weights.convert_torch_images import LayerWeights


@dataclass(frozen=True)
class Layout:
    """A kind of network that a tower can be loaded from.

    `kind` matches an architecture of timm, a model type of Hugging Face, or a class of keras_hub;
    `read` converts its weights for the tower's layers.
    """

    kind: str
    read: Callable[..., LayerWeights]


@dataclass(frozen=True)
class Sources:
    """The networks that a tower can be loaded from, besides its own files."""

    timm: Layout | None = None
    hugging_face: Layout | None = None
    keras_hub: Layout | None = None
    imagenet_preset: str | None = None


def _plain_transformer(patch: int, preset: str) -> Sources:
    return Sources(
        Layout(rf"vit_base_patch{patch}_\d+", convert_torch_images.timm_vision_transformer),
        Layout("vit", convert_torch_images.hugging_face_vision_transformer),
        Layout("ViTBackbone", convert_keras_hub_images.vision_transformer),
        preset,
    )


def _resnet(depth: int) -> Sources:
    return Sources(
        Layout(rf"resnet{depth}", convert_torch_images.timm_resnet),
        Layout("resnet", convert_torch_images.hugging_face_resnet),
        Layout("ResNetBackbone", convert_keras_hub_images.resnet),
        f"resnet_{depth}_imagenet",
    )


_CLIP = Sources(
    hugging_face=Layout("clip|clip_vision_model", convert_torch_images.hugging_face_clip),
    keras_hub=Layout("CLIPBackbone|CLIPVisionEncoder", convert_keras_hub_images.clip),
)
SOURCES: Mapping[str, Sources] = {
    "resnet-18": _resnet(18),
    "resnet-50-v1.5": _resnet(50),
    "vit-b16": _plain_transformer(16, "vit_base_patch16_224_imagenet"),
    "vit-b32": _plain_transformer(32, "vit_base_patch32_224_imagenet21k"),
    "clip-vit-b16": _CLIP,
    "clip-vit-b32": _CLIP,
    "convnext-tiny": Sources(
        Layout("convnext_tiny", convert_torch_images.timm_convnext),
        Layout("convnext", convert_torch_images.hugging_face_convnext),
    ),
    **{
        f"efficientnet-b{n}": Sources(
            Layout(f"tf_efficientnet_b{n}", convert_efficientnets.timm_efficientnet)
        )
        for n in range(8)
    },
    **{
        f"efficientnet-lite{n}": Sources(
            Layout(f"tf_efficientnet_lite{n}", convert_efficientnets.timm_efficientnet)
        )
        for n in range(3)
    },
    **{
        f"mixer-{size}": Sources(Layout(rf"mixer_{size}_\d+", convert_torch_images.timm_mixer))
        for size in ("s32", "s16", "b32", "b16")
    },
}
# Networks that look like a tower but compute something else: what to use instead.
INSTEAD = {
    "resnet-50": "timm, Hugging Face and keras_hub have strides in the 3x3 convolutions: use "
    "--image-tower resnet-50-v1.5",
    **{
        f"efficientnet-b{n}": "this tower pads as TensorFlow does: of timm, tf_efficientnet_"
        f"b{n} fits, efficientnet_b{n} and keras_hub's do not"
        for n in range(8)
    },
}


def layout_for(name: str, origin: str, kind: str, source: str) -> Layout:
    """Return the layout of `kind` for the tower `name`.

    Raises:
        ValueError: there is none; names what the tower can be loaded from.
    """
    sources = SOURCES.get(name, Sources())
    layout = getattr(sources, origin)
    if layout and re.fullmatch(layout.kind, str(kind)):
        return layout
    known = [
        f"{label} {getattr(sources, field).kind}"
        for field, label in (
            ("timm", "timm"),
            ("hugging_face", "Hugging Face"),
            ("keras_hub", "keras_hub"),
        )
        if getattr(sources, field)
    ]
    reason = INSTEAD.get(name) or f"it takes {', '.join(known) or 'no folder, but .h5 files'}"
    raise ValueError(f"{source} holds {kind}, which {name} cannot take: {reason}.")
