"""Class embeddings fitted to labelled pictures, and their file in a run. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tfclip import files
from tfclip.naming import unknown

FOLDER = "adapted"
_FIELDS = ("embeddings", "present", "difficult", "held_out")


@dataclass(frozen=True)
class AdaptedClasses:
    """C classes, fitted to N labelled pictures.

    Attributes:
        name: their name, as in `RUN/adapted/NAME.npz`.
        model: the fingerprint of the model of the embeddings.
        data: the records and split of the pictures.
        class_names: the C names.
        keys: the keys of the N pictures.
        embeddings: (C,D) float32 of unit norm.
        present, difficult: (N,C) bool, see `LabelledPictures`.
        held_out: (N,C) float32, the cosines of the pictures with classes fitted without them.
    """

    name: str
    model: str
    data: str
    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    embeddings: np.ndarray
    present: np.ndarray
    difficult: np.ndarray
    held_out: np.ndarray

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Return the embeddings of the classes `names`, in this order.

        Raises:
            ValueError: a class was not fitted.
        """
        for name in names:
            if name not in self.class_names:
                raise unknown(f"class of the adapted classes {self.name}", name, self.class_names)
        return self.embeddings[[self.class_names.index(name) for name in names]]

    def write(self, run: Path) -> Path:
        """Write the classes to a run and return the file."""
        path = adapted_file(run, self.name)
        arrays = {field: getattr(self, field) for field in _FIELDS}
        with files.new_file(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                model=self.model,
                data=self.data,
                class_names=self.class_names,
                keys=self.keys,
                **arrays,
            )
        return path


def adapted_file(run: Path, name: str) -> Path:
    """Return the path of a run's adapted classes."""
    return Path(run) / FOLDER / f"{name}.npz"


def read_adapted(run: Path, name: str, model: str) -> AdaptedClasses:
    """Read the adapted classes of a run.

    Args:
        run: the run directory.
        name: the name of the classes.
        model: the fingerprint of the run's current model.

    Raises:
        FileNotFoundError: there are no classes of that name.
        ValueError: the file is damaged, or of another model.
    """
    path = adapted_file(run, name)
    remedy = f"make them with: python -m tfclip.adapt {run} --records DIR --split SPLIT"
    if not path.is_file():
        raise FileNotFoundError(f"no adapted classes at {path}; {remedy} --name {name}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            classes = AdaptedClasses(
                name,
                str(arrays["model"]),
                str(arrays["data"]),
                tuple(map(str, arrays["class_names"])),
                tuple(map(str, arrays["keys"])),
                *(arrays[field] for field in _FIELDS),
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error!r}; {remedy}") from None
    if classes.model != model:
        raise ValueError(f"{path} was fitted for another model than the one in {run}; {remedy}")
    return classes
