"""Worker processes that check pictures, in order, with a bounded number under way."""

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TypeVar

from tfclip.records.check import BadPicture, Checked

Item = TypeVar("Item")
CHUNK = 16
"""Pictures per request: enough to hide the way to a process and back, few enough to stay small."""

REQUESTS = 3
"""Requests under way for every worker: one that it works on, and some that wait."""


class PictureCheckers:
    """Worker processes, for the time of a `with` block; see `in_order`.

    Processes of our own rather than multiprocessing's: those import the caller's main module again,
    and with it whatever that imports, TensorFlow included.
    """

    def __init__(self, workers: int, image_size: int | None):
        """Say how many processes, at least 1, and what `check.check_picture` shrinks to."""
        self._count, self._image_size = workers, image_size
        self._waiting: deque[tuple[_Worker, list]] = deque()

    def __enter__(self) -> "PictureCheckers":
        self._workers = [_Worker() for _ in range(self._count)]
        return self

    def __exit__(self, *error) -> None:
        for worker in self._workers:
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
        while self._waiting:  # a call before this one was given up
            self._answered()
        # Every worker answers in the order it was asked, so turns are all the bookkeeping.
        turns = itertools.cycle(self._workers)
        for chunk in _chunks(items):
            worker = next(turns)
            pictures = [picture_of(item) for item in chunk]
            self._waiting.append((worker, list(zip(chunk, pictures, strict=True))))
            worker.ask(([p for p in pictures if p is not None], self._image_size))
            if len(self._waiting) >= REQUESTS * self._count:
                yield from self._answered()
        while self._waiting:
            yield from self._answered()

    def _answered(self) -> list[tuple[object, Checked | BadPicture | None]]:
        """Return the answers to the oldest request."""
        worker, asked = self._waiting.popleft()
        try:
            answers = iter(worker.answer())
        except EOFError:
            named = ", ".join(str(p) for _, p in asked if isinstance(p, Path)) or "bytes"
            raise ChildProcessError(
                f"a packing worker died (exit code {worker.end()}) at one of: {named}"
            ) from None
        return [
            (item, None if picture is None else _unpacked(next(answers))) for item, picture in asked
        ]


def _unpacked(answer: tuple | str) -> Checked | BadPicture:
    return BadPicture(answer) if isinstance(answer, str) else Checked(*answer)


class _Worker:
    """One process, and a thread that takes its answers off the pipe: a worker that waited for room
    in it would keep the packing process from sending, and both would wait for ever."""

    def __init__(self):
        self._connection, theirs = Pipe()
        paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            # -P: a folder named tfclip where the command happens to run is not the package.
            [sys.executable, "-P", "-m", "tfclip.records.packing.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a library prints must not get into the command's result
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        theirs.close()
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=_receive, args=(self._connection, self._answers), daemon=True
        )
        self._thread.start()

    def ask(self, request: tuple) -> None:
        with contextlib.suppress(OSError):  # it died: `answer` says so
            self._connection.send(request)

    def answer(self) -> list[tuple | str]:
        message = self._answers.get()
        if message is None:
            raise EOFError
        return ForkingPickler.loads(message)

    def end(self) -> int:
        self._process.kill()  # it holds nothing: no state, no open file
        return self._process.wait()

    def close(self) -> None:
        self.end()
        self._thread.join()
        self._connection.close()


def _receive(connection: Connection, answers: queue.SimpleQueue) -> None:
    while True:
        try:
            answers.put(connection.recv_bytes())
        except (EOFError, OSError):
            answers.put(None)
            return


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk
