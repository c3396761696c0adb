"""Checkpoints of a run: every variable and what stands beside them, in one file, whole or absent.

A checkpoint is an uncompressed `.npz`, a zip file, whose entries each carry a CRC-32. It is
written under another name, flushed to the disk and renamed: a file of a checkpoint's name is
complete. Damaged bytes are detected when it is read, and the checkpoint before it is used.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
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
KEPT = 3
STATE = "state.json"
# By default saving takes at most this share of the time, and happens at most once a minute.
SHARE = 0.02
AT_LEAST_SECONDS = 60.0
# The assumed speed of the disk before the first checkpoint has been measured.
ASSUMED_BYTES_PER_SECOND = 100e6


class Misfit(ValueError):
    """A sound checkpoint of another model than the one that is to go on."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read: the number of updates made, the values of all variables, and the rest."""

    path: Path
    step: int
    state: Mapping
    arrays: Mapping[str, np.ndarray]

    def restore(self, variables: Sequence[keras.Variable]) -> None:
        """Give variables, in the order in which they were saved, their values.

        Raises:
            Misfit: they are others than were saved.
        """
        described = _described(variables)
        if described != self.state["variables"]:
            pairs = zip(described, self.state["variables"], strict=False)
            differ = [f"{ours} for {theirs}" for ours, theirs in pairs if ours != theirs]
            raise Misfit(
                f"{self.path} is of another model: {len(self.state['variables'])} variables, here "
                f"{len(variables)}; {(differ or ['some are missing'])[0]}"
            )
        for number, variable in enumerate(variables):
            value = self.arrays[_entry(number)]
            parts = _parts(variable)
            if value.dtype.kind == "V":  # a dtype that the file format has no name for: bfloat16
                value = value.view(parts[0].dtype.as_numpy_dtype)
            apart = value.ndim > len(variable.shape)
            for place, part in enumerate(parts):
                part.assign(value[place] if apart else value)


class Checkpoints:
    """The last `KEPT` checkpoints of a run, as `folder/step-00001234.npz`.

    Args:
        folder: where they lie.
        interval: how often one is due.
        writes: False for a machine of several which only reads them.
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
        """Count intervals from `step` and now on; remove what an interrupted save left.

        Args:
            step: updates made.
            size: about how many bytes a checkpoint will have.
        """
        self._last_step, self._last_time = step, time.monotonic()
        self._last_cost = size / ASSUMED_BYTES_PER_SECOND
        if self.writes:
            files.remove_unfinished(self.folder)

    def due(self, step: int) -> bool:
        """Whether it is time to save after update `step`."""
        if not self.writes or step == self._last_step:
            return False
        if self.interval.steps is not None:
            return step % self.interval.steps == 0
        wait = self.interval.seconds or max(AT_LEAST_SECONDS, self._last_cost / SHARE)
        return time.monotonic() - self._last_time >= wait

    def save(
        self,
        step: int,
        variables: Sequence[keras.Variable],
        state: Mapping,
        arrays: Mapping[str, np.ndarray] | None = None,
        started: float | None = None,
    ) -> None:
        """Write the checkpoint of update `step`, and remove all but the last ones.

        Args:
            step: updates made.
            variables: whose values are kept.
            state: JSON types; NaN and infinities are kept.
            arrays: what else is kept, by name.
            started: by `time.monotonic`, when what belongs to it began; now, when not given.

        Raises:
            OSError: it cannot be written.
        """
        if not self.writes:
            return
        started = time.monotonic() if started is None else started
        path = self.folder / f"step-{step:08d}.npz"
        content = {"format": FORMAT, "step": step, **state, "variables": _described(variables)}
        with (
            files.new_file(path) as beside,
            zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as packed,
        ):
            packed.writestr(STATE, json.dumps(content))
            for number, variable in enumerate(variables):
                _write(packed, _entry(number), _value(variable))
            for name, array in (arrays or {}).items():
                _write(packed, name, array)
        for old in self._paths()[KEPT:]:
            old.unlink(missing_ok=True)
        self._last_step, self._last_time = step, time.monotonic()
        self._last_cost = self._last_time - started
        self.seconds += self._last_cost

    def newest(self) -> Checkpoint | None:
        """Read the last checkpoint that is sound; say so when it is not the last one.

        Raises:
            ValueError: there are some, and none of them is sound.
        """
        damaged = []
        for path in self._paths():
            try:
                checkpoint = _read(path)
            except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
                damaged.append(path)
                say(f"checkpoint {path} is damaged ({error}); taking the one before")
                continue
            return checkpoint
        if damaged:
            raise ValueError(
                f"no checkpoint in {self.folder} is sound; begin anew with --overwrite, or choose "
                "another --run"
            )
        return None

    def newest_path(self) -> Path | None:
        """The last checkpoint, or None."""
        return next(iter(self._paths()), None)

    def _paths(self) -> list[Path]:
        """The checkpoints that there are, the newest first."""
        return sorted(self.folder.glob("step-*.npz"), reverse=True)


def _read(path: Path) -> Checkpoint:
    with zipfile.ZipFile(path) as packed:
        state = json.loads(packed.read(STATE))
        if state["format"] != FORMAT:
            raise ValueError(f"format {state['format']}, this tfclip reads {FORMAT}")
        names = [name for name in packed.namelist() if name != STATE]
        # Reading an entry to its end compares its checksum.
        arrays = {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(packed.read(name)))
            for name in names
        }
    missing = {_entry(number) for number in range(len(state["variables"]))} - arrays.keys()
    if missing:
        raise ValueError(f"{len(missing)} variables are missing")
    return Checkpoint(path, state["step"], state, arrays)


def _write(packed: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with packed.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def _entry(number: int) -> str:
    return f"variable-{number:05d}"


def _described(variables: Sequence[keras.Variable]) -> list[str]:
    # Keras numbers the names anew in each process, and on and on within one.
    return [f"{v.dtype} {list(v.shape)}" for v in variables]


def _parts(variable: keras.Variable) -> Sequence:
    """TensorFlow's own variables behind one of Keras: one for each replica of this machine."""
    return getattr(variable.value, "values", (variable.value,))


def _value(variable: keras.Variable) -> np.ndarray:
    """The value of a variable; those of all replicas where they are not the same."""
    values = [part.numpy() for part in _parts(variable)]
    if all(value.tobytes() == values[0].tobytes() for value in values[1:]):
        return values[0]
    return np.stack(values)
