"""The interface of an export: signatures, tensors, files, sizes of batches. No TensorFlow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tfclip.naming import unknown

CLASSIFY = "classify"
ENCODE_IMAGE = "encode_image"
ENCODE_TEXT = "encode_text"
SIMILARITY = "similarity"
SERVING_DEFAULT = "serving_default"

IMAGE_BYTES = "image_bytes"
TEXT = "text"
LABELS = "labels"
SCORES = "scores"
PROBABILITIES = "probabilities"
PREDICTED = "predicted"
VALID = "valid"
EMBEDDING = "embedding"
LOGITS_PER_IMAGE = "logits_per_image"

# TensorFlow Serving copies `assets.extra` along and loads nothing from it but warm-up requests.
MODEL_CARD = "assets.extra/model_card.json"
WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"

# The name in `deploy/models.config`, which is part of every URL.
MODEL_NAME = "tfclip"
# To what sizes a server that merges requests fills them up: those of the warm-up requests and of
# `deploy/batching_parameters.txt`.
ALLOWED_BATCH_SIZES = (1, 2, 4, 8, 16)

SIDES = IMAGE_SIDE, TEXT_SIDE = ("image", "text")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its dtype and its sides; N pictures, M texts, C labels, D embedding numbers."""

    dtype: str
    shape: str


@dataclass(frozen=True)
class Signature:
    """What goes in and what comes out, by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


_PICTURES = {IMAGE_BYTES: TensorSpec("string", "N")}
_TEXTS = {TEXT: TensorSpec("string", "M")}
_VALID = {VALID: TensorSpec("bool", "N")}

SIGNATURES: dict[str, Signature] = {
    CLASSIFY: Signature(
        _PICTURES,
        {
            LABELS: TensorSpec("string", "NC"),
            SCORES: TensorSpec("float32", "NC"),
            PROBABILITIES: TensorSpec("float32", "NC"),
            PREDICTED: TensorSpec("bool", "NC"),
            **_VALID,
        },
    ),
    ENCODE_IMAGE: Signature(_PICTURES, {EMBEDDING: TensorSpec("float32", "ND"), **_VALID}),
    ENCODE_TEXT: Signature(_TEXTS, {EMBEDDING: TensorSpec("float32", "MD")}),
    # TensorFlow Serving refuses inputs of different leading size in a batched signature.
    SIMILARITY: Signature(
        {**_PICTURES, **_TEXTS}, {LOGITS_PER_IMAGE: TensorSpec("float32", "NM"), **_VALID}
    ),
}


@dataclass(frozen=True)
class Variant:
    """Which towers an export holds, and in what precision their matrices are stored.

    `sides` are of "image" and "text", in this order. Vectors (biases, statistics) and all
    computation stay in float32.
    """

    sides: tuple[str, ...] = SIDES
    precision: str = "float32"

    def __post_init__(self):
        if self.sides not in (SIDES, (IMAGE_SIDE,), (TEXT_SIDE,)):
            raise ValueError(f"sides must be some of image, text. Received: {self.sides}")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)


COMPLETE = Variant()


def signature_names(has_labels: bool, sides: Sequence[str] = SIDES) -> dict[str, str]:
    """The signatures of an export, each with the name of the row of `SIGNATURES` it follows.

    Labels are for pictures: `classify` needs no text tower, since their embeddings are baked in.
    """
    names = []
    if IMAGE_SIDE in sides:
        names += [CLASSIFY] * has_labels + [ENCODE_IMAGE]
    if TEXT_SIDE in sides:
        names += [ENCODE_TEXT]
    if len(sides) == len(SIDES):
        names += [SIMILARITY]
    return {**{name: name for name in names}, SERVING_DEFAULT: names[0]}


def default_row(served: Collection[str]) -> str:
    """The row of `SIGNATURES` that `serving_default` follows among signatures of these names."""
    return next(row for row in (CLASSIFY, ENCODE_IMAGE, ENCODE_TEXT) if row in served)


def is_batchable(signature: Signature) -> bool:
    """Whether a server may merge requests: all tensors have the same leading side."""
    tensors = [*signature.inputs.values(), *signature.outputs.values()]
    return len({spec.shape[0] for spec in tensors}) == 1
