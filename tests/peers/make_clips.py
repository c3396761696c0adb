"""Write small random CLIPs and SigLIPs with what their own libraries answer; run by hand.

    PYTHON_WITH_TORCH tests/peers/make_clips.py [FOLDER]

Two blocks of width 32 each; the bare file has one of 64, because its heads must have 64 channels.
Half of them are saved in 16 bits, so that all together stay small. tests/models/weights/clips/NAME
holds the checkpoint as the library saves it, and expected.npz beside it the pictures, texts,
embeddings and logits.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

torch.library.Library("torchvision", "DEF").define("nms(Tensor a, Tensor b, float c) -> Tensor")

import open_clip  # noqa: E402
import sentencepiece  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

_COMMITTED = Path(__file__).parents[1] / "models" / "weights" / "clips"
FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else _COMMITTED
TEXTS = ["a photo of a dog", "Two red circles, left of a blue square!", "x"]
MERGES = 120
VOCABULARY = 514 + MERGES
MEAN, STD = (0.4, 0.45, 0.5), (0.25, 0.3, 0.2)
TOWER = {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2}
VISION = {**TOWER, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
TEXT = {**TOWER, "num_attention_heads": 4, "max_position_embeddings": 40}


def _randomise(model: torch.nn.Module) -> None:
    """Let norms, biases and tables be far from 0 and 1, so that each of them matters."""
    for name, value in model.named_parameters():
        if "logit" not in name:
            value.data.normal_(1.0 if value.ndim == 1 and "weight" in name else 0.0, 0.2)


def _pictures(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, 32, 32, 3), np.uint8)


def _pixels(pictures: np.ndarray, mean, std) -> torch.Tensor:
    normal = (torch.from_numpy(pictures).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    return normal.permute(0, 3, 1, 2)


def _merges() -> list[str]:
    import gzip

    path = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    return gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 1 + MERGES]


def _tokenizer(folder: Path, context: int) -> np.ndarray:
    """Write merges.txt, and the ids by open_clip's tokenizer over the same merges."""
    import gzip

    lines = ["#version", *_merges()]
    small = folder / "small.txt.gz"
    small.write_bytes(gzip.compress("\n".join(lines).encode()))
    tokenizer = open_clip.tokenizer.SimpleTokenizer(str(small), context_length=context)
    small.unlink()
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *_merges()]) + "\n")
    return tokenizer(TEXTS).numpy()


def _write(folder: Path, image, text, ids, logits, pictures) -> None:
    unit = [value / value.norm(dim=-1, keepdim=True) for value in (image, text)]
    np.savez(
        folder / "expected.npz",
        pictures=pictures,
        ids=ids,
        image=unit[0].numpy(),
        text=unit[1].numpy(),
        logits=logits.numpy(),
    )
    (folder / "texts.json").write_text(json.dumps(TEXTS))


@torch.no_grad()
def hugging_face(name: str, activation: str, scale: float, shards: bool = False) -> None:
    """A CLIPModel."""
    folder = FOLDER / name
    folder.mkdir(parents=True)
    torch.manual_seed(len(name))
    ends = {"eos_token_id": VOCABULARY - 1, "bos_token_id": VOCABULARY - 2, "pad_token_id": 0}
    act = {"hidden_act": activation}
    config = transformers.CLIPConfig(
        vision_config={**VISION, **act},
        text_config={**TEXT, **act, **ends, "vocab_size": VOCABULARY},
        projection_dim=24,
    )
    model = transformers.CLIPModel(config).eval()
    _randomise(model)
    model.logit_scale.data.fill_(np.log(scale))
    if shards:  # in half the bytes, which hold the weights exactly once they are rounded
        model.bfloat16().save_pretrained(folder, max_shard_size="40KB")
        model.float()
    else:
        model.save_pretrained(folder)
    settings = {
        "do_resize": True,
        "size": {"shortest_edge": 32},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
        "image_mean": MEAN,
        "image_std": STD,
    }
    # What transformers 4 and 5 write.
    if shards:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    else:
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    ids = _tokenizer(folder, 40)
    if not shards:
        vocab = {f"t{n}": n for n in range(VOCABULARY)}
        pairs = [merge.split(" ") for merge in _merges()]
        content = {"model": {"type": "BPE", "vocab": vocab, "merges": pairs}}
        (folder / "tokenizer.json").write_text(json.dumps(content))
        (folder / "merges.txt").unlink()
    pictures = _pictures()
    out = model(input_ids=torch.from_numpy(ids), pixel_values=_pixels(pictures, MEAN, STD))
    _write(folder, out.image_embeds, out.text_embeds, ids, out.logits_per_image, pictures)


@torch.no_grad()
def openclip(name: str, quick_gelu: bool, file: str, custom_text: bool = False) -> None:
    """An open_clip model; a folder, or for `file` without a configuration a bare file."""
    folder = FOLDER / name
    folder.mkdir(parents=True)
    torch.manual_seed(len(name))
    bare = file.endswith(".pt")
    width, layers = (64, 1) if bare else (32, 2)
    config = {
        "embed_dim": 24,
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": 32,
            "layers": layers,
            "width": width,
            "head_width": 64 if bare else 16,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 40,
            "vocab_size": VOCABULARY,
            "width": width,
            "heads": 1 if bare else 4,
            "layers": layers,
        },
    }
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    parts = {key: value for key, value in config.items() if key.endswith("_cfg")}
    model = kind(24, parts["vision_cfg"], parts["text_cfg"], quick_gelu=quick_gelu).eval()
    _randomise(model)
    model.logit_scale.data.fill_(np.log(30.0))
    kind = torch.float16 if bare or custom_text else torch.float32
    state = {key: value.to(kind).contiguous() for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    mean, std = MEAN, STD
    if bare:
        half = {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}
        torch.save(half, folder / file)
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    else:
        save_file(state, folder / file)
        seen = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"}
        content = {"model_cfg": config, "preprocess_cfg": seen}
        (folder / "open_clip_config.json").write_text(json.dumps(content))
    ids = _tokenizer(folder, 40)
    pictures = _pictures()
    image, text, scale = model(_pixels(pictures, mean, std), torch.from_numpy(ids))[:3]
    _write(folder, image, text, ids, scale * image @ text.T, pictures)


@torch.no_grad()
def siglip(name: str) -> None:
    """A SiglipModel with a sentencepiece model, whose ids come from sentencepiece itself."""
    folder = FOLDER / name
    folder.mkdir(parents=True)
    lines = folder / "lines.txt"
    lines.write_text("\n".join(text.lower() for text in TEXTS * 50))
    special = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        **special,
    )
    (folder / "spiece.vocab").unlink()
    lines.unlink()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    clean = ["a photo of a dog", "two red circles left of a blue square", "x"]
    rows = [(pieces.encode(text) + [1] * 40)[:40] for text in clean]
    ids = np.array([[*row[:39], 1] for row in rows])
    torch.manual_seed(4)
    text = {**TEXT, "vocab_size": pieces.get_piece_size()}
    model = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config=VISION)
    )
    model.eval()
    _randomise(model)
    model.logit_scale.data.fill_(np.log(117.3))
    model.logit_bias.data.fill_(-12.9)
    model.save_pretrained(folder)
    settings = {"size": {"height": 32, "width": 32}, "resample": 3, "do_resize": True}
    settings |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    pictures = _pictures()
    pixels = _pixels(pictures, [0.5] * 3, [0.5] * 3)
    out = model(input_ids=torch.from_numpy(ids), pixel_values=pixels)
    _write(folder, out.image_embeds, out.text_embeds, ids, out.logits_per_image, pictures)


def main() -> None:
    """Write all of them."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    hugging_face("hugging_face_quick_gelu", "quick_gelu", 100.0)
    hugging_face("hugging_face_gelu_shards", "gelu", 14.3, shards=True)
    openclip("open_clip_gelu", False, "open_clip_model.safetensors")
    openclip("open_clip_custom_text", True, "open_clip_model.safetensors", custom_text=True)
    openclip("open_clip_file", True, "model.pt")
    siglip("siglip")


if __name__ == "__main__":
    main()
