import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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
        context_length=24,
        vocabulary_size=len(vocabulary),
    )
    keras.utils.set_random_seed(0)
    return TrainedModel(DualEncoder(config), WordPieceTokenizer(vocabulary, 24))


@pytest.fixture(scope="session")
def picture_bytes() -> dict[str, bytes]:
    """Encoded pictures: one with alpha, one that EXIF turns."""
    rough = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)

    def encoded(kind: str, size: tuple[int, int], mode: str, **options) -> bytes:
        file = io.BytesIO()
        Image.fromarray(rough).resize(size).convert(mode).save(file, kind, **options)
        return file.getvalue()

    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "png": encoded("PNG", (33, 47), "RGBA"),
        "turned": encoded("JPEG", (70, 40), "RGB", exif=turned),
    }


@pytest.fixture(scope="session")
def drawn_sets(tmp_path_factory) -> Path:
    """Drawn shapes in the four formats, a few pictures each; do not write into it."""
    from tfclip.sources.shapes import draw_shapes

    out = tmp_path_factory.mktemp("drawn") / "shapes"
    draw_shapes(
        out, visual_genome=1, flickr8k=(1, 12, 1), coco=(1, 1), voc=(20, 20, 40), image_size=64
    )
    return out


@pytest.fixture(scope="session")
def voc_records(drawn_sets, tmp_path_factory) -> Path:
    """The drawn VOC set, packed; do not write into it."""
    return packed("voc", drawn_sets / "voc", tmp_path_factory.mktemp("records") / "voc")


@pytest.fixture(scope="session")
def flickr8k_records(drawn_sets, tmp_path_factory) -> Path:
    """The drawn Flickr8k set, packed; do not write into it."""
    return packed("flickr8k", drawn_sets / "flickr8k", tmp_path_factory.mktemp("records") / "f")


def packed(name: str, data: Path, out: Path) -> Path:
    from tfclip.records.options import PackOptions
    from tfclip.records.writer import pack
    from tfclip.sources.registry import open_source

    pack(open_source(name, data), out, PackOptions(workers=1))
    return out
