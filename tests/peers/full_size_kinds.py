"""Write a ViT-B/32 of random weights as each kind of source, with what the kind's library answers.

    PYTHON_WITH_TORCH tests/peers/full_size_kinds.py KIND FOLDER

FOLDER/source is what tfclip converts (hf-projections: its text tower is FOLDER/text);
FOLDER/expected.npz has pictures, token ids, unit embeddings and logits, as in full_size.py.
"""

import json
import sys
from pathlib import Path

import open_clip
import torch
import transformers
from full_size import (
    CLIP_MEAN,
    CLIP_STD,
    MODELS,
    inputs,
    randomise,
    write_expected,
    write_preprocessing,
)
from safetensors.torch import save_file


def _hugging_face(folder: Path, model) -> None:
    pictures, ids, pixels = inputs()
    out = model(input_ids=torch.from_numpy(ids), pixel_values=pixels)
    image, text = out.image_embeds, out.text_embeds
    write_expected(folder, pictures, ids, image, text, out.logits_per_image)


def sharded(folder: Path, model) -> None:
    """A folder with model.safetensors.index.json and shards of 150 MB."""
    model.save_pretrained(folder / "source", max_shard_size="150MB")
    write_preprocessing(folder / "source")
    _hugging_face(folder, model)


def pytorch_bin(folder: Path, model) -> None:
    """A folder with pytorch_model.bin, as older versions of transformers wrote it."""
    (folder / "source").mkdir()
    model.config.save_pretrained(folder / "source")
    torch.save(model.state_dict(), folder / "source" / "pytorch_model.bin")
    write_preprocessing(folder / "source")
    _hugging_face(folder, model)


def projections(folder: Path, model) -> None:
    """Two folders, of CLIPVisionModelWithProjection and CLIPTextModelWithProjection."""
    state, config = model.state_dict(), model.config
    image = transformers.CLIPVisionModelWithProjection(config.vision_config).eval()
    text = transformers.CLIPTextModelWithProjection(config.text_config).eval()
    for part, place in ((image, "source"), (text, "text")):
        part.load_state_dict({name: state[name] for name in part.state_dict()})
        part.save_pretrained(folder / place)
    write_preprocessing(folder / "source")
    pictures, ids, pixels = inputs()
    of_images = image(pixels).image_embeds
    of_texts = text(torch.from_numpy(ids)).text_embeds
    logits = (
        100
        * (of_images / of_images.norm(dim=-1, keepdim=True))
        @ (of_texts / of_texts.norm(dim=-1, keepdim=True)).T
    )
    write_expected(folder, pictures, ids, of_images, of_texts, logits)


def _open_clip(folder: Path) -> dict[str, torch.Tensor]:
    """Write what open_clip's ViT-B-32 of random weights answers; return its weights."""
    model = open_clip.create_model("ViT-B-32").eval()
    randomise(model)
    (folder / "source").mkdir()
    pictures, ids, pixels = inputs()
    image, text, scale = model(pixels, torch.from_numpy(ids))
    write_expected(folder, pictures, ids, image, text, scale * image @ text.T)
    return model.state_dict()


def open_clip_folder(folder: Path) -> None:
    """open_clip_config.json beside open_clip_model.safetensors."""
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32")}
    config["preprocess_cfg"] = {"mean": CLIP_MEAN, "std": CLIP_STD}
    save_file(_open_clip(folder), folder / "source" / "open_clip_model.safetensors")
    (folder / "source" / "open_clip_config.json").write_text(json.dumps(config))


def open_clip_safetensors(folder: Path) -> None:
    """A single file of weights."""
    save_file(_open_clip(folder), folder / "source" / "weights.safetensors")


def open_clip_bin(folder: Path) -> None:
    """A single file of PyTorch's zip format."""
    torch.save(_open_clip(folder), folder / "source" / "open_clip_pytorch_model.bin")


def open_clip_pt(folder: Path) -> None:
    """A checkpoint of training on several cards, in PyTorch's format before zip."""
    state = {f"module.{name}": value for name, value in _open_clip(folder).items()}
    torch.save(
        {"epoch": 32, "name": "run", "state_dict": state},
        folder / "source" / "epoch_32.pt",
        _use_new_zipfile_serialization=False,
    )


OF_TRANSFORMERS = {
    "hf-sharded": sharded,
    "hf-pytorch-bin": pytorch_bin,
    "hf-projections": projections,
}
OF_OPEN_CLIP = {
    "open-clip-folder": open_clip_folder,
    "open-clip-safetensors": open_clip_safetensors,
    "open-clip-bin": open_clip_bin,
    "open-clip-pt": open_clip_pt,
}


@torch.no_grad()
def main(kind: str, folder: Path) -> None:
    """Write the source of this kind and what its library answers."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    if kind in OF_OPEN_CLIP:
        OF_OPEN_CLIP[kind](folder)
    else:
        model = MODELS["clip-vit-b32"]().eval()
        randomise(model)
        OF_TRANSFORMERS[kind](folder, model)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
