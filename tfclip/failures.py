"""Formats an error as one line: what happened, where, and what to do about it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

NO_SPACE = "free some space or choose another place, and run the same command again"
NO_ACCESS = "choose another place, or make it writable"
# System errors that concern a place on disk, by number: the system's message, and what to do.
OF_A_PLACE: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("No space left on device", NO_SPACE),
    errno.EDQUOT: ("Disk quota exceeded", NO_SPACE),
    errno.EFBIG: ("File too large", NO_SPACE),
    errno.EROFS: ("Read-only file system", NO_ACCESS),
    errno.EACCES: ("Permission denied", NO_ACCESS),
    errno.EPERM: ("Operation not permitted", NO_ACCESS),
}
# NumPy's message when a disk is full: "4096 requested and 1024 written".
CUT_SHORT = re.compile(r"\d+ requested and \d+ written")
# What TensorFlow adds to its messages: names of nodes and operations.
GRAPH = re.compile(r"\{\{[^}]*\}\}\s*|\s*\[\[.*?\]\]|\s*\[Op:[^\]]*\](\s*name:\s*\S*)?")
PLACE = re.compile(rf"(/[^\s;:']+)[;:] (?:{'|'.join(what for what, _ in OF_A_PLACE.values())})")
# Fields of flags that name where a command writes, the likeliest first.
PLACES = "out", "run", "folder", "index"


def one_line(error: BaseException, flags: Any = None) -> str:
    """Return the message of an error and its notes without line breaks.

    For a full disk, a read-only place or a missing permission, the message names the path. Where
    the library that raised the error names none, it is the path that the flags make the command
    write to.
    """
    number = _errno(error)
    if number in OF_A_PLACE:
        what, way_on = OF_A_PLACE[number]
        place = getattr(error, "filename", None) or _place_in(error) or _written_to(flags)
        message = f"{what}: {place}; {way_on}" if place else f"{what}; {way_on}"
    elif isinstance(error, OSError) and error.strerror:
        message = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    elif _is_tensorflow(error):
        message = GRAPH.sub("", str(getattr(error, "message", error))).strip().split("\n")[0]
        if "OOM" in message:
            message += "; use a smaller --batch-size, or --micro-batch"
    else:
        message = str(error) or type(error).__name__
    return " ".join("; ".join([message, *notes(error)]).split())


def first_line(error: BaseException, longest: int = 300) -> str:
    """Return the first line of an error's message, to be quoted within another message.

    Args:
        error: raised by a library; its name stands for an empty message.
        longest: characters after which the line is cut.
    """
    message = str(error).strip() or type(error).__name__
    return message.splitlines()[0][:longest].rstrip(".")


def is_users(error: BaseException) -> bool:
    """Return whether the cause is the user's input or the machine, not a defect of tfclip."""
    return isinstance(error, ValueError | OSError) or _errno(error) in OF_A_PLACE


def require_space(folder: Path, needed: int) -> None:
    """Check the free space before a library begins to write.

    HDF5 cannot handle a full disk: a file that it cannot finish ends the process.

    Raises:
        OSError: ENOSPC with the folder, the needed and the free bytes.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        error.add_note(f"{needed / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB free")
        raise error


def notes(error: BaseException) -> list[str]:
    """Return the notes of an error (`BaseException.add_note`)."""
    return getattr(error, "__notes__", [])


def quiet_destructors() -> None:
    """Suppress what destructors print about a full disk, which was already raised as an error.

    HDF5 writes when a file object is freed, where nothing can be raised.
    """
    before = sys.unraisablehook
    if getattr(before, "tells_places", True):

        def told_already(unraisable: sys.UnraisableHookArgs) -> None:
            text = str(unraisable.exc_value)
            if not any(what in text for what, _ in OF_A_PLACE.values()):
                before(unraisable)

        told_already.tells_places = False  # type: ignore[attr-defined]
        sys.unraisablehook = told_already


def _is_tensorflow(error: BaseException) -> bool:
    return type(error).__module__.startswith("tensorflow")


def _errno(error: BaseException) -> int | None:
    """Return the errno of a system error, also if a library raised it with only its message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if not (isinstance(error, OSError) or _is_tensorflow(error)):
        return None
    text = str(error)
    if CUT_SHORT.search(text):
        return errno.ENOSPC
    return next((number for number, (what, _) in OF_A_PLACE.items() if what in text), None)


def _place_in(error: BaseException) -> str | None:
    """Return the path before the system's message: "/full/x; No space left on device"."""
    match = PLACE.search(GRAPH.sub("", str(error)))
    return match[1] if match else None


def _written_to(flags: Any) -> Path | None:
    for name in PLACES:
        value = getattr(flags, name, None)
        if isinstance(value, Path):
            return value
    return None
