"""The run directory: created for a new run, reopened by the same run, refused to any other."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tfclip import files
from tfclip.console import say
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.saved_flags import CONFIG_FILE, differing_flags

if TYPE_CHECKING:
    from tfclip.models.saving import TrainedModel
    from tfclip.training.data.training_sets import TrainingSets


def run_directory(run: Path, config: Mapping, *, overwrite: bool) -> None:
    """Make a run directory with its configuration, or find that of the same run.

    Raises:
        FileExistsError: something is there that may not be replaced.
        ValueError: another run is there; names the flags that differ.
    """
    path = run / CONFIG_FILE
    if run.is_dir():  # of a run that was killed as it began
        for name in (CONFIG_FILE, "best", "best-*"):
            files.remove_unfinished(run, name)
        (run / f".{CONFIG_FILE}").unlink(missing_ok=True)  # as earlier versions named it
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        if not path.is_file():
            raise FileExistsError(f"{run} is there and is no run; choose another --run")
        if not overwrite:
            refuse_another(run, json.loads(path.read_text(encoding="utf-8")), config)
            return
        shutil.rmtree(run)
    files.write_text(path, json.dumps(config, indent=2) + "\n")


def join_run(run: Path, config: Mapping) -> None:
    """Find on another machine the run directory that the chief has made.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: this worker was started with other flags; names them.
    """
    path = run / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"the chief has made {run}, which is not to be seen here; --run must be in a folder "
            "that all workers share"
        )
    refuse_another(run, json.loads(path.read_text(encoding="utf-8")), config)


def refuse_another(run: Path, begun: Mapping, now: Mapping) -> None:
    """Compare what a run was begun with to what it is to go on with.

    Raises:
        ValueError: they differ in what decides the result; names it.
    """
    now = json.loads(json.dumps(now))
    others = ("recipe", "records_fingerprint", "model")
    differ = [
        f"{name.replace('_', ' ')}"
        + ("" if name == "model" else f" {begun.get(name)}, now {now[name]}")
        for name in others
        if begun.get(name) != now[name]
    ]
    before, flags = begun.get("flags", {}), now["flags"]
    free: set[str] = set()
    if all(begun.get(name) == now[name] for name in ("records_fingerprint", "splits")):
        free = {"records"}  # the same ones in another place
    differ += differing_flags(before, flags, free)
    if differ:
        raise ValueError(
            f"{run} holds a run with {'; '.join(differ)}; go on with what it was begun with, "
            "choose another --run, or begin anew with --overwrite"
        )
    callbacks = [list(one.get("callback", ())) for one in (before, flags)]
    if callbacks[0] != callbacks[1]:
        names = [" ".join(one) or "none" for one in callbacks]
        say(f"{run} was begun with --callback {names[0]}, now {names[1]}")
    for package, version_then in begun.get("versions", {}).items():
        if now["versions"].get(package) != version_then:
            say(
                f"{run} was begun with {package} {version_then}, now {now['versions'][package]}: "
                "it may go on differently in the last digits"
            )


def run_config(
    flags: FitFlags, recipe_name: str, trained: TrainedModel, records: TrainingSets
) -> dict:
    """What a run is: its flags, its model, its records and the versions of what it runs on."""
    packages = "tensorflow", "keras", "keras-hub", "tensorflow-text", "numpy"
    return {
        "recipe": recipe_name,
        "flags": flags.to_dict(),
        "model": trained.config.to_dict(),
        "tokenizer": trained.tokenizer.describe(),
        "records_fingerprint": records.fingerprint(),
        "splits": [one.split for one in records.sets],
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }
