"""Write random image networks of timm and transformers with their features, for test_peers.py.

    PYTHON_WITH_TORCH tests/peers/image_towers.py FOLDER

FOLDER/NAME gets the network as its library saves it, expected.npz with pictures and features, and
tower.json with the tower of tfclip that must load it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import timm
import torch
import transformers
from timm.models._hub import save_for_hf

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
TIMM = {
    "timm_resnet18": ("resnet-18", "resnet18", {}, {}),
    "timm_resnet50": ("resnet-50-v1.5", "resnet50", {}, {}),
    "timm_vit": ("vit-b32", "vit_base_patch32_224", {"depth": 2, "img_size": 64}, {"blocks": 2}),
    "timm_mixer": ("mixer-s32", "mixer_s32_224", {"img_size": 64}, {}),
    "timm_convnext": ("convnext-tiny", "convnext_tiny", {}, {}),
    "timm_efficientnet": ("efficientnet-b0", "tf_efficientnet_b0", {}, {}),
    "timm_efficientnet_lite": ("efficientnet-lite0", "tf_efficientnet_lite0", {}, {}),
}
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT |= {"intermediate_size": 128, "image_size": 64, "patch_size": 32}
BLOCKS = {"blocks": 2, "width": 32, "heads": 2}
ONE = {"depths": [1, 1, 1, 1], "embedding_size": 64}
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def _shake(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights and moving statistics that leave nothing at its default."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.ndim > 1:
                value += torch.empty_like(value).uniform_(-0.01, 0.01)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
            elif value.is_floating_point():
                value += torch.empty_like(value).uniform_(-0.2, 0.2)
    return model.eval()


def _pixels(mean, deviation) -> torch.Tensor:
    normal = (PICTURES / 255 - np.array(mean)) / np.array(deviation)
    return torch.tensor(normal.transpose(0, 3, 1, 2)).float()


def _write(folder: Path, tower: str, options: dict, features: torch.Tensor) -> None:
    np.savez(folder / "expected.npz", pictures=PICTURES, features=features.numpy())
    (folder / "tower.json").write_text(json.dumps({"name": tower, "options": options}))


@torch.no_grad()
def _timm(folder: Path, tower: str, architecture: str, arguments: dict, options: dict) -> None:
    model = _shake(timm.create_model(architecture, **arguments))
    save_for_hf(model, folder, safe_serialization=True)
    config = model.pretrained_cfg
    features = model.forward_features(_pixels(config["mean"], config["std"]))
    _write(folder, tower, options, model.forward_head(features, pre_logits=True))


@torch.no_grad()
def _transformers(root: Path) -> None:
    def save(name: str, model, pixels=IMAGENET):
        _shake(model).save_pretrained(root / name)
        settings = dict(zip(("image_mean", "image_std"), pixels, strict=True))
        (root / name / "processor_config.json").write_text(
            json.dumps({"image_processor": settings})
        )
        return root / name

    vit = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT))
    folder = save("hf_vit", vit, CLIP)
    features = vit.vit(_pixels(*CLIP)).last_hidden_state[:, 0]
    _write(folder, "vit-b32", BLOCKS, features)
    clip = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VIT))
    folder = save("hf_clip_vision", clip, CLIP)
    features = clip.vision_model(_pixels(*CLIP)).pooler_output
    _write(folder, "clip-vit-b32", BLOCKS, features)
    for kind, tower, widths in (
        ("basic", "resnet-18", [64, 128, 256, 512]),
        ("bottleneck", "resnet-50-v1.5", [256, 512, 1024, 2048]),
    ):
        config = transformers.ResNetConfig(**ONE, hidden_sizes=widths, layer_type=kind)
        resnet = transformers.ResNetForImageClassification(config)
        folder = save(f"hf_resnet_{kind}", resnet)
        features = resnet.resnet(_pixels(*IMAGENET)).pooler_output[..., 0, 0]
        _write(folder, tower, {"blocks": [1, 1, 1, 1]}, features)
    convnext = transformers.ConvNextForImageClassification(transformers.ConvNextConfig())
    folder = save("hf_convnext", convnext)
    _write(folder, "convnext-tiny", {}, convnext.convnext(_pixels(*IMAGENET)).pooler_output)


def main(root: Path) -> None:
    """Write all of them."""
    for name, arguments in TIMM.items():
        (root / name).mkdir(parents=True)
        _timm(root / name, *arguments)
    _transformers(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
