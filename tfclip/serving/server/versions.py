"""Watches the versions in a folder of exports: the highest is loaded, warmed up and served.

As in TensorFlow Serving with `model_version_policy { latest { num_versions: 1 } }`, the old version
answers until the new one is ready, finishes its running requests, and is unloaded. A version that
cannot be loaded is reported, and the old one stays.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from tfclip.memory import free_garbage
from tfclip.serving import signatures as names
from tfclip.serving.operating_points import OPERATING_POINTS
from tfclip.serving.saved_model import load_card, load_signatures
from tfclip.serving.server.refusals import Refused
from tfclip.serving.server.startup import find_versions, need_versions
from tfclip.serving.warmup import can_warm_up, example_inputs, read_warmup_requests, replay

START, LOADING, AVAILABLE, UNLOADING, END = range(10, 51, 10)
STATE_NAMES = {10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
# The most ended versions that are listed in the status.
_MOST_ENDED = 10


@dataclass
class LoadedVersion:
    """A loaded version: its signatures, their definitions, and its model card."""

    number: int
    signatures: Mapping[str, Callable]
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef]
    card: dict
    operating_points: dict | None = None
    in_use: int = 0
    idle: threading.Condition = field(default_factory=threading.Condition)

    def row(self, signature: str) -> str:
        """Return the name in `signatures.SIGNATURES` of a signature of this version."""
        if signature == names.SERVING_DEFAULT:
            return names.default_row(self.signatures)
        return signature


@dataclass
class VersionState:
    """The state of a version in the model status."""

    state: int
    error_code: int = 0
    error_message: str = ""


class ModelVersions:
    """The versions in a folder, watched by a thread.

    Args:
        folder: a folder with versions 1, 2, ..., or a single version, which is then served alone.
        model: the name of the model, for messages.
        poll_seconds: seconds between two checks of the folder.
        say: called with each line for the log.
        warm_up: whether to run the warm-up requests of a version before it answers.
        loaded: called with the number of a loaded version and the seconds that took.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        poll_seconds: float,
        say: Callable[[str], None],
        warm_up: bool = True,
        loaded: Callable[[int, float], None] = lambda version, seconds: None,
    ):
        self.model = model
        self._folder = Path(folder)
        self._poll_seconds = poll_seconds
        self._say = say
        self._loaded = loaded
        self._warm_up = warm_up
        self._lock = threading.Lock()
        self._current: LoadedVersion | None = None
        self._states: dict[int, VersionState] = {}
        self._failed: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)

    def start(self) -> None:
        """Load the highest version, then watch for higher ones.

        Raises:
            FileNotFoundError: there is no version.
            ValueError: it cannot be loaded.
        """
        found = need_versions(self._folder)
        number = max(found)
        self._load(number, found[number])
        if self._current is None:
            raise ValueError(self._states[number].error_message)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching the folder."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def states(self) -> dict[int, VersionState]:
        """Return the state of every version seen so far, by number."""
        with self._lock:
            return dict(sorted(self._states.items()))

    def current(self) -> LoadedVersion:
        """Return the version that answers requests without a version number; call after `start`."""
        with self._lock:
            if self._current is None:
                raise RuntimeError("no version is loaded: call start() first")
            return self._current

    @contextmanager
    def use(self, model: str, number: int | None, label: str | None = None):
        """Yield the version that a request names, which stays loaded within the block.

        Raises:
            Refused: NOT_FOUND if it is not loaded, INVALID_ARGUMENT for an unknown label.
        """
        if label:
            raise Refused("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        with self._lock:
            version = self._current
            is_wrong = model != self.model or (
                version is not None and number not in (None, version.number)
            )
            if version is None or is_wrong:
                which = f"Latest({model})" if number is None else f"Specific({model}, {number})"
                raise Refused("NOT_FOUND", f"Servable not found for request: {which}")
            with version.idle:
                version.in_use += 1
        try:
            yield version
        finally:
            with version.idle:
                version.in_use -= 1
                version.idle.notify_all()

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            found = find_versions(self._folder)
            highest = max(found, default=0)
            if highest > self.current().number and self._changed(highest, found[highest]):
                self._load(highest, found[highest])

    def _changed(self, number: int, path: Path) -> bool:
        """Return whether a version that could not be loaded has been written again since."""
        return self._failed.get(number) != _written(path)

    def _load(self, number: int, path: Path) -> None:
        began, written = time.monotonic(), _written(path)
        self._set(number, LOADING)
        try:
            version = _open(number, path, self._warm_up)
        except Exception as error:
            message = " ".join(str(error).split())[:500]
            self._failed[number] = written
            self._set(number, END, 3, message)
            self._say(f"version {number} cannot be loaded and is not served: {message}")
            return
        with self._lock:
            old, self._current = self._current, version
            self._states[number] = VersionState(AVAILABLE)
        seconds = time.monotonic() - began
        self._loaded(number, seconds)
        what = "loaded and warmed up" if self._warm_up else "loaded"
        self._say(f"version {number} is {what} in {seconds:.1f} s")
        if old is not None:
            self._retire(old)

    def _retire(self, old: LoadedVersion) -> None:
        self._set(old.number, UNLOADING)
        with old.idle:
            old.idle.wait_for(lambda: old.in_use == 0)
        old.signatures, old.signature_defs = {}, {}
        free_garbage()
        self._set(old.number, END)
        self._say(f"version {old.number} is unloaded")

    def _set(self, number: int, state: int, code: int = 0, message: str = "") -> None:
        with self._lock:
            self._states[number] = VersionState(state, code, message)
            ended = [n for n, s in sorted(self._states.items()) if s.state == END]
            for old in ended[:-_MOST_ENDED]:
                del self._states[old]


def _written(path: Path) -> float:
    try:
        return (path / "saved_model.pb").stat().st_mtime
    except OSError:
        return 0.0


def _open(number: int, path: Path, warm_up: bool) -> LoadedVersion:
    card = load_card(path)
    signatures = load_signatures(path)
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    definitions = {
        name: definition
        for name, definition in saved.meta_graphs[0].signature_def.items()
        if not name.startswith("__")
    }
    if strange := set(signatures) - {*names.SIGNATURES, names.SERVING_DEFAULT}:
        raise ValueError(f"{path} has signatures that tfclip does not write: {sorted(strange)}")
    if warm_up:
        _warm_up(path, signatures)
    return LoadedVersion(number, signatures, definitions, card, _points(path))


def _warm_up(path: Path, signatures: Mapping[str, Callable]) -> None:
    """Run the warm-up requests of the export, or else one example of each batch size."""
    if can_warm_up() and (path / names.WARMUP_REQUESTS).is_file():
        replay(read_warmup_requests(path), signatures)
        return
    for row in set(signatures) - {names.SERVING_DEFAULT}:
        for size in names.ALLOWED_BATCH_SIZES:
            inputs = example_inputs(row, size)
            signatures[row](**{k: tf.constant(v, tf.string) for k, v in inputs.items()})


def _points(path: Path) -> dict | None:
    """Return the operating points beside the model card, or None."""
    try:
        return json.loads((path / OPERATING_POINTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
