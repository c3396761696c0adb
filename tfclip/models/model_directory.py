"""The directory of a trained model, and its fingerprint, which thresholds and caches refer to."""

import hashlib
from functools import lru_cache
from pathlib import Path

from tfclip import files

CONFIG_FILE = "model.json"
WEIGHTS_FILE = "model.weights.h5"
TOWERS = "*-tower-*.weights.h5"


def holds_model(path: Path) -> bool:
    """Return whether `path` is a model folder, or a run directory with one."""
    return any((folder / CONFIG_FILE).is_file() for folder in _candidates(path))


def model_directory(path: Path) -> Path:
    """Return the model folder that `path` refers to: itself, or `best/` in a run directory.

    Raises:
        FileNotFoundError: neither holds a model.
    """
    path = Path(path)
    for candidate in _candidates(path):
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    problem = "does not exist" if not path.exists() else "holds no trained model"
    raise FileNotFoundError(
        f"{path} {problem}: expected a run directory with best/{CONFIG_FILE}. "
        "Train one with: python -m tfclip.fit RECIPE --records DIR --run RUN"
    )


def _candidates(path: Path) -> tuple[Path, Path]:
    return files.complete_folder(path), files.complete_folder(Path(path) / "best")


def model_fingerprint(path: Path) -> str:
    """Return the sha256 of the files of the model that `path` refers to.

    Thresholds and caches name the model that they belong to by it.

    Raises:
        FileNotFoundError: as `model_directory`.
    """
    whole, folder = hashlib.sha256(), model_directory(path)
    # The tokenizer's files and the frozen towers; other files may be in the same folder.
    others = [path for kind in ("*.txt", "*.model", TOWERS) for path in folder.glob(kind)]
    for file in sorted([folder / CONFIG_FILE, folder / WEIGHTS_FILE, *others]):
        if not file.is_file():
            raise FileNotFoundError(f"{folder} is incomplete: {file.name} is missing.")
        state = file.stat()
        whole.update(f"{file.name}:".encode())
        whole.update(_digest(file, state.st_ino, state.st_size, state.st_mtime_ns))
    return whole.hexdigest()


@lru_cache(maxsize=64)
def _digest(file: Path, *state: int) -> bytes:
    """Return the sha256 of a file; `state` changes with its content, so that a process reads a
    hundred megabytes of weights once."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()
