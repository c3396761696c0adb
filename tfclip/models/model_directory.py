"""Where a trained model lies on disk, and its name for everything that was fitted to it."""

import hashlib
from pathlib import Path

from tfclip import files

CONFIG_FILE = "model.json"
WEIGHTS_FILE = "model.weights.h5"


def holds_model(path: Path) -> bool:
    """Whether `path` is a model folder, or a run directory with one."""
    return any((folder / CONFIG_FILE).is_file() for folder in _candidates(path))


def model_directory(path: Path) -> Path:
    """The model folder that `path` means: itself, or `best/` in a run directory.

    Raises:
        FileNotFoundError: when neither holds a model.
    """
    path = Path(path)
    for candidate in _candidates(path):
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    there = "is not there" if not path.exists() else "holds no trained model"
    raise FileNotFoundError(
        f"{path} {there}: expected a run directory with best/{CONFIG_FILE}. "
        "Train one with: python -m tfclip.fit RECIPE --records DIR --run RUN"
    )


def _candidates(path: Path) -> tuple[Path, Path]:
    return files.complete_folder(path), files.complete_folder(Path(path) / "best")


def model_fingerprint(path: Path) -> str:
    """The sha256 of the files of the model that `path` means: its thresholds and caches name it.

    Raises:
        FileNotFoundError: as `model_directory`.
    """
    whole, folder = hashlib.sha256(), model_directory(path)
    # The text files and the model are the tokenizer's; metrics may lie in the same folder.
    texts = [*folder.glob("*.txt"), *folder.glob("*.model")]
    for file in sorted([folder / CONFIG_FILE, folder / WEIGHTS_FILE, *texts]):
        if not file.is_file():
            raise FileNotFoundError(f"{folder} is not complete: {file.name} is missing.")
        with file.open("rb") as content:
            whole.update(f"{file.name}:".encode())
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()
