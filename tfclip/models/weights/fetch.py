"""Finds a source of weights on this machine, or downloads it from the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from tfclip.models.weights.pretrained.cache import hub_folder, kept_weights
from tfclip.models.weights.pretrained.catalogue import pretrained
from tfclip.models.weights.pretrained.download import fetch_from_hub

HUB = "hf://"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def names_hub(source: str) -> bool:
    """Return whether `source` names a hub repository: hf://OWNER/NAME, or OWNER/NAME.

    An existing folder OWNER is a local path, and so is `runs/NAME`: a misspelt run must not be
    downloaded.
    """
    if source.startswith(HUB):
        return True
    owner = Path(source).parent
    return bool(_NAME.fullmatch(source)) and not owner.exists() and str(owner) != "runs"


def cached_source(source: str) -> Path | None:
    """Return the folder of `hf://OWNER/NAME` in the cache of tfclip, or None."""
    known = pretrained(source, "")
    if known is not None and (path := kept_weights(known)) is not None:
        return path
    folder = hub_folder(source.removeprefix(HUB))
    return folder if folder.is_dir() else None


def local_source(source: str) -> Path:
    """Return the folder or file of `source`; an existing path wins over a name on the hub.

    Raises:
        FileNotFoundError: it does not exist and could not be downloaded; says what to do.
    """
    path = Path(source).expanduser()
    if path.exists() or not names_hub(source):
        return path
    name = source.removeprefix(HUB)
    if (cached := cached_source(f"{HUB}{name}")) is not None:
        return cached
    try:
        return fetch_from_hub(name)
    except FileNotFoundError as error:
        if source.startswith(HUB):
            raise
        raise FileNotFoundError(f"{source}: no such path, and {error}") from error
