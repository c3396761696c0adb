"""Files of the weights of frozen towers, which all model folders of a run share by hard links.

A frozen tower is the same in every model of a run, and much larger than what is trained. Each model
folder has it as a file of its own, named after its content. Folders of one run link to one file, so
that it takes space once, but each remains complete if it is copied or moved alone. Where the file
system has no hard links, the file is copied.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.model_directory import TOWERS

CHECKPOINTS = "checkpoints"


def tower_file(model: DualEncoder, modality: str) -> str:
    """Return the name of the file of a tower: `text-tower-0123456789abcdef.weights.h5`."""
    content = hashlib.sha256()
    # Without the states of dropout, which a frozen tower does not use and training sets.
    for variable in _tower(model, modality).weights:
        content.update(f"{variable.dtype} {tuple(variable.shape)}".encode())
        content.update(np.ascontiguousarray(variable.numpy()).data.cast("B"))
    return TOWERS.replace("*", modality, 1).replace("*", content.hexdigest()[:16])


def features_digest(model: DualEncoder, modality: str) -> str:
    """Return the SHA-256 of a tower's weights, by which stored outputs of the tower are found."""
    weights = hashlib.sha256()
    for variable in _tower(model, modality).weights:
        weights.update(variable.name.encode() + np.asarray(variable.value).tobytes())
    return weights.hexdigest()


def save_towers(directory: Path, model: DualEncoder, final: Path) -> dict[str, str]:
    """Write the files of the frozen towers to a folder, or link those of other models of the run.

    Args:
        directory: the temporary folder.
        model: with `frozen` modalities.
        final: the later path of the folder, whose neighbours are searched.

    Returns:
        The file names by modality.
    """
    names = {modality: tower_file(model, modality) for modality in model.frozen}
    for modality, name in names.items():
        if not any(_linked(file, directory / name) for file in _files_of_run(final, name)):
            _tower(model, modality).save_weights(directory / name)
    return names


def load_towers(directory: Path, model: DualEncoder, names: dict[str, str]) -> None:
    """Read the files that `save_towers` wrote.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    for modality, name in names.items():
        if not (directory / name).is_file():
            raise FileNotFoundError(
                f"{directory} is incomplete: {name} is missing, which holds the weights of the "
                f"{modality} tower. Copy it from another model of the run, or copy the whole "
                "folder again"
            )
        _tower(model, modality).load_weights(directory / name)


def link_equal_file(path: Path, final: Path) -> None:
    """Replace a file by a link to the same file of another model of the run, if there is one."""
    for other in _files_of_run(final, path.name):
        if filecmp.cmp(path, other, shallow=False):
            temporary = path.with_name(f".{path.name}.link")
            if _linked(other, temporary):
                os.replace(temporary, path)
                return


def _tower(model: DualEncoder, modality: str) -> keras.Model:
    return getattr(model, f"{modality}_tower")


def _files_of_run(folder: Path, name: str) -> Iterator[Path]:
    """Yield the files of a name in the model folders of the run that `folder` belongs to."""
    run = folder.parent.parent if folder.parent.name == CHECKPOINTS else folder.parent
    for pattern in (f"*/{name}", f"{CHECKPOINTS}/*/{name}"):
        # Not those of folders that are being written.
        yield from (path for path in sorted(run.glob(pattern)) if path.parent.name[0] != ".")


def _linked(file: Path, link: Path) -> bool:
    """Return whether `link` is now a hard link to `file`, or a copy where links are impossible."""
    try:
        os.link(file, link)
    except FileNotFoundError:
        return False
    except OSError:
        shutil.copyfile(file, link)
    return True
