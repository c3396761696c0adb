"""python -m benchmarks.fuzz_inputs: damaged files of every format that tfclip reads.

A small whole file of each format is damaged at random, 2,000 times by default, and read. Allowed
are an error message of one line, rejects with a reason, and a reading that other programs agree
with, where there is one to compare with (`fuzzing.references`). Everything else counts as a
finding: another exception, more than ten seconds, a text that the file does not hold for that
picture, or something left out without a word. A finding can be repeated with --formats NAME
--first NUMBER --mutations 1.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.fuzzing.mutations import mutated
from tfclip.console import Command, progress, run, say
from tfclip.naming import unknown

SHOWN = 3
"""Findings of a format that are printed."""


@dataclass(frozen=True)
class FuzzFlags:
    """Damage files of every input format, and read them."""

    formats: tuple[str, ...] = ()
    """Names of formats; by default all."""
    mutations: int = 2000
    """Damaged files of each format."""
    first: int = 0
    """The number of the first one."""

    def __post_init__(self):
        if self.mutations < 1 or self.first < 0:
            raise ValueError(f"received --mutations {self.mutations}; allowed: 1 or more")


def fuzz(name: str, folder: Path, mutations: int, first: int = 0) -> dict:
    """Damage the files of one format; return the counts of outcomes and the findings.

    Args:
        name: a name of `FORMATS`.
        folder: an empty folder to work in.
        mutations: how many damaged files.
        first: the number of the first one.

    Raises:
        AssertionError: the whole file is not read.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from benchmarks.fuzzing.formats import FORMATS
    from benchmarks.fuzzing.outcomes import outcomes_of

    made = FORMATS[name]
    path = made.make(folder)
    whole = path.read_bytes()
    with contextlib.redirect_stderr(io.StringIO()):  # imports take their time, so without a limit
        outcomes = made.read(folder, path, whole)
    if "read" not in outcomes:
        raise AssertionError(f"the whole file of {name} is {outcomes}")
    content = whole if made.inner is None else made.inner()
    counts: Counter[str] = Counter()
    findings = []
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, first + mutations):
        damaged = mutated(content, f"{name} {number}")
        path.write_bytes(made.wrap(damaged))
        try:
            found = outcomes_of(lambda damaged=damaged: made.read(folder, path, damaged))
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__}: {error}"[:300]
            findings.append(f"{number}: {told} ({Path(last.filename).name}:{last.lineno})")
            continue
        kind = next(k for k in ("error", "rejected", "read") if k in found or not found)
        counts[kind] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return {"mutations": mutations, **counts, "findings": findings, "grown_mib": grown // 1024}


def measure(flags: FuzzFlags) -> dict:
    """Run the benchmark; return the figures.

    Raises:
        ValueError: an unknown format.
    """
    from benchmarks.fuzzing.formats import FORMATS

    for name in flags.formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    results = {}
    started = time.monotonic()
    names = flags.formats or tuple(FORMATS)
    for name in progress(names, total=len(names), what="formats"):
        with (
            ProcessPoolExecutor(1, get_context("spawn")) as process,
            tempfile.TemporaryDirectory() as folder,
        ):
            given = (name, Path(folder), flags.mutations, flags.first)
            results[name] = process.submit(fuzz, *given).result()
        one = results[name]
        say(
            f"{name:22} {one.get('read', 0):6,} read {one.get('rejected', 0):6,} rejected "
            f"{one.get('error', 0):6,} errors {len(one['findings']):4} findings, memory "
            f"+{one['grown_mib']} MiB"
        )
        for finding in one["findings"][:SHOWN]:
            say(f"  {finding}")
    total = sum(len(one["findings"]) for one in results.values())
    seconds = round(time.monotonic() - started)
    each = f"{flags.mutations:,} damaged files each"
    say(f"{len(results)} formats, {each}: {total} findings, {seconds} s")
    return {"formats": results, "findings": total, "seconds": seconds}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code: 1 when there are findings."""
    return run("benchmarks.fuzz_inputs", Command(FuzzFlags, measure), argv)


if __name__ == "__main__":
    sys.exit(main())
