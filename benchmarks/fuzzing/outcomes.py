"""What may come of a damaged input: a sound reading, rejects with a reason, or an error of one
line; and how the reading is compared with an independent one."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, Sample, SourceOptions

LONGEST_ERROR = 2000
LONGEST_REASON = 1000
SECONDS = 10
"""Of processor time; reading one of these small files must not take longer."""

READ, REJECTED, ERROR = "read", "rejected", "error"

Texts = Mapping[str, list[str]]
"""The captions and labels of each picture, sorted."""


class Wrong(AssertionError):
    """An input was read as what it does not say, or without a word about what was passed over."""


class Slow(AssertionError):
    """Reading took too long."""


def outcomes_of(read: Callable[[], set[str]]) -> set[str]:
    """Call `read` with a time limit; a ValueError or OSError of one line is the outcome "error".

    Raises:
        Wrong: an error message that is empty, too long or of several lines.
        Slow: it took longer than `SECONDS`.
        Exception: whatever else `read` raises.
    """
    with time_limit(), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read()
        except (ValueError, OSError) as error:
            message = str(error)
            if not message or len(message.splitlines()) > 1 or len(message) > LONGEST_ERROR:
                raise Wrong(f"a message that is no line: {message[:300]!r}") from error
            if isinstance(error, UnicodeDecodeError):
                raise Wrong(f"a message that names no file: {message}") from error
            return {ERROR}


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raise `Slow` in the main thread after `SECONDS`."""

    def ring(*_) -> None:
        raise Slow(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def read_source(
    name: str, data: Path, options: SourceOptions, expected: Texts | None | bool = False
) -> set[str]:
    """Read all of a data set, check every item, and compare it with an independent reading.

    Args:
        name: a source.
        data: what it opens.
        options: how.
        expected: what an independent reader gets out of the file: None when it refuses it, False
            when there is none to compare with.

    Raises:
        Wrong: an item that is not sound; a text that is of another picture; or something that was
            not read, without an error, a reject or a dropped text.
    """
    source = open_source(name, data, options)
    read: dict[str, list[str]] = {}
    outcomes, partly = set(), set()
    for split in source.counts:
        items = list(source.read(split))
        if len(items) != source.counts[split]:
            raise Wrong(f"{len(items)} items of {split}, announced were {source.counts[split]}")
        for item in items:
            outcomes.add(_checked(item, data))
            if isinstance(item, Sample):
                key = item.key.partition("/")[2]
                read[key] = sorted([*item.captions, *item.labels, *item.difficult])
                partly |= {key} if item.dropped else set()
    if expected is not False:
        _compare(read, partly, outcomes, expected)
    return outcomes


def _checked(item: Sample | Rejected, data: Path) -> str:
    if isinstance(item, Rejected):
        if not item.reason or len(item.reason) > LONGEST_REASON:
            raise Wrong(f"{item.key}: a reason of {len(item.reason)} characters")
        return REJECTED
    if isinstance(item.image, Path):
        root = os.path.realpath(data if data.is_dir() else data.parent)
        if not os.path.realpath(item.image).startswith(root):
            raise Wrong(f"{item.key}: {item.image} is outside the data")
    texts = [*item.captions, *(region.phrase for region in item.regions), *item.labels]
    for text in texts:
        if not text.strip() or len(text) > 10_000:
            raise Wrong(f"{item.key}: the text {text[:100]!r}")
    "".join((item.key, *texts)).encode()  # no half of a surrogate pair
    return READ


def _compare(read: Texts, partly: set[str], outcomes: set[str], expected: Texts | None) -> None:
    if expected is None:
        if REJECTED not in outcomes:
            raise Wrong("the format's own library refuses the file; here nothing was rejected")
        return
    for key, texts in read.items():
        others = expected.get(key)
        # Where something was rejected or dropped, that is why a text is missing; none may be new.
        lenient = key in partly or REJECTED in outcomes
        same = others is not None and (
            not Counter(texts) - Counter(others) if lenient else texts == sorted(others)
        )
        if not same:
            raise Wrong(f"{key}: read {texts}; expected {expected.get(key)}"[:500])
    if REJECTED not in outcomes and (lost := set(expected) - set(read)):
        raise Wrong(f"{sorted(lost)[:3]} are not read, and nothing is said about them")
