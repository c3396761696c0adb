"""Compare folders of `export --hf` and `--open-clip` with their own libraries; run by hand.

    PYTHON_WITH_TORCH tests/peers/read_clip_folders.py FOLDER EXPECTED.npz

EXPECTED.npz holds `pictures` (N,S,S,3) uint8, `ids` (M,L), `image` (N,D), `text` (M,D) and the
`logits` (N,M) of tfclip. The library is chosen by the files of the folder. Prints the largest
differences; exits with 1 above 1e-4 (logits: 1e-4 of their scale).
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

torch.library.Library("torchvision", "DEF").define("nms(Tensor a, Tensor b, float c) -> Tensor")


@torch.no_grad()
def main(folder: Path, expected: Path) -> int:
    """Load, embed, compare."""
    known = np.load(expected)
    ids = torch.from_numpy(known["ids"].astype(np.int64))
    if (folder / "open_clip_config.json").is_file():
        import open_clip

        model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        seen = json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]
        model.eval()
        image, text = (
            model.encode_image(_pixels(known["pictures"], seen["mean"], seen["std"]), True),
            model.encode_text(ids, True),
        )
        scale = model.logit_scale.exp()
        logits = scale * image @ text.T
        if model.logit_bias is not None:
            logits = logits + model.logit_bias
    else:
        import transformers

        model, info = transformers.CLIPModel.from_pretrained(folder, output_loading_info=True)
        model.eval()
        left = [*info["missing_keys"], *info["unexpected_keys"]]
        assert not left, left
        seen = json.loads((folder / "preprocessor_config.json").read_text())
        out = model(
            input_ids=ids,
            pixel_values=_pixels(known["pictures"], seen["image_mean"], seen["image_std"]),
        )
        image, text, logits = out.image_embeds, out.text_embeds, out.logits_per_image
        scale = model.logit_scale.exp()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        if "texts" in known:
            read = tokenizer(list(known["texts"]), padding="max_length", truncation=True)
            print(
                "tokenizer:",
                type(tokenizer).__name__,
                (np.array(read["input_ids"]) == known["ids"]).all(),
            )
    worst = {
        "image": np.abs(image.numpy() - known["image"]).max(),
        "text": np.abs(text.numpy() - known["text"]).max(),
        "logits": np.abs(logits.numpy() - known["logits"]).max() / float(scale),
    }
    print(folder.name, {name: f"{value:.1e}" for name, value in worst.items()})
    return int(max(worst.values()) > 1e-4)


def _pixels(pictures: np.ndarray, mean, std) -> torch.Tensor:
    normal = (torch.from_numpy(pictures).float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    return normal.permute(0, 3, 1, 2)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
