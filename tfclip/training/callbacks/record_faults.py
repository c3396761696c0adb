"""What a sample of the training records shows to be wrong before training begins, in words."""

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
# Shares from which on it is worth a line.
CUT, UNKNOWN, SMALL = 0.05, 0.01, 0.01


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
    """What a tokenizer does to some texts.

    Attributes:
        texts: how many there are.
        cut: texts that are longer than the context.
        longest: ids that the longest one needs.
        unknown: texts with words that are [UNK].
        unknown_tokens: the share of [UNK] among the tokens.
        alike: groups of different texts that have equal ids.
        alike_when_cut: those of them in which a text is cut.
    """

    texts: int
    cut: int
    longest: int
    unknown: int
    unknown_tokens: float
    alike: tuple[tuple[str, ...], ...]
    alike_when_cut: tuple[tuple[str, ...], ...]

    @property
    def share_cut(self) -> float:
        """Of the texts, those that are cut."""
        return self.cut / max(self.texts, 1)


def sample_records(files: Sequence[str]) -> RecordSample:
    """Read the first `RECORDS` records, and at most `TEXTS` of their texts.

    Args:
        files: shards; those of several sets are read in turn.
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


def look_at_texts(texts: Sequence[str], tokenizer: Tokenizer) -> TextFaults:
    """Count what the tokenizer cuts, does not know, and does not tell apart.

    Texts are different where they are so without white space, in Unicode's NFKC case folding.
    """
    rows: dict[bytes, dict[str, str]] = defaultdict(dict)
    cut_rows: set[bytes] = set()
    unknown_id = getattr(tokenizer, "unknown_id", None)
    cut = longest = unknown = unknown_tokens = tokens = 0
    for start in range(0, len(texts), AT_ONCE):
        some = list(texts[start : start + AT_ONCE])
        batch = {name: value.numpy() for name, value in tokenizer(some).items()}
        counts = tokenizer.token_counts(some).numpy()
        found = (batch["token_ids"] == unknown_id) & batch["text_mask"]
        unknown += int(found.any(axis=1).sum())
        unknown_tokens += int(found.sum())
        tokens += int(batch["text_mask"].sum())
        cut += int((counts > tokenizer.context_length).sum())
        longest = max(longest, int(counts.max()))
        for text, ids, count in zip(some, batch["token_ids"], counts, strict=True):
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


def text_faults(found: TextFaults, context_length: int) -> list[str]:
    """The diagnoses that `found` gives cause to."""
    lines = []
    if found.share_cut > CUT:
        lines.append(
            f"{found.share_cut:.0%} of the texts are longer than the context of {context_length} "
            f"tokens, and what does not fit is cut (the longest needs {found.longest}). Give a "
            "longer --context-length"
        )
    if found.unknown > UNKNOWN * found.texts:
        lines.append(
            f"{found.unknown / found.texts:.0%} of the texts hold words that the vocabulary does "
            f"not have: {found.unknown_tokens:.1%} of all tokens are [UNK]. Pack the records "
            "again, which learns a vocabulary without unknown words, or give another --vocabulary"
        )
    for groups, remedy in (
        (
            found.alike,
            "the vocabulary drops what tells them apart. Pack the records again, which learns one "
            "that keeps every mark, or give another --vocabulary",
        ),
        (
            found.alike_when_cut,
            f"they differ after the {context_length} tokens that are read. Give a longer "
            "--context-length",
        ),
    ):
        if groups:
            texts, (one, other, *_) = sum(map(len, groups)), groups[0]
            lines.append(
                f"{texts:,} different texts have the ids of another one, such as {one[:60]!r} and "
                f"{other[:60]!r}: {remedy}"
            )
    return lines


def picture_faults(short_sides: np.ndarray, image_size: int) -> list[str]:
    """Whether pictures are smaller than the model's input."""
    small = short_sides < image_size
    if not small.any() or small.mean() < SMALL:
        return []
    return [
        f"{small.mean():.0%} of the training pictures have a short side of less than --image-size "
        f"{image_size} (the median of these is {np.median(short_sides[small]):.0f}) and are "
        "enlarged, which adds nothing to see: train with a smaller --image-size, or on larger "
        "pictures"
    ]


def _key(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
