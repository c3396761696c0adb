"""Checks a run before TensorFlow starts, and reports all missing files in one message."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tfclip import plugins
from tfclip.config_file import recipe_of
from tfclip.inputs.view_sets import view_set
from tfclip.models.model_directory import holds_model
from tfclip.models.registry import joined_names
from tfclip.models.weights.names import looks_like_path
from tfclip.models.weights.pretrained.cache import hub_folder, is_kept
from tfclip.models.weights.pretrained.catalogue import Pretrained, pretrained
from tfclip.naming import unknown
from tfclip.records.manifest import load_manifest, records_reference, vocabulary_file
from tfclip.records.teachers import check_teachers
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.recipes import Recipe
from tfclip.training.options.saved_flags import CONFIG_FILE, differing_flags

# Extensions of weight files.
WEIGHT_FILES = (".h5", ".keras", ".safetensors", ".pt", ".pth", ".bin")


def preflight(name: str, recipe: Recipe, flags: FitFlags) -> None:
    """Refuse a run that cannot work, in less than a second; then fetch the weights it lacks.

    Raises:
        FileNotFoundError: files are missing; the message lists all, and where to get them.
        ValueError: the records lack a split, or the run directory contains another run.
    """
    if not flags.records:
        raise ValueError("--records needs at least one DIR or DIR:SPLIT")
    if missing := list(_missing(name, recipe, flags)):
        raise FileNotFoundError("; ".join(missing))
    images = sum(_images(reference, "train") for reference in flags.records)
    for reference, split in ((flags.val, "val"), (flags.evaluation.voc, "val")):
        if reference:
            _images(reference, split)
    if names := flags.distillation.teacher:
        directory, split = records_reference(flags.records[0], "train")
        views = [view.to_dict() for view in view_set(flags.sampling.views)]
        sizes = [one["size"] for one in check_teachers(directory, split, names, views)]
        flags.distillation.check_sizes(sizes, flags.model.embed_dim)
    refuse_another_run(name, flags.with_steps(images))
    _fetch_weights(flags)


def _fetch_weights(flags: FitFlags) -> None:
    """Fetch the weights that are known by name and not in the cache.

    Raises:
        FileNotFoundError: some could not be fetched; says for all of them what to copy where.
    """
    failed = []
    for *_, known in _named_weights(flags):
        if known is not None and not is_kept(known) and not known.by_keras:
            from tfclip.models.weights.pretrained.download import fetch

            try:
                fetch(known)
            except FileNotFoundError as error:
                failed.append(str(error))
    if failed:
        raise FileNotFoundError("; ".join(failed))


def _named_weights(flags: FitFlags) -> Iterator[tuple[str, str, str, Pretrained | None]]:
    """Yield modality, tower, weights, and their entry in the catalogue or None, for weights that
    are neither "none" nor an existing path."""
    for modality in ("image", "text"):
        tower = getattr(flags.model, f"{modality}_tower")
        weights = getattr(flags.model, f"{modality}_weights")
        if weights != "none" and not Path(weights).expanduser().exists():
            for part in joined_names(tower):
                yield modality, part, weights, pretrained(weights, part)


def refuse_another_run(name: str, flags: FitFlags) -> None:
    """Refuse a run directory with other content; its model and records are compared later.

    Raises:
        FileExistsError, ValueError: see `run_directory.run_directory`.
    """
    path = flags.run / CONFIG_FILE
    if flags.run.exists() and not flags.run.is_dir():
        raise FileExistsError(f"{flags.run} is a file; choose another --run")
    if not path.is_file():
        if flags.run.is_dir() and any(one.name != f".{CONFIG_FILE}" for one in flags.run.iterdir()):
            raise FileExistsError(
                f"{flags.run} exists and is not a run directory; choose another --run"
            )
        existing = next(parent for parent in flags.run.resolve().parents if parent.exists())
        if not os.access(existing, os.W_OK):
            raise PermissionError(13, os.strerror(13), str(existing))
        return
    if flags.overwrite:
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    recipe = recipe_of(saved)
    differ = [] if recipe == name else [f"recipe {recipe}, now {name}"]
    now = json.loads(json.dumps(flags.to_dict()))
    free = {"records", "steps"} if flags.extend else {"records"}
    differ += differing_flags(saved.get("flags", {}), now, free=free)
    if differ:
        raise ValueError(
            f"{flags.run} holds a run with {'; '.join(differ)}; resume it with its own flags, "
            "choose another --run, or replace it with --overwrite"
        )


def _missing(name: str, recipe: Recipe, flags: FitFlags) -> Iterator[str]:
    """Yield a message for each missing file, folder or module."""
    for reference in (*flags.records, flags.val, flags.evaluation.voc):
        if reference:
            directory, _ = records_reference(reference)
            try:
                load_manifest(directory)
            except FileNotFoundError as error:
                yield str(error)
    outside = [("--image-tower", flags.model.image_tower), ("--text-tower", flags.model.text_tower)]
    outside += [("--callback", one) for one in flags.execution.callback]
    for kind, named in outside:
        if plugins.is_reference(named) and (problem := plugins.missing_module(kind, named)):
            yield problem
    if flags.evaluation.class_folders and not flags.evaluation.class_folders.is_dir():
        yield f"no folder at --class-folders {flags.evaluation.class_folders}"
    for flag, tower, weights, known in _named_weights(flags):
        if known is not None and (is_kept(known) or not known.by_keras):
            continue
        if looks_like_path(weights) or Path(weights).suffix in WEIGHT_FILES:
            yield f"no file or folder at --{flag}-weights {weights}{_from(recipe, flag)}"
        elif not _can_be_fetched(weights, tower):
            yield (
                f"the weights {weights} of {tower} are not on this machine, and {_host(weights)} "
                f"cannot be reached; fetch them elsewhere and give --{flag}-weights PATH"
            )
    if flags.model.init and not holds_model(flags.model.init):
        yield f"no trained or converted model at --init {flags.model.init}"
    if flags.model.vocabulary:
        if not flags.model.vocabulary.is_file():
            needed = recipe.needs_vocabulary
            yield f"no file at --vocabulary {flags.model.vocabulary}" + (
                f"; {name} needs {needed}" if needed else ""
            )
    elif recipe.needs_vocabulary and flags.model.text_weights == "none" and not flags.model.init:
        own = vocabulary_file(records_reference(flags.records[0])[0])
        yield (
            f"{name} needs {recipe.needs_vocabulary}; fetch it and give --vocabulary PATH, or "
            f"--vocabulary {own} to use the one of the records"
        )


def _from(recipe: Recipe, flag: str) -> str:
    """Return a hint at the recipe's own weights."""
    own = getattr(recipe.flags().model, f"{flag}_weights")
    return "" if own == "none" else f" (omit the flag to fetch the recipe's own, {own})"


def _images(reference: str, default: str) -> int:
    directory, split = records_reference(reference, default)
    manifest = load_manifest(directory)
    if split not in manifest.splits:
        raise unknown(f"split of {directory}", split, manifest.splits)
    return manifest.splits[split].images


def _host(weights: str) -> str:
    """Return the host that weights are fetched from."""
    if weights.startswith("hf://"):
        return "huggingface.co"
    return "storage.googleapis.com" if weights == "imagenet" else "www.kaggle.com"


def _can_be_fetched(weights: str, tower: str) -> bool:
    """Return whether weights are cached by the library that fetches them, or their host resolves.

    A slow network counts as resolving.
    """
    if urllib.request.getproxies() or _is_cached(weights, tower):
        return True
    resolved: list[bool] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(_host(weights), 443)
            resolved.append(True)
        except OSError:
            resolved.append(False)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(1.0)
    return resolved != [False]


def _is_cached(weights: str, tower: str) -> bool:
    """Return whether a library has cached such weights."""
    if weights.startswith("hf://"):
        name = weights.removeprefix("hf://")
        if hub_folder(name).is_dir():
            return True
        from huggingface_hub import try_to_load_from_cache

        files = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
        return any(isinstance(try_to_load_from_cache(name, file), str) for file in files)
    if weights == "imagenet":
        folder = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
        name = re.sub("[^a-z0-9]", "", tower)
        cached = folder.iterdir() if folder.is_dir() else ()
        return any(re.sub("[^a-z0-9]", "", one.name.lower()).startswith(name) for one in cached)
    folder = Path(os.environ.get("KAGGLEHUB_CACHE", "~/.cache/kagglehub")).expanduser()
    return any(weights in one.name for one in folder.rglob("*") if one.is_dir())
