"""A tiny untrained model on disk: what the commands and the served graph are tried on."""

import io
import json
import os

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CLASS_NAMES = ("red circle", "blue square", "green star")


@pytest.fixture(scope="session")
def tiny_model():
    """A `TrainedModel` with random weights, 32 px pictures and 16-number embeddings."""
    import keras

    from tfclip.inputs.text import WordPieceTokenizer
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saved import TrainedModel

    letters = "abcdefghijklmnopqrstuvwxyz."
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters)]
    config = ModelConfig(
        image_tower="small-convolutional",
        image_options={"widths": (8, 16)},
        text_tower="small-transformer",
        text_options={"width": 32, "blocks": 1, "heads": 2},
        image_size=32,
        embed_dim=16,
        context_length=32,
        vocabulary_size=len(vocabulary),
    )
    keras.utils.set_random_seed(0)
    return TrainedModel(
        DualEncoder(config),
        WordPieceTokenizer(vocabulary, config.context_length),
        {"recipe": "shapes", "steps": 0},
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_model, tmp_path_factory):
    """A run directory with that model and thresholds for three classes; do not write into it."""
    from tfclip.models.saved import save_model

    run = tmp_path_factory.mktemp("runs") / "tiny"
    save_model(run / "best", tiny_model)
    thresholds = {
        "class_names": CLASS_NAMES,
        "per_class": dict(zip(CLASS_NAMES, (-2.0, 2.0, 0.0), strict=True)),
        "global": 0.0,
        "prompts": {name: [f"a photo of a {name}.", f"the {name}"] for name in CLASS_NAMES},
        "tiles": "1+4",
    }
    (run / "thresholds.json").write_text(json.dumps(thresholds))
    return run


@pytest.fixture(scope="session")
def picture_bytes():
    """Encoded pictures by name: the formats, sizes and oddities that a user may bring."""
    rng = np.random.default_rng(0)

    def encoded(kind, size, mode="RGB", **options):
        rough = rng.integers(0, 256, (4, 4, len(mode)), np.uint8).squeeze()
        picture = Image.fromarray(rough, mode).resize(size, Image.Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return file.getvalue()

    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "jpeg": encoded("JPEG", (90, 60)),
        "grey": encoded("JPEG", (40, 50), "L"),
        "turned": encoded("JPEG", (70, 40), exif=turned),
        "alpha": encoded("PNG", (33, 47), "RGBA"),
        "gif": encoded("GIF", (50, 20)),
        "bmp": encoded("BMP", (20, 20)),
        "webp": encoded("WEBP", (64, 48)),
    }


@pytest.fixture(scope="session")
def exported(tiny_run, tmp_path_factory):
    """What `tfclip.export` makes of that run, with its labels; do not write into it."""
    from tfclip.export import main

    out = tmp_path_factory.mktemp("out") / "exported"
    if main([str(tiny_run), "--out", str(out)]):
        raise RuntimeError("the tiny run could not be exported")
    return out


@pytest.fixture(scope="session")
def served(exported):
    """The signatures of that export."""
    from tfclip.serving.saved_model import load_signatures

    return load_signatures(exported / "1")
