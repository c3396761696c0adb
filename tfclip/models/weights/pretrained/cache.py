"""The cache of pretrained towers: one folder that all commands look in."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tfclip.models.weights.pretrained.catalogue import File, Pretrained

VARIABLE = "TFCLIP_WEIGHTS"
DEFAULT = "~/.cache/tfclip/weights"
HUB_FOLDER = "hf"
_BLOCK = 1 << 22


def cache_folder() -> Path:
    """Return the folder of the cache: `$TFCLIP_WEIGHTS`, or ~/.cache/tfclip/weights."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).expanduser()


def folder_of(known: Pretrained) -> Path:
    """Return the folder of a tower in the cache, whether or not it is there."""
    return cache_folder() / known.name


def place_of(known: Pretrained) -> Path:
    """Return what a tower is loaded from, whether or not it is there: its only file, or its folder
    if it has several."""
    folder = folder_of(known)
    return folder / known.files[0].name if len(known.files) == 1 else folder


def not_kept(known: Pretrained) -> FileNotFoundError:
    """Return the error for a tower that is not in the cache; it says what to run."""
    return FileNotFoundError(
        f"the weights {known.name} ({known.megabytes}) are not on this machine; run: "
        f"python -m tfclip.weights fetch {known.name}"
    )


def hub_folder(name: str) -> Path:
    """Return the folder of OWNER/NAME of the Hugging Face hub, whether or not it is there."""
    return cache_folder() / HUB_FOLDER / name


def hub_folders() -> list[Path]:
    """Return the folders of the Hugging Face hub that are in the cache."""
    found = (cache_folder() / HUB_FOLDER).glob("[!.]*/[!.]*")
    return sorted(path for path in found if path.is_dir())


def is_kept(known: Pretrained) -> bool:
    """Whether the cache holds all files of a tower; their hashes are not compared here."""
    return all((folder_of(known) / file.name).is_file() for file in known.files)


def kept_weights(known: Pretrained) -> Path | None:
    """Return `place_of` a tower after checking its files; None if it is not kept.

    Raises:
        ValueError: a file differs from the expected one; names it and what to run.
    """
    if not is_kept(known):
        return None
    check_files(known, folder_of(known))
    return place_of(known)


def check_files(known: Pretrained, folder: Path) -> None:
    """Compare the files of a tower in a folder with their hashes.

    Raises:
        ValueError: one of them differs.
    """
    for file in known.files:
        path = folder / file.name
        size, received = path.stat().st_size, file_hash(path, file)
        if received != file.hash:
            raise ValueError(
                f"{path} is not the file of {known.name}: it has {size:,} bytes and the hash "
                f"{received[:16]}..., expected {file.hash[:16]}...; delete it and run: "
                f"python -m tfclip.weights fetch {known.name}"
            )


def file_hash(path: Path, like: File) -> str:
    """Return the SHA-256 of a file, or its MD5 where `like` has an MD5."""
    md5 = len(like.hash) == 32
    digest = hashlib.md5(usedforsecurity=False) if md5 else hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
