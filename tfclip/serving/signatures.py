"""The interface of an export: signatures, tensors, files, batch sizes. Needs no TensorFlow."""

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

# TensorFlow Serving reads nothing in `assets.extra` but the warm-up requests.
MODEL_CARD = "assets.extra/model_card.json"
WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"

# The name in `deploy/models.config`, part of every URL.
MODEL_NAME = "tfclip"
# A server that merges requests pads them to one of these batch sizes, which are also those of the
# warm-up requests and of `deploy/batching_parameters.txt`.
ALLOWED_BATCH_SIZES = (1, 2, 4, 8, 16)

MODALITIES = IMAGE_MODALITY, TEXT_MODALITY = ("image", "text")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor: its dtype and its dimensions, of N pictures, M texts, C labels, D the embedding."""

    dtype: str
    shape: str


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a signature, by name."""

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
    """The towers of an export, and the precision in which their matrices are stored.

    Attributes:
        modalities: "image", "text" or both, in this order.
        precision: of the stored matrices. Vectors (biases, statistics) are stored, and everything
            is computed, in float32.
    """

    modalities: tuple[str, ...] = MODALITIES
    precision: str = "float32"

    def __post_init__(self):
        if self.modalities not in (MODALITIES, (IMAGE_MODALITY,), (TEXT_MODALITY,)):
            raise ValueError(
                "modalities must be (image, text), (image,) or (text,). "
                f"Received: {self.modalities}"
            )
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)


COMPLETE = Variant()


def signature_names(has_labels: bool, modalities: Sequence[str] = MODALITIES) -> dict[str, str]:
    """Return the signatures of an export, each with its name in `SIGNATURES`.

    `classify` needs no text tower: the embeddings of the labels are stored in the export.
    """
    names = []
    if IMAGE_MODALITY in modalities:
        names += [CLASSIFY] * has_labels + [ENCODE_IMAGE]
    if TEXT_MODALITY in modalities:
        names += [ENCODE_TEXT]
    if len(modalities) == len(MODALITIES):
        names += [SIMILARITY]
    return {**{name: name for name in names}, SERVING_DEFAULT: names[0]}


def default_row(served: Collection[str]) -> str:
    """Return the name in `SIGNATURES` of what `serving_default` does, given the served names."""
    return next(row for row in (CLASSIFY, ENCODE_IMAGE, ENCODE_TEXT) if row in served)


def is_batchable(signature: Signature) -> bool:
    """Return whether a server may merge requests: all tensors have the same leading dimension."""
    tensors = [*signature.inputs.values(), *signature.outputs.values()]
    return len({spec.shape[0] for spec in tensors}) == 1
