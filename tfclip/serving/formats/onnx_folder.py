"""Writes both towers as ONNX models with tokenizer and preprocessing, in the layout of Immich."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip import files
from tfclip.memory import return_memory
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.layers.pixel_normalization import PixelNormalization
from tfclip.models.saving import TrainedModel
from tfclip.serving.formats.extra import require_onnx
from tfclip.serving.formats.json_files import write_json
from tfclip.serving.formats.onnx_file import LARGEST_BYTES, file_size, write_onnx_file
from tfclip.serving.formats.onnx_graph import OnnxGraph, to_onnx
from tfclip.serving.formats.tokenizer_json import (
    PROBES,
    differing_texts,
    pad_token,
    tokenizer_json,
)
from tfclip.serving.signatures import IMAGE_MODALITY, MODALITIES, TEXT_MODALITY

# The layout and the names that Immich's machine-learning service reads.
VISUAL, TEXTUAL, MODEL_FILE = "visual", "textual", "model.onnx"
IMAGE, TEXT, MASK, EMBEDDING = "image", "text", "attention_mask", "embedding"
# A mask with this value is computed from the ids.
NO_MASK = -1
LARGEST_DIFFERENCE = 1e-4
# Pillow's name of the same filter.
_PILLOW = {"area": "box"}
_RESIZE = {"squash": "squash", "crop": "shortest"}


@dataclass(frozen=True)
class OnnxReport:
    """How the parts that `write_onnx` wrote compare with the model.

    Attributes:
        differences: by modality, the largest difference of an embedding to TensorFlow's.
        tokenizer: whether `tokenizer.json` was written.
        differing: texts for which it gives other ids than the model's tokenizer.
        texts: the number of texts that were compared.
        problem: why it was not written, or None.
    """

    differences: dict[str, float]
    tokenizer: bool
    differing: int
    texts: int
    problem: str | None = None


def write_onnx(
    model: TrainedModel, folder: Path, modalities: tuple[str, ...] = MODALITIES
) -> OnnxReport:
    """Write `folder` atomically: visual/, textual/ and config.json; it must not exist.

    visual/model.onnx takes `image` (N,3,S,S) float32, normalised as visual/preprocess_cfg.json
    says. textual/model.onnx takes `text` (N,L) int32, and optionally `attention_mask` (N,L) int32,
    1 for tokens and 0 for padding; without it the mask follows from the ids. Both return
    `embedding` (N,D) float32 of unit norm. Before the folder gets its name, onnxruntime embeds
    noise and texts, and must give TensorFlow's embeddings.

    Raises:
        ValueError: a package is missing, a tower cannot be converted or is too large, or its
            embeddings differ by more than `LARGEST_DIFFERENCE`.
        OSError: the folder cannot be written.
    """
    require_onnx()
    model = _in_float32(model)
    differences: dict[str, float] = {}
    report = OnnxReport(differences, False, 0, 0)
    with files.new_folder(folder) as temporary:
        if IMAGE_MODALITY in modalities:
            _write_visual(model, temporary / VISUAL)
            differences[IMAGE_MODALITY] = _image_difference(model, temporary / VISUAL)
            return_memory()
        if TEXT_MODALITY in modalities:
            _write_textual(model, temporary / TEXTUAL)
            differences[TEXT_MODALITY] = _text_difference(model, temporary / TEXTUAL)
            report = _write_tokenizer(model, temporary / TEXTUAL, report)
        for modality, difference in differences.items():
            if not difference <= LARGEST_DIFFERENCE:
                raise ValueError(
                    f"the {modality} tower gives other embeddings in onnxruntime: they differ by "
                    f"{difference:.2g}, more than {LARGEST_DIFFERENCE}; export without --onnx"
                )
        write_json(temporary / "config.json", _description(model))
    return report


class OnnxEncoder:
    """Embeddings of one tower of `write_onnx` by onnxruntime.

    Args:
        path: a `model.onnx`.
        threads: of onnxruntime; None for its default.
    """

    def __init__(self, path: Path, threads: int | None = None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, **inputs: np.ndarray) -> np.ndarray:
        """Return (N,D) float32 of the named inputs."""
        return self.session.run(None, inputs)[0]


def pixel_scale(model: TrainedModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and deviation of the input `image`, in units of 0..1.

    They are those of the tower's first layer, so that a converted CLIP takes what the original
    takes, or 0 and 1 if the tower normalises in another way.
    """
    first = next(
        (
            layer
            for layer in model.dual_encoder.image_tower.layers
            if isinstance(layer, PixelNormalization) and not layer.blue_first
        ),
        None,
    )
    if first is None:
        return np.zeros(3), np.ones(3)
    return np.array(first.mean) / 255, np.array(first.deviation) / 255


def normalize(model: TrainedModel, pictures: np.ndarray) -> np.ndarray:
    """Return the input `image` (N,3,S,S) float32 of pictures (N,S,S,3) uint8."""
    mean, deviation = (part.astype(np.float32) for part in pixel_scale(model))
    return np.transpose((pictures.astype(np.float32) / 255 - mean) / deviation, (0, 3, 1, 2))


def _in_float32(model: TrainedModel) -> TrainedModel:
    """Return the model with all computation in float32; its weights are float32 anyway."""
    if model.config.precision == "float32":
        return model
    encoder = DualEncoder(replace(model.config, precision="float32"))
    encoder.set_weights(model.dual_encoder.get_weights())
    return replace(model, dual_encoder=encoder)


def _write_visual(model: TrainedModel, folder: Path) -> None:
    size, encoder = model.config.image_size, model.dual_encoder
    mean, deviation = pixel_scale(model)

    def embed(image):
        pixels = tf.transpose(image, [0, 2, 3, 1])
        scale, shift = (tf.constant(255 * part, tf.float32) for part in (deviation, mean))
        return encoder.encode_image(pixels * scale + shift)

    spec = tf.TensorSpec([None, 3, size, size], tf.float32, IMAGE)
    _write_model(to_onnx(embed, [spec], EMBEDDING, encoder.variables), folder, "image")
    config = model.config
    preprocessing = {
        "size": [size, size],
        "mode": "RGB",
        "mean": mean.tolist(),
        "std": deviation.tolist(),
        "interpolation": _PILLOW.get(config.interpolation, config.interpolation),
        "resize_mode": _RESIZE[config.resize],
        "fill_color": 0,
    }
    write_json(folder / "preprocess_cfg.json", preprocessing)


def _write_textual(model: TrainedModel, folder: Path) -> None:
    import onnx

    encoder, tokenizer, length = model.dual_encoder, model.tokenizer, model.config.context_length

    def embed(text, mask):
        given = tf.broadcast_to(mask, tf.shape(text))
        keep = tf.where(given == NO_MASK, tf.cast(tokenizer.mask_of(text), tf.int32), given)
        return encoder.encode_text(text, tf.cast(keep, tf.bool))

    specs = [tf.TensorSpec([None, n], tf.int32, name) for n, name in ((length, TEXT), (None, MASK))]
    graph = to_onnx(embed, specs, EMBEDDING, encoder.variables)
    # An input with a value is optional, so that programs that know no mask can omit it.
    default = onnx.numpy_helper.from_array(np.array([[NO_MASK]], np.int32), MASK)
    graph.model.graph.initializer.append(default)
    _write_model(graph, folder, "text")


def _write_model(graph: OnnxGraph, folder: Path, modality: str) -> None:
    size = file_size(graph)
    if size > LARGEST_BYTES:
        raise ValueError(f"the {modality} tower has {size / 2**30:.1f} GiB; an ONNX file holds 2")
    folder.mkdir()
    write_onnx_file(graph, folder / MODEL_FILE)


def _write_tokenizer(model: TrainedModel, folder: Path, report: OnnxReport) -> OnnxReport:
    """Write tokenizer.json if the tokenizers library gives the model's ids for usual texts."""
    texts = [*PROBES, *string.ascii_letters, *string.digits, *string.punctuation]
    try:
        content = json.dumps(tokenizer_json(model.tokenizer), ensure_ascii=False)
        differing = differing_texts(content, model.tokenizer, texts)
    except ValueError as error:
        return replace(report, problem=str(error), texts=len(texts))
    if differing:
        problem = f"it gives other ids, for instance for {differing[0]!r}"
        return replace(report, problem=problem, differing=len(differing), texts=len(texts))
    (folder / "tokenizer.json").write_text(content, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.config.context_length,
        "pad_token": pad_token(model.tokenizer),
    }
    write_json(folder / "tokenizer_config.json", settings)
    return replace(report, tokenizer=True, texts=len(texts))


def _description(model: TrainedModel) -> dict:
    """Return config.json: the sizes under open_clip's names, and where the model is from."""
    config, encoder = model.config, model.dual_encoder
    return {
        "embed_dim": config.embed_dim,
        "vision_cfg": {"image_size": config.image_size},
        "text_cfg": {
            "context_length": config.context_length,
            "vocab_size": config.vocabulary_size,
        },
        "logit_scale": float(encoder.temperature()),
        "logit_bias": None if encoder.logit_bias is None else float(encoder.logit_bias()),
        "trained_on": json.loads(json.dumps(dict(model.trained_on), default=str)),
    }


def _image_difference(model: TrainedModel, folder: Path) -> float:
    size = model.config.image_size
    noise = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    ours = model.dual_encoder.encode_image(noise).numpy()
    theirs = OnnxEncoder(folder / MODEL_FILE)(**{IMAGE: normalize(model, noise)})
    return float(np.abs(ours - theirs).max())


def _text_difference(model: TrainedModel, folder: Path) -> float:
    """Compare with a mask, and without one."""
    tokens = model.tokenizer(list(PROBES))
    ids, mask = tokens["token_ids"].numpy(), tokens["text_mask"].numpy().astype(np.int32)
    ours = model.dual_encoder.encode_text(tokens["token_ids"], tokens["text_mask"]).numpy()
    encoder = OnnxEncoder(folder / MODEL_FILE)
    masked, free = encoder(**{TEXT: ids, MASK: mask}), encoder(**{TEXT: ids})
    return float(max(np.abs(ours - theirs).max() for theirs in (masked, free)))
