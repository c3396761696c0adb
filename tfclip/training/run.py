"""One training run: from flags to a run directory with the log, the last and the best model."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import keras

from tfclip.console import CommandFailed, say
from tfclip.evaluation.classification_run import evaluate_classification
from tfclip.evaluation.retrieval_run import evaluate_retrieval
from tfclip.evaluation.voc import SplitScorer
from tfclip.inputs.batches import Drawing, training_batches, validation_batches
from tfclip.models.saved import TrainedModel
from tfclip.records.manifest import Manifest, load_manifest, records_reference
from tfclip.records.reader import split_files
from tfclip.records.verify import damage_named
from tfclip.training.callbacks import KeepModels, Measure, StopOnNaN
from tfclip.training.loop import mean_loss, run_steps
from tfclip.training.prepare import make_strategy, prepare_model
from tfclip.training.recipes import FitFlags, recipe

CONFIG_FILE = "config.json"


def train(
    recipe_name: str, flags: FitFlags, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> dict:
    """Train a recipe and write `flags.run`.

    Args:
        recipe_name: a name in `recipes.RECIPES`.
        flags: where the data lies, and what differs from the recipe.
        callbacks: further Keras callbacks of the caller.

    Returns:
        `run`, `best`, `steps`, `seconds`, `monitor`, `best_value` and the last epoch's `logs`.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: for flags that cannot be trained with.
        CommandFailed: when the loss became NaN; what was saved before is kept.
    """
    chosen = recipe(recipe_name)
    directory, split = records_reference(flags.records)
    manifest = load_manifest(directory)
    split = split or _training_split(manifest)
    files = split_files(directory, split)
    val_files = split_files(*_with_split(flags.val, "val")) if flags.val else None
    texts = manifest.splits[split].captions + manifest.splits[split].regions
    if not texts:
        raise ValueError(f"{directory}:{split} holds no caption and no region phrase to train on")
    strategy = make_strategy(flags.replicas)
    if flags.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"--batch-size {flags.batch_size} cannot be shared equally by "
            f"{strategy.num_replicas_in_sync} replicas"
        )
    with damage_named(files), strategy.scope():
        trained = prepare_model(
            flags,
            directory,
            files,
            image_options=_sizes(chosen, "image", flags),
            text_options=_sizes(chosen, "text", flags),
            trained_on={
                "recipe": recipe_name,
                "records": str(directory),
                "records_fingerprint": manifest.fingerprint(),
                "steps": flags.steps,
                "seed": flags.seed,
                "never_trained": list(flags.never_trained),
            },
        )
    measures, monitor = _measures(flags, trained, strategy, val_files)
    run_directory(flags.run, overwrite=flags.overwrite)
    _write_config(flags, recipe_name, trained, manifest.fingerprint())

    model = trained.dual_encoder
    say(
        f"{recipe_name}: {flags.image_tower} {model.image_tower.count_params():,} + "
        f"{flags.text_tower} {model.text_tower.count_params():,} parameters, "
        f"{flags.steps} steps of {flags.batch_size} on {strategy.num_replicas_in_sync} replica(s)"
    )
    keep = KeepModels(
        trained,
        best=flags.run / "best",
        last=flags.run / "checkpoints" / "last",
        monitor=monitor,
    )
    stop = StopOnNaN()
    drawing = Drawing(
        image_size=flags.image_size,
        region_share=flags.region_share,
        region_margin=flags.region_margin,
        crop_scale=flags.crop_scale,
        flip=flags.flip,
    )
    started = time.monotonic()
    with damage_named(files):
        history = run_steps(
            model,
            strategy,
            training_batches(
                files,
                trained.tokenizer,
                drawing,
                batch_size=flags.batch_size,
                seed=flags.seed,
            ),
            steps=flags.steps,
            epoch_steps=min(flags.evaluate_every, flags.steps),
            callbacks=[
                stop,
                Measure(measures),
                keep,
                keras.callbacks.CSVLogger(str(flags.run / "log.csv")),
                keras.callbacks.TensorBoard(str(flags.run / "tensorboard"), write_graph=False),
                *callbacks,
            ],
        )
    if stop.stopped_at is not None:
        saved = (
            f"the best model so far is {keep.best}"
            if keep.best_value is not None
            else ("no model was saved")
        )
        raise CommandFailed(
            f"the loss became NaN or infinite at step {stop.stopped_at}; {saved}; try a lower "
            f"--learning-rate (now {flags.learning_rate}) or --precision float32"
        )
    return {
        "run": str(flags.run),
        "best": str(keep.best),
        "steps": flags.steps,
        "seconds": round(time.monotonic() - started, 1),
        "monitor": monitor,
        "best_value": keep.best_value,
        "logs": {name: values[-1] for name, values in history.history.items()},
    }


def run_directory(run: Path, *, overwrite: bool) -> None:
    """Make an empty run directory.

    Raises:
        FileExistsError: when something is there that may not be replaced.
    """
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        if not (run / CONFIG_FILE).is_file():
            raise FileExistsError(f"{run} is there and is no run; choose another --run")
        if not overwrite:
            raise FileExistsError(f"{run} holds a run; choose another --run or add --overwrite")
        shutil.rmtree(run)
    run.mkdir(parents=True, exist_ok=True)


def _training_split(manifest: Manifest) -> str:
    """The split to train on when none is named: train, or COCO's train2017."""
    found = [split for split in manifest.splits if split.startswith("train")]
    return found[0] if len(found) == 1 else "train"


def _with_split(reference: str, default: str) -> tuple[Path, str]:
    directory, split = records_reference(reference)
    return directory, split or default


def _sizes(chosen, side: str, flags: FitFlags) -> Mapping:
    """The recipe's own sizes, when its own tower is trained."""
    same = getattr(flags, f"{side}_tower") == chosen.defaults.get(f"{side}_tower")
    return getattr(chosen, f"{side}_options") if same else {}


def _measures(flags: FitFlags, trained: TrainedModel, strategy, val_files) -> tuple[dict, str]:
    """The measurements between epochs, and the log that chooses the best model."""
    measures, monitors = {}, []
    if val_files:
        directory, split = _with_split(flags.val, "val")
        batches = validation_batches(
            val_files, trained.tokenizer, flags.image_size, batch_size=flags.batch_size
        )
        measures["loss"] = lambda: {"val_loss": mean_loss(trained.dual_encoder, strategy, batches)}
        measures["recall"] = lambda: _recalls(trained, f"{directory}:{split}")
        monitors.append("val_recall")
    if flags.class_folders:
        measures["top1"] = lambda: {
            "top1": evaluate_classification(trained, flags.class_folders)["top1"]
        }
        monitors.append("top1")
    if flags.voc:
        scorer = SplitScorer(trained, *_with_split(flags.voc, "val"))
        measures["voc"] = lambda: {"voc_map": scorer.map()}
        monitors.append("voc_map")
    monitor = flags.monitor if flags.monitor != "auto" else [*["loss"], *monitors][-1]
    return measures, monitor


def _recalls(trained: TrainedModel, reference: str) -> dict[str, float]:
    found = evaluate_retrieval(trained, reference)
    sides = {"i2t": found["image_to_text"], "t2i": found["text_to_image"]}
    recalls = {f"val_{s}_{k}": v[k] for s, v in sides.items() for k in ("r1", "r5", "r10")}
    return {**recalls, "val_recall": sum(recalls.values()) / len(recalls)}


def _write_config(
    flags: FitFlags, recipe_name: str, trained: TrainedModel, fingerprint: str
) -> None:
    packages = "tensorflow", "keras", "keras-hub", "tensorflow-text", "numpy"
    config = {
        "recipe": recipe_name,
        "flags": flags.to_dict(),
        "model": trained.config.to_dict(),
        "records_fingerprint": fingerprint,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
    }
    beside = flags.run / f".{CONFIG_FILE}"
    beside.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, flags.run / CONFIG_FILE)
