"""Runs a training: from flags to a run directory with logs, checkpoints and the best model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras

from tfclip.console import CommandFailed, say
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.frozen_weights import CHECKPOINTS
from tfclip.models.saving import TrainedModel
from tfclip.records.manifest import (
    Manifest,
    load_manifest,
    records_reference,
    vocabulary_file,
)
from tfclip.records.reader import split_files
from tfclip.records.verify import damage_named
from tfclip.training.callbacks.diagnostics import (
    Chance,
    Diagnostics,
    other_preprocessing,
    wrong_normalization,
)
from tfclip.training.callbacks.evaluation_line import EvaluationLine
from tfclip.training.callbacks.keep_best import KeepBest, save_trained
from tfclip.training.callbacks.log_and_stop import LogFile, StopOnNaN, Validation
from tfclip.training.callbacks.named import named_callbacks
from tfclip.training.callbacks.record_faults import (
    check_texts,
    picture_faults,
    sample_records,
    text_faults,
)
from tfclip.training.callbacks.retrieval_grid import RetrievalGrid, embed_stored
from tfclip.training.callbacks.tensorboard import TensorBoardLog
from tfclip.training.data.training_sets import open_training_sets
from tfclip.training.extension import extended_after
from tfclip.training.interval import Interval
from tfclip.training.loop.checkpoints import LAST, Checkpoints
from tfclip.training.loop.step_timer import StepTimer
from tfclip.training.loop.trainer import run_steps
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.recipes import Recipe, recipe
from tfclip.training.options.saved_flags import (
    may_validate_in_training,
    resumed_config,
    with_compute,
)
from tfclip.training.phases import StoredFeatures, batch_keys, make_phases
from tfclip.training.run_directory import join_run, run_config, run_directory
from tfclip.training.setup.build_model import prepare_model
from tfclip.training.setup.optimizer import averages
from tfclip.training.setup.start import open_start
from tfclip.training.validation import make_validation, validation_features
from tfclip.training.workers.cluster import Cluster, read_cluster
from tfclip.training.workers.strategy import make_strategy
from tfclip.training.workers.worker_health import barrier, chief_first, watch

BROKEN_BATCH = "broken_batch.json"


def train(
    recipe_name: str,
    flags: FitFlags,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    variant: Recipe | None = None,
) -> dict:
    """Train a recipe and write `flags.run`; with several workers, call it on each (see `cluster`).

    Args:
        recipe_name: a name in `recipes.RECIPES`.
        flags: the flags of the run.
        callbacks: further Keras callbacks.
        variant: the recipe to train instead of the one of that name.

    Returns:
        `run`, `best`, `steps`, `seconds`, `saving_seconds`, `terminated`, `signal` (SIGTERM or
        SIGINT if terminated, else None), `monitor`, `best_value`, `waiting` (fraction of the time
        spent waiting for data), `diagnoses`, `skipped_damaged` (number of records) and the `logs`
        of the last epoch.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: the flags, the records or the run directory
            are invalid.
        CommandFailed: the loss became NaN; earlier checkpoints are kept.
    """
    flags = with_compute(flags)
    cluster = read_cluster()
    with watch(cluster):
        return _train(recipe_name, flags, callbacks, variant, cluster)


def _train(
    recipe_name: str,
    flags: FitFlags,
    callbacks: Sequence[keras.callbacks.Callback],
    variant: Recipe | None,
    cluster: Cluster,
) -> dict:
    chosen = variant or recipe(recipe_name)
    # First, because any use of TensorFlow initialises its devices, which cannot be changed later.
    strategy = make_strategy(flags.execution.replicas, len(cluster.workers))
    callbacks = [*callbacks, *named_callbacks(flags.execution.callback)]
    records = open_training_sets(
        flags.records,
        flags.data.record_weights,
        flags.val,
        # Outside the run directory, which --overwrite deletes and which is created later.
        salvage_to=Path(f"{flags.run}.salvaged") if flags.data.skip_damaged else None,
        val_in_training=may_validate_in_training(flags),
    )
    files = records.files
    if flags.val:
        split_files(*records_reference(flags.val, "val"))  # fails before the model is built
    given = flags.with_steps(records.images)
    start, flags = open_start(flags, chosen)
    needs = chosen.needs_vocabulary and start is None
    if needs and not flags.model.vocabulary and flags.model.text_weights == "none":
        own = vocabulary_file(records.directories[0])
        raise ValueError(
            f"{recipe_name} needs {chosen.needs_vocabulary}; fetch it and give --vocabulary PATH, "
            f"or --vocabulary {own} to use the one of the records"
        )
    flags = flags.with_steps(records.images)
    before = extended_after(flags)
    # What the run was before it was extended.
    first = replace(flags, steps=before[0], extend=False) if before else flags
    if flags.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"--batch-size {flags.batch_size} cannot be divided equally among "
            f"{strategy.num_replicas_in_sync} replicas; use a multiple of "
            f"{strategy.num_replicas_in_sync}"
        )
    with damage_named(files), strategy.scope():
        trained = prepare_model(
            first,
            records.directories,
            files,
            options=chosen.options(flags),
            trained_on={
                "recipe": recipe_name,
                "records": ", ".join(map(str, records.directories)),
                "records_fingerprint": records.fingerprint(),
                "steps": flags.steps,
                "seed": flags.seed,
                "never_trained": list(flags.evaluation.never_trained),
            },
            start=start,
            resumed=resumed_config(flags),
        )
    config = run_config(given, recipe_name, trained, records, before)
    if cluster.is_chief:
        run_directory(flags.run, config, overwrite=flags.overwrite)
    barrier(strategy)
    if not cluster.is_chief:
        join_run(flags.run, config)

    model = trained.dual_encoder
    say(
        f"{recipe_name}: {flags.model.image_tower} {model.image_tower.count_params():,} + "
        f"{flags.model.text_tower} {model.text_tower.count_params():,} parameters, "
        f"{flags.steps} steps of {flags.batch_size} on {strategy.num_replicas_in_sync} replica(s)"
    )
    with damage_named(files):
        with chief_first(strategy, cluster):
            ends = (*before[1:], flags.steps) if before else ()
            phases = make_phases(first, trained, records, cluster.input_shard, ends)
    with chief_first(strategy, cluster):
        stored = validation_features(flags, trained)
        measurements, monitor = make_validation(
            flags, trained, strategy, cluster.input_shard, stored
        )
    writes = cluster.is_chief
    other_suffix = "unaveraged" if flags.evaluation.measure_average else "averaged"
    keep = KeepBest(trained, flags.run / "best", monitor, other_suffix=other_suffix, writes=writes)
    stop = StopOnNaN(
        flags.run / BROKEN_BATCH,
        lambda update: batch_keys(records, update, flags.batch_size, flags.seed),
        writes=writes,
    )
    manifests = [one.manifest for one in records.sets]
    step_timer = StepTimer()
    with damage_named(files):
        sample = sample_records(files)
    texts = check_texts(sample.texts, trained.tokenizer)
    diagnostics = Diagnostics(
        step_timer,
        chance=Chance.of(flags),
        known_faults=[
            *_faults_before_training(flags, model, strategy.num_replicas_in_sync, manifests),
            *text_faults(texts, trained.config.context_length),
            *picture_faults(sample.short_sides, flags.model.image_size),
        ],
        # Texts of several phrases are longer than the sampled ones.
        cut=texts.cut_fraction if flags.sampling.phrases == 1 else None,
    )
    interval = Interval.parse(flags.execution.checkpoint_every)
    checkpoints = Checkpoints(flags.run / CHECKPOINTS, interval, writes=writes)
    logs = [
        LogFile(flags.run / "log.csv", step_timer.columns, lambda: step_timer.step),
        TensorBoardLog(flags.run / "tensorboard", _picture(flags, trained, stored)),
    ]
    epoch_steps = min(flags.evaluation.evaluate_every, flags.steps)
    with damage_named(files):
        ended = run_steps(
            model,
            strategy,
            phases,
            epoch_steps=epoch_steps,
            callbacks=[
                stop,
                diagnostics,
                Validation(measurements),
                *records.callbacks(
                    seed=flags.seed,
                    batch_size=flags.batch_size,
                    epoch_steps=epoch_steps,
                    steps=flags.steps,
                ),
                keep,
                EvaluationLine(step_timer, monitor, lambda: keep.best_epoch),
                *(logs if writes else ()),
                *_early_stopping(flags, monitor),
                *callbacks,
            ],
            checkpoints=checkpoints,
            step_timer=step_timer,
            measure_average=flags.evaluation.measure_average,
            extended_after=before,
            jit_compile=flags.execution.jit_compile == "on",
            steps_per_execution=flags.execution.steps_per_execution,
        )
    if stop.stopped_at is not None:
        best = keep.best if keep.best_value is not None else None
        raise CommandFailed(
            f"the loss or its gradient became NaN or infinite at step {stop.stopped_at}; the "
            f"records of its batch are in {stop.path}; the last good checkpoint is "
            f"{checkpoints.newest_path()}, the best model {best}; "
            f"try a lower --learning-rate (now {flags.optimizer.learning_rate}) or "
            "--precision float32"
        )
    if writes and not ended.terminated and not ended.was_finished:
        save_trained(flags.run / CHECKPOINTS / LAST, trained, other_suffix, averages(model))
        checkpoints.finish()
    barrier(strategy)
    return {
        "run": str(flags.run),
        "best": str(keep.best),
        "steps": ended.step,
        "seconds": round(ended.seconds, 1),
        "saving_seconds": round(checkpoints.seconds, 2),
        "terminated": ended.terminated,
        "signal": ended.signal,
        "monitor": monitor,
        "best_value": keep.best_value,
        "waiting": round(step_timer.waiting_fraction, 4),
        "diagnoses": diagnostics.diagnoses,
        "skipped_damaged": records.skipped,
        "logs": {name: values[-1] for name, values in ended.history.history.items()},
    }


def _faults_before_training(
    flags: FitFlags, model: DualEncoder, replicas: int, train: Sequence[Manifest]
) -> list[str]:
    """Return messages about faults that are detected before training."""
    val = load_manifest(records_reference(flags.val, "val")[0]) if flags.val else None
    rows = flags.batch_size // replicas
    return [
        *wrong_normalization(model, rows, replicas),
        *other_preprocessing(flags, train, val),
    ]


def _picture(
    flags: FitFlags, trained: TrainedModel, stored: StoredFeatures
) -> Callable[[], bytes] | None:
    """Return a function that draws retrievals from the validation records, None without them."""
    if not flags.val:
        return None
    directory, split = records_reference(flags.val, "val")
    return RetrievalGrid(trained, directory, split, **embed_stored(trained, *stored)).png


def _early_stopping(flags: FitFlags, monitor: str) -> list[keras.callbacks.Callback]:
    if flags.evaluation.patience is None:
        return []
    mode = "min" if monitor.endswith("loss") else "max"
    return [keras.callbacks.EarlyStopping(monitor, patience=flags.evaluation.patience, mode=mode)]
