"""Arrays in folders named by a hash of their description: written atomically, checked on reuse."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tfclip import files
from tfclip.console import say

DESCRIPTION = "features.json"


def digest(value) -> str:
    """Return the hexadecimal SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def folder_of(what: Mapping, cache: Path) -> Path:
    """Return the folder of the arrays that `what` describes; see `stored_arrays`."""
    return Path(cache) / digest(what)[:20]


def stored_arrays(
    what: Mapping, cache: Path, compute: Callable[[Path], None], label: str
) -> dict[str, np.ndarray]:
    """Return the arrays of the folder that `what` names; `compute` fills it if it does not exist.

    It is filled under a temporary name and renamed, so that a folder of that name is complete even
    if the run was killed.

    Args:
        what: everything that determines the content, as JSON types; its hash names the folder.
        cache: the folder of such folders.
        compute: writes `.npy` files into the given folder.
        label: the name of the content in messages.

    Returns:
        Memory-mapped arrays by file name.

    Raises:
        ValueError: the folder is damaged or has other content; the message says what to delete.
        OSError: the folder cannot be written.
    """
    folder = folder_of(what, cache)
    if folder.is_dir():
        arrays = _opened(folder, what)
        say(f"{label}: reused from {folder}")
        return arrays
    written = False
    try:
        with files.new_folder(folder) as temporary:
            compute(temporary)
            checksums = {
                path.name: files.checksum(path) for path in sorted(temporary.glob("*.npy"))
            }
            text = json.dumps({"what": what, "files": checksums}, indent=2) + "\n"
            (temporary / DESCRIPTION).write_text(text, encoding="utf-8")
            written = True
    except OSError:
        # Another run of the same model may have stored the same features first.
        if not (written and folder.is_dir()):
            raise
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(f"{label}: stored in {folder}, {size / 2**20:,.0f} MiB")
    return _opened(folder, what, check=False)


def _opened(folder: Path, what: Mapping, check: bool = True) -> dict[str, np.ndarray]:
    """Memory-map the arrays of a folder after checking their description and checksums."""
    remedy = f"delete {folder} to compute them again"
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        stored, checksums = description["what"], description["files"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"the stored features in {folder} are damaged; {remedy}") from error
    what = json.loads(json.dumps(what))
    if stored != what:
        differ = sorted(key for key in {*stored, *what} if stored.get(key) != what.get(key))
        raise ValueError(
            f"the stored features in {folder} do not match the folder's name: {', '.join(differ)} "
            f"differ; {remedy}"
        )
    for name, expected in checksums.items():
        path = folder / name
        if not path.is_file() or (check and files.checksum(path) != expected):
            raise ValueError(f"the stored features {path} are damaged or missing; {remedy}")
    return {Path(name).stem: np.load(folder / name, mmap_mode="r") for name in checksums}


def new_array(folder: Path, name: str, dtype, shape: tuple[int, ...]) -> np.memmap:
    """Create a memory-mapped array file, to be filled in place.

    Raises:
        OSError: the disk is too small.
    """
    needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"the features need {needed / 2**30:.1f} GiB, but {folder.parent} has only "
            f"{free / 2**30:.1f} GiB free; use --feature-cache on another disk, fewer --views, or "
            "--no-cache-features"
        )
    return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
