"""Write a preset folder of keras_hub's CLIP ViT-B/32 of random weights, with what it answers.

    python tests/peers/full_size_keras_hub.py FOLDER

FOLDER/source and FOLDER/expected.npz are as in full_size_kinds.py; PyTorch is not needed.
"""

import sys
from pathlib import Path

import keras
import keras_hub
import numpy as np
from keras_hub.src.models.clip.clip_text_encoder import CLIPTextEncoder
from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
END = 49_407


def _backbone():
    vision = CLIPVisionEncoder(
        32, 768, 12, 12, 3072, image_shape=(224, 224, 3), name="vision_encoder"
    )
    text = CLIPTextEncoder(END + 1, 512, 512, 12, 8, 2048, name="text_encoder")
    backbone = keras_hub.models.CLIPBackbone(vision, text, 512)
    rng = np.random.default_rng(0)
    for variable in backbone.weights:
        shape = tuple(variable.shape)
        if variable.name == "position_ids":
            variable.assign(np.arange(shape[1])[None])
        elif variable.name != "logit_scale":
            mean = 1.0 if variable.name == "gamma" else 0.0
            spread = 0.1 if len(shape) == 1 else np.prod(shape[:-1]) ** -0.5
            variable.assign(rng.normal(mean, spread, shape).astype("float32"))
    return backbone


def main(folder: Path) -> None:
    """Write the preset and what the backbone answers."""
    backbone = _backbone()
    (folder / "source").mkdir(parents=True)
    backbone.save_to_preset(str(folder / "source"))
    converter = keras_hub.layers.ImageConverter(
        image_size=(224, 224), scale=1 / 255 / STD, offset=-MEAN / STD, interpolation="bicubic"
    )
    converter.save_to_preset(str(folder / "source"))
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 224, 224, 3), np.uint8)
    ids = rng.integers(5, END - 1, (4, 77)).astype("int32")
    ids[:, 0] = END - 1
    for row, end in enumerate((5, 20, 40, 76)):
        ids[row, end:] = END
    pixels = ((pictures / 255 - MEAN) / STD).astype("float32")
    logits = backbone({"images": pixels, "token_ids": ids})["vision_logits"]
    parts = {
        "image": backbone.get_vision_embeddings(pixels),
        "text": backbone.get_text_embeddings(ids),
    }
    unit = {name: keras.ops.normalize(part, axis=-1) for name, part in parts.items()}
    expected = {name: keras.ops.convert_to_numpy(part) for name, part in unit.items()}
    expected["logits"] = keras.ops.convert_to_numpy(logits)
    np.savez(folder / "expected.npz", pictures=pictures, ids=ids, **expected)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
