"""Runs picture files through a classifier in batches; one is decoded while another is embedded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tfclip.console import progress
from tfclip.serving.prediction.picture_files import DECODED, read_picture
from tfclip.serving.signatures import VALID

PICTURES_AT_ONCE = 32
# The number of concurrent calls: one decodes while the other runs the tower.
_CALLS = 2


@dataclass(frozen=True)
class Answered:
    """The answer for one file.

    Attributes:
        path: the file.
        outputs: the outputs of the classifier for this picture, by name; None for a reject.
        reason: the reason of a reject, or None.
        content: the bytes of the file.
    """

    path: str
    outputs: Mapping[str, np.ndarray] | None
    reason: str | None
    content: bytes


def answer_files(
    classify: Callable[[Sequence[bytes]], Mapping[str, np.ndarray]],
    paths: Sequence[str],
    at_once: int = PICTURES_AT_ONCE,
) -> Iterator[Answered]:
    """Yield the answers for all files in order; memory does not grow with their number.

    Args:
        classify: a function from N encoded pictures to arrays with N rows each, including `valid`.
        paths: the files.
        at_once: the largest N.
    """

    def answer(batch: Sequence[str]) -> list[Answered]:
        read = [read_picture(path) for path in batch]
        good = [row for row, (_, reason) in enumerate(read) if reason is None]
        outputs = classify([read[row][0] for row in good]) if good else {}
        place = {row: at for at, row in enumerate(good)}
        answers = []
        for row, (path, (content, reason)) in enumerate(zip(batch, read, strict=True)):
            if reason is None and not outputs[VALID][place[row]]:
                reason = f"cannot be decoded; allowed: {DECODED}"
            of_picture = None
            if reason is None:
                of_picture = {name: values[place[row]] for name, values in outputs.items()}
            answers.append(Answered(path, of_picture, reason, content))
        return answers

    batches = [paths[start : start + at_once] for start in range(0, len(paths), at_once)]
    with ThreadPoolExecutor(_CALLS) as pool:
        waiting: deque = deque()
        upcoming = iter(batches)
        for _ in progress(range(len(batches)), total=len(batches), what="predicting"):
            while len(waiting) < _CALLS and (batch := next(upcoming, None)) is not None:
                waiting.append(pool.submit(answer, batch))
            yield from waiting.popleft().result()
