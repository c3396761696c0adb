"""The interface of an exported model: its signatures, their tensors, its files. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


def signature_names(has_labels: bool) -> dict[str, str]:
    """The signatures of an export, each with the name of the row of `SIGNATURES` it follows."""
    names = [CLASSIFY] * has_labels + [ENCODE_IMAGE, ENCODE_TEXT, SIMILARITY]
    return {**{name: name for name in names}, SERVING_DEFAULT: names[0]}
