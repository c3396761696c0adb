"""Converts SentencePiece models, and Unigram tokenizers of tokenizer.json, to models by id."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

sentencepiece_model: Any = sentencepiece_model_pb2  # its classes are made when it is imported
_FIRST = ("<s>", "<pad>", "</s>", "<unk>")
_MASK = "<mask>"
_SPECIAL = (*_FIRST, _MASK)
# Steps of a tokenizer.json whose effect a SentencePiece model has as well.
_NORMALIZERS = ("Precompiled", "Replace", "Strip")
_PRE_TOKENIZERS = ("WhitespaceSplit", "Metaspace")


def with_ids_of_xlm_roberta(path: Path) -> bytes:
    """Return the model of a sentencepiece.bpe.model with the ids that XLM-R uses.

    The file has <unk>, <s>, </s> and then its pieces. XLM-R (through fairseq) has <s>, <pad>, </s>,
    <unk>, the pieces one id higher, and at the end <mask>.

    Raises:
        ValueError: the file is not such a model.
    """
    model = sentencepiece_model.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path} is not a SentencePiece model: {error}") from None
    found = [piece.piece for piece in model.pieces[:3]]
    if found != ["<unk>", "<s>", "</s>"]:
        raise ValueError(f"{path} begins with {', '.join(found)}; expected <unk>, <s>, </s>")
    pieces = [(piece.piece, piece.score, piece.type) for piece in model.pieces[3:]]
    return _renumbered(model, pieces)


def from_tokenizer_json(stated: Mapping, path: Path) -> bytes:
    """Return the model of a tokenizer.json of XLM-R.

    Raises:
        ValueError: it has steps that SentencePiece does not have; names them.
    """
    vocabulary = stated["model"].get("vocab") or []
    tokens = [str(token) for token, _ in vocabulary]
    if tokens[:4] != list(_FIRST):
        raise ValueError(
            f"{path} begins with {', '.join(tokens[:4])}; expected {', '.join(_FIRST)}"
        )
    model = sentencepiece_model.ModelProto()
    normalizers = list(_steps(stated.get("normalizer"), "normalizers"))
    pre_tokenizers = list(_steps(stated.get("pre_tokenizer"), "pretokenizers"))
    known = {"normalizer": _NORMALIZERS, "pre_tokenizer": _PRE_TOKENIZERS}
    for name, steps in (("normalizer", normalizers), ("pre_tokenizer", pre_tokenizers)):
        for step in steps:
            if step.get("type") not in known[name]:
                raise ValueError(
                    f"{path}: the {name} {step.get('type')} is not supported; allowed: "
                    f"{', '.join(known[name])}"
                )
    metaspace = [step for step in pre_tokenizers if step.get("type") == "Metaspace"]
    if len(metaspace) != 1 or metaspace[0].get("prepend_scheme", "always") != "always":
        raise ValueError(f"{path}: expected Metaspace with prepend_scheme always")
    for step in normalizers:
        if step["type"] == "Precompiled":
            try:
                rules = base64.b64decode(step["precompiled_charsmap"], validate=True)
            except (KeyError, TypeError, binascii.Error) as error:
                raise ValueError(f"{path}: its precompiled_charsmap is damaged: {error}") from None
            model.normalizer_spec.precompiled_charsmap = rules
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = True
    model.normalizer_spec.escape_whitespaces = True
    model.trainer_spec.model_type = sentencepiece_model.TrainerSpec.UNIGRAM
    normal = sentencepiece_model.ModelProto.SentencePiece.NORMAL
    rest = [(token, score, normal) for token, score in vocabulary[4:] if token != _MASK]
    if len(rest) + 5 != len(vocabulary) or tokens[-1] != _MASK:
        raise ValueError(f"{path}: the last token of its vocabulary must be {_MASK}")
    return _renumbered(model, rest)


def _steps(part, inner: str) -> Iterator[Mapping]:
    """Yield the steps of a normalizer or pre-tokenizer, a Sequence taken apart."""
    if not isinstance(part, Mapping):
        return
    if part.get("type") != "Sequence":
        yield part
        return
    for step in part.get(inner) or []:
        yield from _steps(step, inner)


def _renumbered(model, pieces: list) -> bytes:
    kinds = sentencepiece_model.ModelProto.SentencePiece
    special = [(name, 0.0, kinds.CONTROL) for name in _FIRST[:3]]
    special.append((_FIRST[3], 0.0, kinds.UNKNOWN))
    del model.pieces[:]
    for piece, score, kind in [*special, *pieces, (_MASK, 0.0, kinds.CONTROL)]:
        model.pieces.add(piece=piece, score=score, type=kind)
    spec = model.trainer_spec
    spec.bos_id, spec.pad_id, spec.eos_id, spec.unk_id = 0, 1, 2, 3
    spec.vocab_size = len(model.pieces)
    return model.SerializeToString(deterministic=True)
