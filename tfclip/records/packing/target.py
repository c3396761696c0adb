"""The target of packing: a set is built in a temporary folder, and renamed when complete."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tfclip import files
from tfclip.records.manifest import MANIFEST, SKIPPED
from tfclip.records.packing.journal import JOURNAL, Journal

_OURS = re.compile(
    r"[\w.-]+\.tfrecord(\.tmp)?|(manifest\.json|(skipped|left_out)\.jsonl|vocab\.(txt|model))(\.tmp)?"
    r"|features\.json|dataset_info\.json"
    rf"|\.[\w.-]+\.[0-9a-f]+{re.escape(files.WRITING)}"
    rf"|{re.escape(JOURNAL)}"
)


def check_target(out: Path, overwrite: bool) -> None:
    """Raise when packing must not write to `out`; called before any work.

    Raises:
        FileExistsError: `out` is a file, holds other files, or is a finished set and `overwrite` is
            False.
        PermissionError: the parent folder is not writable.
    """
    out = out.resolve()
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file; --out takes a directory")
    replaced = _replaced(out)
    if (out / MANIFEST).exists():
        if not overwrite:
            _tidy_up(out)
            raise FileExistsError(f"{out} holds finished records; add --overwrite to replace them")
    elif (replaced / MANIFEST).exists() and not overwrite:  # killed between two renames
        raise FileExistsError(f"{replaced} holds finished records; add --overwrite to replace them")
    elif out.is_dir():
        _refuse_foreign(out)
    if _building(out).is_dir():
        _refuse_foreign(_building(out))
    if replaced.exists() and not (
        (out / JOURNAL).exists() or ((replaced / MANIFEST).exists() and not out.exists())
    ):
        raise FileExistsError(f"{replaced} is in the way; remove or rename it")
    there = next(parent for parent in out.parents if parent.exists())
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        raise PermissionError(f"cannot write in {there}; choose another --out")


def _refuse_foreign(directory: Path) -> None:
    foreign = sorted(p.name for p in directory.iterdir() if not _OURS.fullmatch(p.name))
    if foreign:
        raise FileExistsError(f"{directory} holds other files ({foreign[0]}); choose another --out")


def _building(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _replaced(out: Path) -> Path:
    return out.with_name(f"{out.name}.replaced")


@contextlib.contextmanager
def built_beside(out: Path, overwrite: bool) -> Iterator[tuple[Path, Journal]]:
    """Give a directory to build in, and the journal of the shards finished by an earlier run.

    The directory becomes `out` when the block ends without an error; until then an older set at
    `out` is untouched. After an error or a kill, finished shards are kept for the next run; without
    any, everything is removed.

    Raises:
        FileExistsError: see `check_target`.
        PermissionError: see `check_target`.
        BlockingIOError: another run is building the same set.
    """
    out = out.resolve()  # a link to another disk is followed, not replaced
    check_target(out, overwrite)
    building = _building(out)
    made = [parent for parent in building.parents if not parent.exists()]
    _undo_partial_swap(out)
    building.mkdir(parents=True, exist_ok=True)
    journal = Journal(building)
    try:
        _remove_unfinished(building, journal)
        yield building, journal
        if out.exists():
            files.rename(out, _replaced(out))
        files.publish(building, out)
        shutil.rmtree(_replaced(out), ignore_errors=True)
        (out / JOURNAL).unlink()  # last: while it exists, cleaning up may be incomplete
    except BaseException as error:
        if building.is_dir():
            _remove_unfinished(building, journal)
            if journal.records:
                error.add_note(
                    f"{len(journal)} finished shards are kept in {building}; run the same command "
                    "again to resume"
                )
            else:
                shutil.rmtree(building, ignore_errors=True)
                for parent in made:
                    with contextlib.suppress(OSError):  # not empty: another process uses it
                        parent.rmdir()
        raise
    finally:
        journal.close()


def _tidy_up(out: Path) -> None:
    """Finish the cleaning up of a run that was killed after its set was complete and renamed."""
    if (out / JOURNAL).exists():
        with contextlib.closing(Journal(out)):  # raises while that run is still active
            shutil.rmtree(_replaced(out), ignore_errors=True)
            (out / JOURNAL).unlink()


def _undo_partial_swap(out: Path) -> None:
    """Restore the state before the renames, when a run was killed between them."""
    building, replaced = _building(out), _replaced(out)
    if (out / JOURNAL).exists():  # the journal lists the shards that can be reused
        with contextlib.closing(Journal(out)):
            shutil.rmtree(replaced, ignore_errors=True)
            files.rename(out, building)
    elif replaced.exists() and not out.exists():
        if building.is_dir():
            Journal(building).close()
        files.rename(replaced, out)


def _remove_unfinished(building: Path, journal: Journal) -> None:
    for path in building.iterdir():
        if path.name != JOURNAL and path.name not in journal:
            with contextlib.suppress(OSError):
                path.unlink()


def keep_skipped_list(building: Path, out: Path) -> Path:
    """Keep the list of rejected inputs of a discarded set, and return its path."""
    kept = out / SKIPPED
    if (out / MANIFEST).exists():
        kept = out.with_name(f"{out.name}.{SKIPPED}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(building / SKIPPED, kept)
    return kept
