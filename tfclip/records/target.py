"""Where a packed set is built: beside its target, and renamed when it is complete."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tfclip.records.manifest import MANIFEST, SKIPPED

_OURS = re.compile(r"[\w.-]+\.tfrecord(\.tmp)?|(manifest\.json|skipped\.jsonl|vocab\.txt)(\.tmp)?")


def check_target(out: Path, overwrite: bool) -> None:
    """Refuse a target that packing must not touch, before any work is done.

    Raises:
        FileExistsError: `out` is a file, a finished set without `overwrite`, or holds other files.
    """
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; --out takes a directory")
    if (out / MANIFEST).exists():
        if not overwrite:
            raise FileExistsError(f"{out} holds finished records; add --overwrite to replace them")
    elif out.is_dir():
        _refuse_foreign(out)
    if _building(out).exists():
        _refuse_foreign(_building(out))
    if _replaced(out).exists():  # killed between two renames
        raise FileExistsError(f"{_replaced(out)} is in the way; rename it to {out}, or remove it")


def _refuse_foreign(directory: Path) -> None:
    foreign = sorted(p.name for p in directory.iterdir() if not _OURS.fullmatch(p.name))
    if foreign:
        raise FileExistsError(f"{directory} holds other files ({foreign[0]}); choose another --out")


def _building(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _replaced(out: Path) -> Path:
    return out.with_name(f"{out.name}.replaced")


@contextlib.contextmanager
def built_beside(out: Path, overwrite: bool) -> Iterator[Path]:
    """Give an empty directory to build in; it becomes `out` when the block ends without an error.

    Until then an older set at `out` stays as it is. After an error nothing is left.

    Raises:
        FileExistsError: see `check_target`.
    """
    out = out.resolve()  # a link to another disk stays one
    check_target(out, overwrite)
    building = _building(out)
    made = [parent for parent in building.parents if not parent.exists()]
    shutil.rmtree(building, ignore_errors=True)  # what a killed run left
    try:
        building.mkdir(parents=True)
        yield building
        if out.exists():
            os.rename(out, _replaced(out))
        os.rename(building, out)
        shutil.rmtree(_replaced(out), ignore_errors=True)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # not empty: someone else uses it by now
                parent.rmdir()
        raise


def keep_skipped_list(building: Path, out: Path) -> Path:
    """Keep the list of rejected inputs of a set that is given up, and return where it is."""
    kept = out / SKIPPED
    if (out / MANIFEST).exists():
        kept = out.with_name(f"{out.name}.{SKIPPED}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(building / SKIPPED, kept)
    return kept
