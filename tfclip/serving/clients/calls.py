"""Splits inputs into calls that a server accepts, and joins the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfclip.serving import signatures as names

Picture = str | Path | bytes
Answer = dict[str, np.ndarray]


@dataclass(frozen=True)
class Call:
    """One request: a row of `signatures.SIGNATURES` and its inputs by name.

    If `columns` is given, only that many columns of the answer are kept.
    """

    row: str
    inputs: dict[str, list]
    columns: int | None = None

    def check(self, answer: Answer, server: str) -> Answer:
        """Return the answer if its sizes fit the call.

        Raises:
            ValueError: they do not.
        """
        count = len(next(iter(self.inputs.values())))
        if any(len(value) != count for value in answer.values()):
            raise ValueError(
                f"{server} answered {self.row} of {count} inputs with another number of rows"
            )
        if self.row != names.SIMILARITY:
            return answer
        logits, texts = answer[names.LOGITS_PER_IMAGE], len(self.inputs[names.TEXT])
        if logits.shape != (count, texts):
            raise ValueError(
                f"{server} answered similarity with shape {logits.shape} to {count} pictures and "
                f"{texts} texts"
            )
        return {**answer, names.LOGITS_PER_IMAGE: logits[:, : self.columns]}


def picture_calls(row: str, pictures: Sequence[Picture]) -> list[Call]:
    """Return calls of `classify` or `encode_image`.

    Raises:
        OSError: a picture cannot be read.
        ValueError: there is no picture, or `pictures` is not a list.
    """
    return [Call(row, {names.IMAGE_BYTES: part}) for part in _parts(_contents(pictures))]


def text_calls(texts: Sequence[str]) -> list[Call]:
    """Return calls of `encode_text`.

    Raises:
        ValueError: there is no text, or `texts` is not a list.
    """
    return [Call(names.ENCODE_TEXT, {names.TEXT: part}) for part in _parts(_texts(texts))]


def similarity_calls(pictures: Sequence[Picture], texts: Sequence[str]) -> list[Call]:
    """Return calls of `similarity`, each with a part of the pictures and all texts.

    A server that merges requests would accept as many texts as pictures, and join the texts of
    different requests. No call therefore has as many texts as pictures.

    Raises:
        OSError, ValueError: see `picture_calls` and `text_calls`.
    """
    contents, texts = _contents(pictures), _texts(texts)
    calls = []
    for part in _parts(contents):
        padded = [*texts, texts[-1]] if len(texts) == len(part) else texts
        inputs = {names.IMAGE_BYTES: part, names.TEXT: padded}
        calls.append(Call(names.SIMILARITY, inputs, len(texts)))
    return calls


def joined(answers: Sequence[Answer]) -> Answer:
    """Return the answers to the parts, concatenated."""
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _contents(pictures: Sequence[Picture]) -> list[bytes]:
    if isinstance(pictures, Picture):
        raise ValueError("pictures must be a list of paths or bytes. Received: a single one")
    if not pictures:
        raise ValueError("no picture was given; pass a list of paths or bytes")
    return [p if isinstance(p, bytes) else Path(p).read_bytes() for p in pictures]


def _texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or not texts:
        raise ValueError(f"texts must be a list of one or more. Received: {texts!r}")
    return list(texts)


def _parts(values: list) -> list[list]:
    most = max(names.ALLOWED_BATCH_SIZES)
    return [values[start : start + most] for start in range(0, len(values), most)]
