"""Arrays in folders named by what decides their content: written whole, checked when reused."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tfclip import files
from tfclip.console import say

DESCRIPTION = "features.json"
_BLOCK = 1 << 24


def digest(value) -> str:
    """The SHA-256 of a value as JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def stored_arrays(
    what: Mapping, cache: Path, compute: Callable[[Path], None], label: str
) -> dict[str, np.ndarray]:
    """Open the arrays of the folder that `what` names; let `compute` fill it when it is not there.

    It is filled beside and renamed: a folder of that name is whole, whenever the run was killed.

    Args:
        what: everything that decides the content, as JSON types; its hash is the folder's name.
        cache: where the folder lies.
        compute: writes `.npy` files into the folder it is given.
        label: what is stored, in words.

    Returns:
        The arrays by the names of their files, memory-mapped.

    Raises:
        ValueError: the folder is damaged, or holds something else; says what to delete.
        OSError: it cannot be written.
    """
    folder = Path(cache) / digest(what)[:20]
    if folder.is_dir():
        arrays = _opened(folder, what)
        say(f"{label}: reused from {folder}")
        return arrays
    written = False
    try:
        with files.new_folder(folder) as beside:
            compute(beside)
            checksums = {path.name: _checksum(path) for path in sorted(beside.glob("*.npy"))}
            text = json.dumps({"what": what, "files": checksums}, indent=2) + "\n"
            (beside / DESCRIPTION).write_text(text, encoding="utf-8")
            written = True
    except OSError:
        # Another run of the same model may have been faster; what it stored is the same.
        if not (written and folder.is_dir()):
            raise
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(f"{label}: stored in {folder}, {size / 2**20:,.0f} MiB")
    return _opened(folder, what, check=False)


def _opened(folder: Path, what: Mapping, check: bool = True) -> dict[str, np.ndarray]:
    """Map the arrays of a folder, after comparing what they are and every byte of them."""
    remedy = f"delete {folder}, and it is computed again"
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        of, checksums = description["what"], description["files"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"the stored features in {folder} are damaged; {remedy}") from error
    what = json.loads(json.dumps(what))
    if of != what:
        differ = sorted(key for key in {*of, *what} if of.get(key) != what.get(key))
        raise ValueError(
            f"the stored features in {folder} were made with other {', '.join(differ)} than their "
            f"name says; {remedy}"
        )
    for name, expected in checksums.items():
        path = folder / name
        if not path.is_file() or (check and _checksum(path) != expected):
            raise ValueError(f"the stored features {path} are damaged or missing; {remedy}")
    return {Path(name).stem: np.load(folder / name, mmap_mode="r") for name in checksums}


def _checksum(path: Path) -> list[int]:
    """The size of a file and its CRC-32, which costs a fraction of a second for a gigabyte."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return [path.stat().st_size, crc]


def new_array(folder: Path, name: str, dtype, shape: tuple[int, ...]) -> np.memmap:
    """Create an array of a folder that is being computed, to be filled in place.

    Raises:
        OSError: there is no room for it.
    """
    needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"the features would take {needed / 2**30:.1f} GiB, and {folder.parent} has "
            f"{free / 2**30:.1f} GiB free; give --feature-cache another disk, fewer --views, or "
            "--no-cache-features"
        )
    return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
