"""timm and Hugging Face folders, written by those libraries, against their outputs in PyTorch."""

import json

import numpy as np
import pytest

from tfclip.models import registry
from tfclip.models.weights.image_weights import load_image_weights

torch = pytest.importorskip("torch")

# A block or stage of each kind is enough; widths stay, as ConvNeXt's and ResNet's are fixed.
TIMM = [
    ("resnet-18", "resnet18", {}, {}),
    ("vit-b32", "vit_base_patch32_224", {"depth": 2}, {"blocks": 2}),
    ("mixer-s32", "mixer_s32_224", {}, {}),
    pytest.param("resnet-50-v1.5", "resnet50", {}, {}, marks=pytest.mark.slow),
    pytest.param("convnext-tiny", "convnext_tiny", {}, {}, marks=pytest.mark.slow),
    pytest.param("efficientnet-b0", "tf_efficientnet_b0", {}, {}, marks=pytest.mark.slow),
    pytest.param("efficientnet-b1", "tf_efficientnet_b1", {}, {}, marks=pytest.mark.slow),
]


def shake(model):
    """Random weights and moving statistics that leave nothing at its default."""
    generator = torch.Generator().manual_seed(0)

    def random(shape, low, high):
        return low + (high - low) * torch.rand(shape, generator=generator)

    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.ndim > 1:
                value += random(value.shape, -0.01, 0.01)
            elif name.endswith("running_var"):
                value.copy_(random(value.shape, 0.5, 2.0))
            elif value.is_floating_point():
                value += random(value.shape, -0.2, 0.2)
    return model.eval()


def normalised(pictures, mean, deviation):
    return torch.tensor(((pictures / 255 - mean) / deviation).transpose(0, 3, 1, 2)).float()


def close(found, expected):
    expected = expected.detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def timm_folder(directory, architecture, arguments, size=64):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    from timm.models._hub import save_for_hf

    sized = architecture.startswith(("vit", "mixer"))
    arguments = {**arguments, **({"img_size": size} if sized else {})}
    model = shake(timm.create_model(architecture, **arguments))
    save_for_hf(model, directory, safe_serialization=True)
    return model


@pytest.mark.parametrize(("name", "architecture", "arguments", "options"), TIMM)
def test_timm_folders(name, architecture, arguments, options, pictures, tmp_path):
    model = timm_folder(tmp_path, architecture, arguments)
    tower = registry.image_tower(name).build(image_size=64, **options)
    load_image_weights(tower, name, str(tmp_path))
    config = model.pretrained_cfg
    features = model.forward_features(normalised(pictures, config["mean"], config["std"]))
    close(tower(pictures), model.forward_head(features, pre_logits=True))


def test_a_timm_folder_with_pixels_of_its_own(pictures, tmp_path):
    # As DINO's: ImageNet's mean and deviation before an architecture that has 0.5 by default.
    model = timm_folder(tmp_path, "vit_base_patch32_224", {"depth": 1})
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"].update(mean=mean, std=deviation)
    (tmp_path / "config.json").write_text(json.dumps(config))
    tower = registry.image_tower("vit-b32").build(image_size=64, blocks=1)
    load_image_weights(tower, "vit-b32", str(tmp_path))
    features = model.forward_features(normalised(pictures, mean, deviation))
    close(tower(pictures), features[:, 0])


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2} | {
    "intermediate_size": 128,
    "image_size": 64,
    "patch_size": 32,
}


@pytest.mark.parametrize("kind", ["ViTModel", "ViTForImageClassification"])
def test_hugging_face_vit_folders(kind, pictures, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = shake(getattr(transformers, kind)(transformers.ViTConfig(**SIZES)))
    model.save_pretrained(tmp_path)
    settings = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    tower = registry.image_tower("vit-b32").build(image_size=64, blocks=2, width=32, heads=2)
    load_image_weights(tower, "vit-b32", str(tmp_path))
    encoder = model if kind == "ViTModel" else model.vit
    outputs = encoder(normalised(pictures, *settings.values()))
    close(tower(pictures), outputs.last_hidden_state[:, 0])


def test_a_hugging_face_clip_folder(pictures, tmp_path):
    transformers = pytest.importorskip("transformers")
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    config = transformers.CLIPConfig(vision_config=SIZES, text_config=text)
    model = shake(transformers.CLIPModel(config))
    model.save_pretrained(tmp_path)
    tower = registry.image_tower("clip-vit-b32").build(image_size=64, blocks=2, width=32, heads=2)
    load_image_weights(tower, "clip-vit-b32", str(tmp_path))
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    outputs = model.vision_model(normalised(pictures, mean, deviation))
    close(tower(pictures), outputs.pooler_output)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="2 heads and gelu; the tower's have 2 and quick_gelu"):
        load_image_weights(tower, "clip-vit-b32", str(tmp_path))


IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize(
    ("kind", "name"), [("basic", "resnet-18"), ("bottleneck", "resnet-50-v1.5")]
)
def test_hugging_face_resnet_folders(kind, name, pictures, tmp_path):
    transformers = pytest.importorskip("transformers")
    widths = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
    config = transformers.ResNetConfig(
        depths=[1, 1, 1, 1], hidden_sizes=widths, layer_type=kind, embedding_size=64
    )
    model = shake(transformers.ResNetModel(config))
    model.save_pretrained(tmp_path)
    tower = registry.image_tower(name).build(image_size=64, blocks=(1, 1, 1, 1))
    load_image_weights(tower, name, str(tmp_path))
    close(tower(pictures), model(normalised(pictures, *IMAGENET)).pooler_output[..., 0, 0])


@pytest.mark.slow
def test_a_hugging_face_convnext_folder(pictures, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = shake(transformers.ConvNextForImageClassification(transformers.ConvNextConfig()))
    model.save_pretrained(tmp_path)
    tower = registry.image_tower("convnext-tiny").build(image_size=64)
    load_image_weights(tower, "convnext-tiny", str(tmp_path))
    close(tower(pictures), model.convnext(normalised(pictures, *IMAGENET)).pooler_output)


def test_files_without_a_tensor_or_with_another_shape_are_refused(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", **SIZES}))
    safetensors.save_file(
        {"vit.layernorm.weight": np.ones(32, "float32")}, tmp_path / "model.safetensors"
    )
    tower = registry.image_tower("vit-b32").build(image_size=64, blocks=2, width=32, heads=2)
    with pytest.raises(ValueError, match="does not fit vit-b32: it has no weights 'embeddings"):
        load_image_weights(tower, "vit-b32", str(tmp_path))
