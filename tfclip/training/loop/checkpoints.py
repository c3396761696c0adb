"""Checkpoints of a run: all variables and further state in one file, written atomically.

A checkpoint is an uncompressed `.npz`, a zip file with a CRC-32 for each entry. It is written under
a temporary name, flushed to the disk and renamed, so that a file with the name of a checkpoint is
complete. Damage is detected when it is read, and the previous checkpoint is used instead.

When a run has ended, its last checkpoint is replaced by one without weights: they are in the models
of the run, and the state of the optimizer, three times as large, is needed no more.
"""

from __future__ import annotations

import io
import itertools
import json
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfclip import files
from tfclip.console import say
from tfclip.training.interval import Interval

if TYPE_CHECKING:
    import keras

FORMAT = 1
# Of a run that has ended: without weights.
ENDED_FORMAT = 2
KEPT = 3
STATE = "state.json"
# The folder of the model of the last step of a run that has ended.
LAST = "last"
VARIABLE = "variable"
# By default, saving takes at most this fraction of the time, and happens at most once a minute.
LARGEST_FRACTION = 0.02
AT_LEAST_SECONDS = 60.0
# The assumed speed of the disk before the first checkpoint has been measured.
ASSUMED_BYTES_PER_SECOND = 100e6


class Misfit(ValueError):
    """An intact checkpoint of a model other than the one to resume."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: the number of updates, all variables, and further state."""

    path: Path
    step: int
    state: Mapping
    arrays: Mapping[str, np.ndarray]

    @property
    def has_weights(self) -> bool:
        """Return False for a run that has ended and whose models are written."""
        return self.state["format"] == FORMAT

    def restore(self, variables: Sequence[keras.Variable]) -> None:
        """Assign the saved values to `variables`, which are in the order of saving.

        Raises:
            Misfit: they differ from the saved variables.
        """
        described = _described(variables)
        if described != self.state["variables"]:
            pairs = zip(described, self.state["variables"], strict=False)
            differ = [f"{ours} for {theirs}" for ours, theirs in pairs if ours != theirs]
            raise Misfit(
                f"{self.path} is a checkpoint of another model: it has "
                f"{len(self.state['variables'])} variables, this model {len(variables)}; "
                f"{(differ or ['some are missing'])[0]}"
            )
        for number, variable in enumerate(variables):
            value = self.arrays[_entry(number)]
            parts = _parts(variable)
            if value.dtype.kind == "V":  # bfloat16, for which the file format has no name
                value = value.view(parts[0].dtype.as_numpy_dtype)
            is_per_replica = value.ndim > len(variable.shape)
            for index, part in enumerate(parts):
                part.assign(value[index] if is_per_replica else value)


class Checkpoints:
    """The last `KEPT` checkpoints of a run, as `folder/step-00001234.npz`.

    Args:
        folder: the folder of the checkpoints.
        interval: the interval between checkpoints.
        writes: False for workers other than the chief, which only read them.
    """

    def __init__(self, folder: Path, interval: Interval, *, writes: bool = True):
        self.folder = Path(folder)
        self.interval = interval
        self.writes = writes
        self.seconds = 0.0
        self._last_cost = 0.0
        self._last_step = 0
        self._last_time = time.monotonic()

    def begin(self, step: int, size: int = 0) -> None:
        """Start counting intervals at `step` and now; remove the remains of interrupted saves.

        Args:
            step: the number of updates so far.
            size: the approximate bytes of a checkpoint.
        """
        self._last_step, self._last_time = step, time.monotonic()
        self._last_cost = size / ASSUMED_BYTES_PER_SECOND
        if self.writes:
            files.remove_unfinished(self.folder)

    def due(self, step: int) -> bool:
        """Return whether a checkpoint is due after update `step`."""
        if not self.writes or step == self._last_step:
            return False
        if self.interval.steps is not None:
            return step % self.interval.steps == 0
        wait = self.interval.seconds or max(AT_LEAST_SECONDS, self._last_cost / LARGEST_FRACTION)
        return time.monotonic() - self._last_time >= wait

    def save(
        self,
        step: int,
        variables: Sequence[keras.Variable],
        state: Mapping,
        arrays: Mapping[str, np.ndarray] | None = None,
        started: float | None = None,
    ) -> None:
        """Write the checkpoint of update `step`, and remove all but the last `KEPT`.

        Args:
            step: the number of updates so far.
            variables: the variables to save.
            state: further state as JSON types; NaN and infinities are allowed.
            arrays: further arrays by name.
            started: the `time.monotonic` at which preparations for saving began; by default now.

        Raises:
            OSError: the file cannot be written.
        """
        if not self.writes:
            return
        started = time.monotonic() if started is None else started
        path = self.folder / f"step-{step:08d}.npz"
        content = {"format": FORMAT, "step": step, **state, "variables": _described(variables)}
        # One after the other: all values at once would take as much memory again.
        values = ((_entry(number), _value(variable)) for number, variable in enumerate(variables))
        _write_all(path, content, itertools.chain(values, (arrays or {}).items()))
        for old in self._paths()[KEPT:]:
            old.unlink(missing_ok=True)
        self._last_step, self._last_time = step, time.monotonic()
        self._last_cost = self._last_time - started
        self.seconds += self._last_cost

    def finish(self) -> None:
        """Replace the checkpoints of a run that has ended by one without weights.

        It has the checksums of the weights and of the optimizer, and the state of the callbacks. To
        be called when the models of the run are written.

        Raises:
            OSError: the file cannot be written.
        """
        newest = self.newest() if self.writes else None
        if newest is None or not newest.has_weights:
            return
        of_callbacks = {n: a for n, a in newest.arrays.items() if not n.startswith(VARIABLE)}
        checksums = [
            zlib.crc32(newest.arrays[_entry(number)].tobytes())
            for number in range(len(newest.state["variables"]))
        ]
        content = {**newest.state, "format": ENDED_FORMAT, "checksums": checksums}
        _write_all(newest.path, content, of_callbacks.items())
        for old in self._paths()[1:]:
            old.unlink(missing_ok=True)

    def newest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint, None if there are none; report damaged ones.

        Raises:
            ValueError: there are checkpoints, and all are damaged.
        """
        damaged = []
        for path in self._paths():
            try:
                checkpoint = _read(path)
            except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
                damaged.append(path)
                say(f"checkpoint {path} is damaged ({error}); using the previous one")
                continue
            return checkpoint
        if damaged:
            raise ValueError(
                f"all checkpoints in {self.folder} are damaged; start again with --overwrite, or "
                "choose another --run"
            )
        return None

    def newest_path(self) -> Path | None:
        """Return the path of the newest checkpoint, or None."""
        return next(iter(self._paths()), None)

    def _paths(self) -> list[Path]:
        """Return the existing checkpoints, the newest first."""
        return sorted(self.folder.glob("step-*.npz"), reverse=True)


def _read(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as packed:
        state = json.loads(packed.read(STATE))
        if state["format"] not in (FORMAT, ENDED_FORMAT):
            raise ValueError(
                f"format {state['format']}; this tfclip reads formats {FORMAT} and {ENDED_FORMAT}"
            )
        names = [name for name in packed.namelist() if name != STATE]
        # Reading an entry to its end verifies its checksum.
        arrays = {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(packed.read(name)))
            for name in names
        }
    missing = {_entry(number) for number in range(len(state["variables"]))} - arrays.keys()
    if missing and state["format"] == FORMAT:
        raise ValueError(f"{len(missing)} variables are missing")
    return Checkpoint(path, state["step"], state, arrays)


def _write_all(path: Path, content: Mapping, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    with (
        files.new_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as packed,
    ):
        packed.writestr(STATE, json.dumps(content))
        for name, array in arrays:
            _write(packed, name, array)


def _write(packed: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with packed.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def _entry(number: int) -> str:
    return f"{VARIABLE}-{number:05d}"


def _described(variables: Sequence[keras.Variable]) -> list[str]:
    # Not by name: Keras numbers names across all models of a process.
    return [f"{v.dtype} {list(v.shape)}" for v in variables]


def _parts(variable: keras.Variable) -> Sequence:
    """Return the TensorFlow variables of a Keras variable: one per replica of this worker."""
    return getattr(variable.value, "values", (variable.value,))


def _value(variable: keras.Variable) -> np.ndarray:
    """Return the value of a variable, or the stacked values of its replicas if they differ."""
    values = [part.numpy() for part in _parts(variable)]
    if all(value.tobytes() == values[0].tobytes() for value in values[1:]):
        return values[0]
    return np.stack(values)
