"""Checks a sample of the training records before training: texts cut or unknown, small pictures."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfclip.inputs.text import Tokenizer
from tfclip.records import schema
from tfclip.records.reader import read_shards

RECORDS, TEXTS = 5000, 20_000
AT_ONCE = 1024
# Fractions above which a message is printed.
CUT, UNKNOWN, SMALL = 0.05, 0.01, 0.01
# Slightly enlarged pictures are not worth a message: 240 of 224 pixels is the choice of `laptop`.
CLEARLY_SMALLER = 0.8


@dataclass(frozen=True)
class RecordSample:
    """The first records of a training set.

    Attributes:
        texts: captions and phrases.
        short_sides: (N,) of the pictures, in pixels.
    """

    texts: tuple[str, ...]
    short_sides: np.ndarray


@dataclass(frozen=True)
class TextFaults:
    """The effect of a tokenizer on some texts.

    Attributes:
        texts: the number of texts.
        cut: the number of texts longer than the context.
        longest: the ids of the longest text.
        unknown: the number of texts with [UNK].
        unknown_tokens: the fraction of [UNK] among all tokens.
        alike: groups of different texts with equal ids, none of them cut.
        alike_when_cut: groups of different texts with equal ids, of which some are cut.
    """

    texts: int
    cut: int
    longest: int
    unknown: int
    unknown_tokens: float
    alike: tuple[tuple[str, ...], ...]
    alike_when_cut: tuple[tuple[str, ...], ...]

    @property
    def cut_fraction(self) -> float:
        """Return the fraction of texts that are cut."""
        return self.cut / max(self.texts, 1)


def sample_records(files: Sequence[str]) -> RecordSample:
    """Read the first `RECORDS` records, and at most `TEXTS` of their texts.

    Args:
        files: shards, read alternately from several sets.
    """
    files = sorted(files, key=lambda file: Path(file).name)
    texts: list[str] = []
    sides: list[int] = []
    features = (schema.CAPTION, schema.PHRASE, schema.HEIGHT, schema.WIDTH)
    for record in read_shards(files, features=features).take(RECORDS).as_numpy_iterator():
        sides.append(int(min(record[schema.HEIGHT], record[schema.WIDTH])))
        for name in (schema.CAPTION, schema.PHRASE):
            texts += [text.decode("utf-8", "replace") for text in record[name]]
    return RecordSample(tuple(texts[:TEXTS]), np.array(sides))


def check_texts(texts: Sequence[str], tokenizer: Tokenizer) -> TextFaults:
    """Count texts that are cut, have unknown words, or have the same ids as another text.

    Texts are compared without white space, after NFKC normalisation and case folding.
    """
    rows: dict[bytes, dict[str, str]] = defaultdict(dict)
    cut_rows: set[bytes] = set()
    unknown_id = getattr(tokenizer, "unknown_id", None)
    cut = longest = unknown = unknown_tokens = tokens = 0
    for start in range(0, len(texts), AT_ONCE):
        chunk = list(texts[start : start + AT_ONCE])
        batch = {name: value.numpy() for name, value in tokenizer(chunk).items()}
        counts = tokenizer.token_counts(chunk).numpy()
        is_unknown = (batch["token_ids"] == unknown_id) & batch["text_mask"]
        unknown += int(is_unknown.any(axis=1).sum())
        unknown_tokens += int(is_unknown.sum())
        tokens += int(batch["text_mask"].sum())
        cut += int((counts > tokenizer.context_length).sum())
        longest = max(longest, int(counts.max()))
        for text, ids, count in zip(chunk, batch["token_ids"], counts, strict=True):
            row = ids.tobytes()
            rows[row].setdefault(_key(text), text)
            if count > tokenizer.context_length:
                cut_rows.add(row)
    alike = {row: tuple(group.values()) for row, group in rows.items() if len(group) > 1}
    return TextFaults(
        len(texts),
        cut,
        longest,
        unknown,
        unknown_tokens / max(tokens, 1),
        tuple(group for row, group in alike.items() if row not in cut_rows),
        tuple(group for row, group in alike.items() if row in cut_rows),
    )


def text_faults(faults: TextFaults, context_length: int) -> list[str]:
    """Return messages about the faults that are frequent enough to matter."""
    lines = []
    if faults.cut_fraction > CUT:
        lines.append(
            f"{faults.cut_fraction:.0%} of the texts are longer than the context of "
            f"{context_length} tokens and are cut (the longest needs {faults.longest}). Increase "
            "--context-length"
        )
    if faults.unknown > UNKNOWN * faults.texts:
        lines.append(
            f"{faults.unknown / faults.texts:.0%} of the texts contain words that are not in the "
            f"vocabulary: {faults.unknown_tokens:.1%} of all tokens are [UNK]. Pack the records "
            "again, which learns a vocabulary without unknown words, or give another --vocabulary"
        )
    for groups, remedy in (
        (
            faults.alike,
            "the vocabulary drops the characters or accents in which they differ. Pack the records "
            "again, which learns one that keeps them, or give another --vocabulary",
        ),
        (
            faults.alike_when_cut,
            f"they differ only after the first {context_length} tokens. Increase --context-length",
        ),
    ):
        if groups:
            texts, (one, other, *_) = sum(map(len, groups)), groups[0]
            lines.append(
                f"{texts:,} different texts have the same ids as another, such as {one[:60]!r} and "
                f"{other[:60]!r}: {remedy}"
            )
    return lines


def picture_faults(short_sides: np.ndarray, image_size: int) -> list[str]:
    """Return a message if pictures are clearly smaller than the model's input."""
    small = short_sides < CLEARLY_SMALLER * image_size
    if not small.any() or small.mean() < SMALL:
        return []
    return [
        f"{small.mean():.0%} of the training pictures have a short side of less than "
        f"{CLEARLY_SMALLER:.0%} of --image-size {image_size} (the median of these is "
        f"{np.median(short_sides[small]):.0f}) and are enlarged, which adds no detail: use a "
        "smaller --image-size, or larger pictures"
    ]


def _key(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
