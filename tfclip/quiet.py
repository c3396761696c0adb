"""Keeps TensorFlow's harmless start-up messages off standard error; everything else passes.

No environment variable silences them: they are written before TensorFlow's log is set up. While
TensorFlow is imported and lists its devices, file descriptor 2 therefore points to a temporary
file; afterwards the lines that are not known to be harmless are written to standard error. Nothing
is filtered before or after that. If the process aborts during the import, its message is lost:
`--debug` shows it.
"""

import contextlib
import functools
import importlib.abc
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

HARMLESS = re.compile(
    "|".join(
        (
            r"WARNING: All log messages before absl::InitializeLog\(\) is called",
            # The processor that TensorFlow was built for; no GPU driver.
            r"[IW]\d{4} .*\b(port|cudart_stub|cpu_feature_guard|computation_placer)\.cc:\d+\]",
            r"To enable the following instructions: ",
            # 303: no driver library, 100: no device. Other numbers mean that a GPU does not work.
            r"E\d{4} .*\bcuda_\w+\.cc:\d+\] failed call to cuInit: .*"
            r"(UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE|\(100\))",
            # Two libraries of one build register the same factories.
            r"[EW]\d{4} .*\bcuda_\w+\.cc:\d+\] Unable to register cu\w+ factory",
            r"E\d{4} .*\bcomputation_placer\.cc:\d+\] computation placer already registered",
            # Features are stored in float16; they are cast to float32 before anything computes.
            r"E\d{4} .*\butil\.cc:\d+\] oneDNN supports DT_HALF only on platforms with AVX-512",
            r"\d{4}-\d\d-\d\d .*: [EIW] .*\b(port|cudart_stub|cpu_feature_guard)\.cc:\d+\]",
        )
    )
)
"""The beginnings of the lines that are suppressed."""


def without_harmless(lines: Sequence[str]) -> list[str]:
    """Return the lines that are not known to be harmless."""
    return [line for line in lines if not HARMLESS.match(line)]


@contextlib.contextmanager
def filtered_stderr() -> Iterator[None]:
    """Collect what is written to file descriptor 2, and write the lines that matter at the end."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            text = held.read().decode(errors="replace")
            os.write(2, "".join(without_harmless(text.splitlines(keepends=True))).encode())


@functools.cache
def quiet_float16() -> None:
    """Let TensorFlow say unseen, as it does once in a process, that oneDNN has no float16 here."""
    import tensorflow as tf

    with filtered_stderr():
        tf.cast([0.0], tf.float16)


class _TensorFlowFinder(importlib.abc.MetaPathFinder):
    """Filters standard error while the module `tensorflow` is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def quietly(module: ModuleType) -> None:
            with filtered_stderr():
                execute(module)
                module.config.list_physical_devices()

        spec.loader.exec_module = quietly  # type: ignore[method-assign]
        return spec


def quiet_tensorflow() -> None:
    """Filter TensorFlow's start-up messages when this process imports it.

    A log level chosen by the user is kept. The default shows errors and hides warnings, most of
    which concern things that a user cannot change.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    is_installed = any(isinstance(finder, _TensorFlowFinder) for finder in sys.meta_path)
    if "tensorflow" not in sys.modules and not is_installed:
        sys.meta_path.insert(0, _TensorFlowFinder())
