"""Draws a contact sheet of the pairs of picture and caption that fit worst."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfclip.records import schema
from tfclip.records.contact_sheet import draw_sheet
from tfclip.records.reader import Record, read_split

NOT_DRAWN = (schema.PHRASE, *schema.BOX, schema.LABEL, schema.DIFFICULT)


def draw_worst(records: Path, scores: Mapping[str, np.ndarray], out: Path, pictures: int) -> int:
    """Draw the worst pairs of all scored splits into the picture file `out`, the worst first.

    Args:
        records: a packed set.
        scores: for each split, how well each of its M captions fits, in order.
        out: see `contact_sheet`.
        pictures: the largest number of pairs.

    Returns:
        The number of pairs drawn.
    """
    listed = sorted(
        (float(scores[split][at]), split, int(at))
        for split in scores
        for at in np.argsort(scores[split], kind="stable")[:pictures]
    )[:pictures]
    pairs: dict[tuple[str, int], Record] = {}
    for split in scores:
        wanted = {at for _, of_split, at in listed if of_split == split}
        if wanted:
            pairs |= {(split, at): one for at, one in _pairs(records, split, wanted)}
    headings = [f"fit {score:.3f}" for score, _, _ in listed]
    return draw_sheet([pairs[split, at] for _, split, at in listed], out, headings)


def _pairs(records: Path, split: str, wanted: set[int]):
    """Yield index and record, with only this caption, of each caption in `wanted`."""
    start = 0
    for record in read_split(records, split).as_numpy_iterator():
        captions = record[schema.CAPTION]
        for at in sorted(wanted & set(range(start, start + len(captions)))):
            one = record | {name: record[name][:0] for name in NOT_DRAWN}
            yield at, one | {schema.CAPTION: captions[at - start : at - start + 1]}
        start += len(captions)
