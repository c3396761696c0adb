"""The run directory: created for a new run, reopened to resume it, refused to other runs."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tfclip import files
from tfclip.config_file import recipe_of
from tfclip.console import say
from tfclip.records.teachers import read_description
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.saved_flags import CONFIG_FILE, EXTENDED_AFTER, differing_flags

if TYPE_CHECKING:
    from tfclip.models.saving import TrainedModel
    from tfclip.training.data.training_sets import TrainingSets


def run_directory(run: Path, config: Mapping, *, overwrite: bool) -> None:
    """Create a run directory with its configuration, or check that an existing one is resumed.

    Raises:
        FileExistsError: the path exists and is not a run directory.
        ValueError: it contains another run; the message names the flags that differ.
    """
    path = run / CONFIG_FILE
    if run.is_dir():  # remains of a run that was killed while starting
        for name in (CONFIG_FILE, "best", "best-*"):
            files.remove_unfinished(run, name)
        (run / f".{CONFIG_FILE}").unlink(missing_ok=True)  # as earlier versions named it
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        if not path.is_file():
            raise FileExistsError(f"{run} exists and is not a run directory; choose another --run")
        if not overwrite:
            saved = json.loads(path.read_text(encoding="utf-8"))
            refuse_another(run, saved, config)
            if config.get(EXTENDED_AFTER) != saved.get(EXTENDED_AFTER):
                files.write_text(path, json.dumps(config, indent=2) + "\n")
            return
        shutil.rmtree(run)
    files.write_text(path, json.dumps(config, indent=2) + "\n")


def join_run(run: Path, config: Mapping) -> None:
    """Check on another worker the run directory that the chief created.

    Raises:
        FileNotFoundError: it does not exist here.
        ValueError: this worker was started with other flags; the message names them.
    """
    path = run / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{run}, created by the chief worker, does not exist on this worker; --run must be in "
            "a folder that all workers share"
        )
    refuse_another(run, json.loads(path.read_text(encoding="utf-8")), config)


def refuse_another(run: Path, saved: Mapping, now: Mapping) -> None:
    """Compare the saved configuration of a run with the current one.

    Raises:
        ValueError: they differ in something that affects the result; the message names it.
    """
    now = json.loads(json.dumps(now))
    saved = {**saved, "recipe": recipe_of(saved)}
    others = ("recipe", "records_fingerprint", "model", "teachers")
    differ = [
        f"{name.replace('_', ' ')}"
        + ("" if name == "model" else f" {saved.get(name)}, now {now.get(name)}")
        for name in others
        if saved.get(name) != now.get(name)
    ]
    before, flags = saved.get("flags", {}), now["flags"]
    free: set[str] = set()
    if all(saved.get(name) == now[name] for name in ("records_fingerprint", "splits")):
        free = {"records"}  # the same records in another folder
    if now.get(EXTENDED_AFTER) != saved.get(EXTENDED_AFTER):
        free |= {"steps"}
    differ += differing_flags(before, flags, free)
    if differ:
        raise ValueError(
            f"{run} holds a run with {'; '.join(differ)}; resume it with its own flags, choose "
            "another --run, or replace it with --overwrite"
        )
    callbacks = [list(one.get("callback", ())) for one in (before, flags)]
    if callbacks[0] != callbacks[1]:
        names = [" ".join(one) or "none" for one in callbacks]
        say(f"{run} was started with --callback {names[0]}, now {names[1]}")
    for package, version_then in saved.get("versions", {}).items():
        if now["versions"].get(package) != version_then:
            say(
                f"{run} was started with {package} {version_then}, now {now['versions'][package]}: "
                "results may differ slightly from those of an uninterrupted run"
            )


def run_config(
    flags: FitFlags,
    recipe_name: str,
    trained: TrainedModel,
    records: TrainingSets,
    extended_after: Sequence[int] = (),
) -> dict:
    """Return the configuration of a run: flags, model, records, and versions of packages."""
    packages = "tensorflow", "keras", "keras-hub", "tensorflow-text", "numpy"
    return {
        "recipe": recipe_name,
        "flags": flags.to_dict(),
        "model": trained.config.to_dict(),
        "tokenizer": trained.tokenizer.describe(),
        "records_fingerprint": records.fingerprint(),
        "splits": [one.split for one in records.sets],
        **_teachers(flags, records),
        **({EXTENDED_AFTER: list(extended_after)} if extended_after else {}),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }


def _teachers(flags: FitFlags, records: TrainingSets) -> dict:
    """Return the fingerprint of each teacher by name, for a run with teachers."""
    directory, names = records.sets[0].read_from, flags.distillation.teacher
    prints = {name: read_description(directory, name)["fingerprint"] for name in names}
    return {"teachers": prints} if prints else {}
