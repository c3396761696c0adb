"""Worker processes that check pictures, in order, with a bounded number under way."""

import contextlib
import itertools
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tfclip.records.check import BadPicture, Checked

Item = TypeVar("Item")
CHUNK = 16
"""Pictures per request: enough to hide the way to a process and back, few enough to stay small."""

REQUESTS = 2
"""Requests under way for every worker."""


class PictureCheckers:
    """Worker processes, for the time of a `with` block; see `in_order`.

    Processes of our own rather than multiprocessing's: those import the caller's main module again,
    and with it whatever that imports, TensorFlow included.
    """

    def __init__(self, workers: int, image_size: int | None):
        """Say how many processes, at least 1, and what `check.check_picture` shrinks to."""
        self._workers, self._image_size = workers, image_size

    def __enter__(self) -> "PictureCheckers":
        self._processes = [_Worker() for _ in range(self._workers)]
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        for worker in self._processes * REQUESTS:
            self._ready.put(worker)
        return self

    def __exit__(self, *error) -> None:
        for worker in self._processes:
            worker.close()

    def in_order(
        self, items: Iterable[Item], picture_of: Callable[[Item], Path | bytes | None]
    ) -> Iterator[tuple[Item, Checked | BadPicture | None]]:
        """Yield every item with its checked picture, in the order given.

        The answers do not depend on the number of workers, and at most a few chunks per worker are
        in memory, however many items there are.

        Args:
            items: anything; read lazily.
            picture_of: the picture of an item; None for an item without one, which yields None.

        Raises:
            ChildProcessError: a worker was killed (out of memory, as a rule).
        """
        requests = REQUESTS * self._workers
        with ThreadPoolExecutor(requests) as threads:  # each thread waits for one answer
            waiting: deque = deque()
            for chunk in _chunks(items):
                waiting.append(threads.submit(self._ask, chunk, picture_of))
                if len(waiting) > 2 * requests:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _ask(
        self, chunk: list[Item], picture_of: Callable[[Item], Path | bytes | None]
    ) -> list[tuple[Item, Checked | BadPicture | None]]:
        pictures = [picture_of(item) for item in chunk]
        worker = self._ready.get()
        try:
            asked = [picture for picture in pictures if picture is not None]
            answers = iter(worker.ask((asked, self._image_size)))
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            named = ", ".join(str(p) for p in pictures if isinstance(p, Path)) or "bytes"
            raise ChildProcessError(
                f"a packing worker died (exit code {worker.end()}) at one of: {named}"
            ) from None
        finally:
            self._ready.put(worker)
        return [
            (item, None if picture is None else next(answers))
            for item, picture in zip(chunk, pictures, strict=True)
        ]


class _Worker:
    """One process. While it works on one request, the next one already waits in its pipe."""

    def __init__(self):
        paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            # -P: a folder named tfclip where the command happens to run is not the package.
            [sys.executable, "-P", "-m", "tfclip.records.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        self._sending, self._receiving = threading.Lock(), threading.Lock()

    def ask(self, request: tuple) -> list[Checked | BadPicture]:
        with self._sending:
            pickle.dump(request, self._process.stdin, protocol=5)
            self._process.stdin.flush()
            # Taken before the next may send: who sends first receives first.
            self._receiving.acquire()
        try:
            return pickle.load(self._process.stdout)
        finally:
            self._receiving.release()

    def end(self) -> int:
        self._process.kill()  # it holds nothing: no state, no open file
        return self._process.wait()

    def close(self) -> None:
        self.end()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk
