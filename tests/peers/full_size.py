"""Write a full-size model of random weights with what transformers answers, for test_full_size.py.

    PYTHON_WITH_TORCH tests/peers/full_size.py NAME FOLDER

NAME is clip-vit-b32, clip-vit-l14 or siglip-base. FOLDER/source is the checkpoint as transformers
saves it, FOLDER/expected.npz: pictures, token ids, unit embeddings and logits.
full_size_kinds.py writes the other kinds of sources.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
END = 49_407


def _clip(width: int, layers: int, patch: int, text_width: int, projection: int):
    vision = {"hidden_size": width, "num_hidden_layers": layers, "patch_size": patch}
    vision |= {"intermediate_size": 4 * width, "num_attention_heads": width // 64}
    text = {"hidden_size": text_width, "intermediate_size": 4 * text_width}
    text |= {"num_attention_heads": text_width // 64, "num_hidden_layers": 12}
    text |= {"eos_token_id": END, "bos_token_id": END - 1, "pad_token_id": END}
    config = transformers.CLIPConfig(
        vision_config=vision, text_config=text, projection_dim=projection
    )
    return transformers.CLIPModel(config)


MODELS = {
    "clip-vit-b32": lambda: _clip(768, 12, 32, 512, 512),
    "clip-vit-l14": lambda: _clip(1024, 24, 14, 768, 768),
    "siglip-base": lambda: transformers.SiglipModel(
        transformers.SiglipConfig(
            text_config={"vocab_size": 32_000}, vision_config={"image_size": 224, "patch_size": 16}
        )
    ),
}


def randomise(model: torch.nn.Module) -> None:
    """Let norms and biases be far from 0 and 1, and kernels keep their input's size."""
    for name, value in model.named_parameters():
        if "logit" in name:
            continue
        if value.ndim == 1:
            value.data.normal_(1.0 if "weight" in name and "norm" in name else 0.0, 0.1)
        else:
            value.data.normal_(0.0, 1.0 / value[0].numel() ** 0.5)


def write_preprocessing(folder: Path, siglip: bool = False) -> None:
    """Write preprocessor_config.json with the usual settings."""
    mean, std = ((0.5,) * 3, (0.5,) * 3) if siglip else (CLIP_MEAN, CLIP_STD)
    settings = {"do_resize": True, "resample": 3, "image_mean": mean, "image_std": std}
    settings["size"] = {"height": 224, "width": 224} if siglip else {"shortest_edge": 224}
    if not siglip:
        settings |= {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def inputs(siglip: bool = False) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Return four pictures, the token ids of four texts, and the normalised pictures."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 224, 224, 3), np.uint8)
    length, highest = (64, 32_000) if siglip else (77, END - 1)
    ids = rng.integers(5, highest, (4, length))
    for row, end in enumerate((5, 20, 40, length - 1)):
        ids[row, end:] = 1 if siglip else END
        if not siglip:
            ids[row, 0] = END - 1
    mean, std = ((0.5,) * 3, (0.5,) * 3) if siglip else (CLIP_MEAN, CLIP_STD)
    normal = (torch.from_numpy(pictures).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    return pictures, ids, normal.permute(0, 3, 1, 2)


def write_expected(folder: Path, pictures, ids, image, text, logits) -> None:
    """Write what the peer answers, with embeddings of unit length."""
    np.savez(
        folder / "expected.npz",
        pictures=pictures,
        ids=ids,
        image=(image / image.norm(dim=-1, keepdim=True)).numpy(),
        text=(text / text.norm(dim=-1, keepdim=True)).numpy(),
        logits=logits.numpy(),
    )


@torch.no_grad()
def main(name: str, folder: Path) -> None:
    """Write the checkpoint and what the peer answers."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    randomise(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder / "source")
    siglip = name.startswith("siglip")
    write_preprocessing(folder / "source", siglip)
    pictures, ids, pixels = inputs(siglip)
    out = model(input_ids=torch.from_numpy(ids), pixel_values=pixels)
    write_expected(folder, pictures, ids, out.image_embeds, out.text_embeds, out.logits_per_image)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
