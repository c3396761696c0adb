"""Worker processes that check pictures, in order, with a bounded number under way."""

import contextlib
import itertools
import os
import pickle
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tfclip.records.check import BadPicture, Checked

Item = TypeVar("Item")
CHUNK = 16
"""Pictures per request: enough to hide the way to a process and back, few enough to stay small."""


def check_in_order(
    items: Iterable[Item],
    picture_of: Callable[[Item], Path | bytes | None],
    *,
    image_size: int | None,
    workers: int,
) -> Iterator[tuple[Item, Checked | BadPicture | None]]:
    """Yield every item with its checked picture, in the order given.

    The answers do not depend on the number of workers, and at most a few chunks per worker are in
    memory, however many items there are.

    Args:
        items: anything; read lazily.
        picture_of: the picture of an item; None for an item without one, which yields None.
        image_size: see `check.check_picture`.
        workers: how many processes, at least 1.

    Raises:
        ChildProcessError: a worker was killed (out of memory, as a rule).
    """
    # Processes of our own rather than multiprocessing's: those import the caller's main module
    # again, and with it whatever that imports, TensorFlow included.
    processes = [_start() for _ in range(workers)]
    idle: queue.SimpleQueue = queue.SimpleQueue()
    for process in processes:
        idle.put(process)

    def ask(chunk: list[Item]) -> list[tuple[Item, Checked | BadPicture | None]]:
        pictures = [picture_of(item) for item in chunk]
        process = idle.get()
        try:
            request = ([picture for picture in pictures if picture is not None], image_size)
            pickle.dump(request, process.stdin, protocol=5)
            process.stdin.flush()
            answers = iter(pickle.load(process.stdout))
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            named = ", ".join(str(p) for p in pictures if isinstance(p, Path))
            raise ChildProcessError(
                f"a packing worker died (exit code {process.wait()}) at one of: {named or 'bytes'}"
            ) from None
        finally:
            idle.put(process)
        return [
            (item, None if picture is None else next(answers))
            for item, picture in zip(chunk, pictures, strict=True)
        ]

    try:
        with ThreadPoolExecutor(workers) as threads:  # each thread waits for one process
            waiting: deque = deque()
            for chunk in _chunks(items):
                waiting.append(threads.submit(ask, chunk))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
    finally:
        for process in processes:
            process.kill()  # they hold nothing: no state, no open file
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
            process.wait()


def _start() -> subprocess.Popen:
    package = str(Path(__file__).parents[2])
    paths = [package, os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        # -P: a folder named tfclip where the command happens to run is not the package.
        [sys.executable, "-P", "-m", "tfclip.records.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk
