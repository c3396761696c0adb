"""One side of a comparison: functions of a module that only a process of its own imports."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from typing import Any


@dataclass(frozen=True)
class Side:
    """One way of doing the work, in its own process."""

    process: ProcessPoolExecutor
    module: str

    def do(self, function: str, *arguments) -> Any:
        """Call a function of the module there, and wait for what it returns."""
        return self.process.submit(_call, self.module, function, arguments).result()


@contextmanager
def side(module: str) -> Iterator[Side]:
    """Start the process of one side, for the time of a `with` block."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        yield Side(process, module)


def _call(module: str, function: str, arguments: tuple) -> Any:
    return getattr(import_module(module), function)(*arguments)
