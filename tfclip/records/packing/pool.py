"""Worker processes that check pictures, in order, with a bounded number of pending requests."""

import contextlib
import itertools
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeVar

from tfclip.records.check import BadPicture, Checked

Item = TypeVar("Item")
CHUNK = 16
"""Pictures per request: enough to hide the latency of the pipe, few enough to stay small."""
REQUESTS = 3
"""Pending requests of every worker: one in progress, and some that wait."""


class PictureCheckers:
    """Worker processes that run during a `with` block; see `in_order`.

    They are not multiprocessing's, because those import the caller's main module again, and with it
    all its imports, TensorFlow included.
    """

    def __init__(self, workers: int, image_size: int | None):
        """Set the number of processes, at least 1, and `image_size` of `check.check_picture`."""
        self._count, self._image_size = workers, image_size
        self._pending: deque[tuple[_Worker, list]] = deque()

    def __enter__(self) -> "PictureCheckers":
        self._workers = [_Worker() for _ in range(self._count)]
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.close()

    def in_order(
        self, items: Iterable[Item], picture_of: Callable[[Item], Path | bytes | None]
    ) -> Generator[tuple[Item, Checked | BadPicture | None], None, None]:
        """Yield every item with its checked picture, in the order of the items.

        The results do not depend on the number of workers. At most a few chunks per worker are in
        memory.

        Args:
            items: items of any type; read lazily.
            picture_of: returns the picture of an item, or None for an item without one, which is
                yielded with None.

        Raises:
            ChildProcessError: a worker was killed, usually because memory ran out.
        """
        while self._pending:  # an earlier call was not read to its end
            self._oldest()
        # Every worker answers its requests in order, so taking turns keeps the order of the items.
        turns = itertools.cycle(self._workers)
        for chunk in _chunks(items):
            worker = next(turns)
            pictures = [picture_of(item) for item in chunk]
            self._pending.append((worker, list(zip(chunk, pictures, strict=True))))
            worker.send(([p for p in pictures if p is not None], self._image_size))
            if len(self._pending) >= REQUESTS * self._count:
                yield from self._oldest()
        while self._pending:
            yield from self._oldest()

    def _oldest(self) -> list[tuple[Any, Checked | BadPicture | None]]:
        """Return the items of the oldest request with their results."""
        worker, request = self._pending.popleft()
        try:
            answers = iter(worker.receive())
        except EOFError:
            names = ", ".join(str(p) for _, p in request if isinstance(p, Path)) or "bytes"
            raise ChildProcessError(
                f"a packing worker died (exit code {worker.end()}) at one of: {names}"
            ) from None
        return [
            (item, None if picture is None else _result(next(answers))) for item, picture in request
        ]


def _result(answer: tuple | str) -> Checked | BadPicture:
    return BadPicture(answer) if isinstance(answer, str) else Checked(*answer)


class _Worker:
    """One process, and a thread that reads its answers from the pipe.

    Without the thread, a worker that waits for room in the pipe and a packing process that waits to
    send would block each other.
    """

    def __init__(self) -> None:
        self._connection, other_end = Pipe()
        paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            # -P: a folder named tfclip in the working directory must not be imported.
            [sys.executable, "-P", "-m", "tfclip.records.packing.worker", str(other_end.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=2,  # output of libraries must not mix with the result of the command
            pass_fds=[other_end.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        other_end.close()
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=_receive, args=(self._connection, self._answers), daemon=True
        )
        self._thread.start()

    def send(self, request: tuple) -> None:
        with contextlib.suppress(OSError):  # the worker died: `receive` raises
            self._connection.send(request)

    def receive(self) -> list[tuple | str]:
        message = self._answers.get()
        if message is None:
            raise EOFError
        return ForkingPickler.loads(message)

    def end(self) -> int:
        self._process.kill()  # it has no state and no open file
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
