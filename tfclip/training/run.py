"""One training run: from flags to a run directory with the log, the last and the best model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import keras
import tensorflow as tf

from tfclip.console import CommandFailed, say
from tfclip.evaluation.classification_run import evaluate_classification
from tfclip.evaluation.retrieval_run import evaluate_retrieval
from tfclip.evaluation.split_scorer import SplitScorer
from tfclip.inputs.batches import Drawing, training_batches, validation_batches
from tfclip.inputs.mixture import Mixture
from tfclip.inputs.shares import Share
from tfclip.inputs.text_lengths import shortened
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.saved import TrainedModel, save_model
from tfclip.records import schema
from tfclip.records.manifest import VOCABULARY, Manifest, load_manifest, records_reference
from tfclip.records.reader import endless_shards, split_files
from tfclip.records.verify import damage_named
from tfclip.training.adapt import adapt_heads
from tfclip.training.board import Board
from tfclip.training.callbacks import LogFile, Measure, StopOnNaN
from tfclip.training.checkpoints import Checkpoints, Interval
from tfclip.training.clock import Clock
from tfclip.training.cluster import Cluster, read_cluster
from tfclip.training.doctor import (
    Doctor,
    chance_loss,
    other_preprocessing,
    wrong_normalization,
)
from tfclip.training.feature_batches import feature_batches, stored_validation_batches
from tfclip.training.feature_cache import (
    ImageFeatures,
    Storage,
    TextFeatures,
    image_features,
    text_features,
)
from tfclip.training.feature_evaluation import StoredRetrieval
from tfclip.training.flags import FitFlags
from tfclip.training.keep_best import KeepBest
from tfclip.training.loop import Phase, mean_loss, run_steps
from tfclip.training.peers import barrier, chief_first, watch
from tfclip.training.prepare import compile_unlocked, make_strategy, prepare_model
from tfclip.training.recipes import Recipe, recipe
from tfclip.training.retrieval_grid import RetrievalGrid
from tfclip.training.run_directory import join_run, run_config, run_directory
from tfclip.training.training_sets import open_training_sets
from tfclip.training.word_training import ask_for_words

CHECKPOINTS = "checkpoints"
BROKEN_BATCH = "broken_batch.json"


def train(
    recipe_name: str,
    flags: FitFlags,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    variant: Recipe | None = None,
) -> dict:
    """Train a recipe and write `flags.run`; on each of several machines (see `cluster`).

    Args:
        recipe_name: a name in `recipes.RECIPES`.
        flags: where the data lies, and what differs from the recipe.
        callbacks: further Keras callbacks of the caller.
        variant: trained in the place of the recipe of that name.

    Returns:
        `run`, `best`, `steps`, `seconds`, `saving_seconds`, `terminated`, `monitor`, `best_value`,
        `waiting` (the share of the time), `diagnoses`, `skipped_damaged` (the records) and the
        last epoch's `logs`.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: for flags that cannot be trained with.
        CommandFailed: when the loss became NaN; what was saved before is kept.
    """
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
    # Before anything else uses TensorFlow, whose devices are fixed from then on.
    strategy = make_strategy(flags.replicas, len(cluster.workers))
    records = open_training_sets(
        flags.records,
        flags.record_weights,
        flags.val,
        # Beside the run, which --overwrite deletes and which is made only once its model is.
        salvage_to=Path(f"{flags.run}.salvaged") if flags.skip_damaged else None,
    )
    directory, split, files = records.sets[0].read_from, records.sets[0].split, records.files
    val_files = split_files(*_with_split(flags.val, "val")) if flags.val else None
    if chosen.needs_vocabulary and not flags.vocabulary and flags.text_weights == "none":
        raise ValueError(
            f"{recipe_name} reads texts by {chosen.needs_vocabulary}; fetch it and give "
            f"--vocabulary PATH, or {records.directories[0] / VOCABULARY} to use the records' own"
        )
    flags = flags.with_steps(records.images)
    if flags.batch_size % strategy.num_replicas_in_sync:
        raise ValueError(
            f"--batch-size {flags.batch_size} cannot be shared equally by "
            f"{strategy.num_replicas_in_sync} replicas"
        )
    with damage_named(files), strategy.scope():
        trained = prepare_model(
            flags,
            records.directories,
            files,
            options=chosen.options(flags),
            trained_on={
                "recipe": recipe_name,
                "records": ", ".join(map(str, records.directories)),
                "records_fingerprint": records.fingerprint(),
                "steps": flags.steps,
                "seed": flags.seed,
                "never_trained": list(flags.never_trained),
            },
        )
    config = run_config(flags, recipe_name, trained, records.fingerprint())
    if cluster.is_chief:
        run_directory(flags.run, config, overwrite=flags.overwrite)
    barrier(strategy)
    if not cluster.is_chief:
        join_run(flags.run, config)

    model = trained.dual_encoder
    say(
        f"{recipe_name}: {flags.image_tower} {model.image_tower.count_params():,} + "
        f"{flags.text_tower} {model.text_tower.count_params():,} parameters, "
        f"{flags.steps} steps of {flags.batch_size} on {strategy.num_replicas_in_sync} replica(s)"
    )
    with damage_named(files):
        with chief_first(strategy, cluster):
            phases = _phases(flags, trained, directory, split, records.drawn_from, cluster.share)
    with chief_first(strategy, cluster):
        measures, monitor = _measures(flags, trained, strategy, val_files, cluster.share)
    writes = cluster.is_chief
    keep = KeepBest(trained, flags.run / "best", monitor, writes=writes)
    stop = StopOnNaN(
        flags.run / BROKEN_BATCH,
        lambda update: batch_keys(records.drawn_from, update, flags.batch_size, flags.seed),
        writes=writes,
    )
    manifests = [one.manifest for one in records.sets]
    clock = Clock()
    doctor = Doctor(
        clock,
        chance=chance_loss(model, flags),
        known=_known_faults(flags, model, strategy.num_replicas_in_sync, manifests),
    )
    interval = Interval.parse(flags.checkpoint_every)
    checkpoints = Checkpoints(flags.run / CHECKPOINTS, interval, writes=writes)
    logs = [
        LogFile(flags.run / "log.csv", clock.told),
        Board(flags.run / "tensorboard", _picture(flags, trained)),
    ]
    epoch_steps = min(flags.evaluate_every, flags.steps)
    with damage_named(files):
        ended = run_steps(
            model,
            strategy,
            phases,
            epoch_steps=epoch_steps,
            callbacks=[
                stop,
                doctor,
                Measure(measures),
                *records.callbacks(
                    seed=flags.seed,
                    batch_size=flags.batch_size,
                    epoch_steps=epoch_steps,
                    steps=flags.steps,
                ),
                keep,
                *(logs if writes else ()),
                *_early_stopping(flags, monitor),
                *callbacks,
            ],
            checkpoints=checkpoints,
            clock=clock,
            measure_average=flags.measure_average,
        )
    if stop.stopped_at is not None:
        best = keep.best if keep.best_value is not None else None
        raise CommandFailed(
            f"the loss or its gradient became NaN or infinite at step {stop.stopped_at}; the "
            f"records of its batch are in {stop.path}; the last good checkpoint is "
            f"{checkpoints.newest_path()}, the best model {best}; "
            f"try a lower --learning-rate (now {flags.learning_rate}) or --precision float32"
        )
    if writes and not ended.terminated:
        save_model(flags.run / CHECKPOINTS / "last", trained)
    barrier(strategy)
    return {
        "run": str(flags.run),
        "best": str(keep.best),
        "steps": ended.step,
        "seconds": round(ended.seconds, 1),
        "saving_seconds": round(checkpoints.seconds, 2),
        "terminated": ended.terminated,
        "monitor": monitor,
        "best_value": keep.best_value,
        "waiting": round(clock.share_waiting, 4),
        "diagnoses": doctor.diagnoses,
        "skipped_damaged": records.skipped,
        "logs": {name: values[-1] for name, values in ended.history.history.items()},
    }


def _with_split(reference: str, default: str) -> tuple[Path, str]:
    directory, split = records_reference(reference)
    return directory, split or default


def _phases(
    flags: FitFlags,
    trained: TrainedModel,
    directory: Path,
    split: str,
    files: list[str] | Mixture,
    share: Share,
) -> list[Phase]:
    """The run as one phase, or two where locked towers are freed after a while."""
    drawing = Drawing(
        image_size=flags.image_size,
        regions=flags.regions,
        region_share=flags.shown_regions,
        max_phrases=flags.max_phrases,
        region_margin=flags.region_margin,
        crop_scale=flags.crop_scale,
        flip=flags.flip,
        phrases=flags.phrases,
        views=flags.views,
        captions=flags.captions,
    )
    stored = {"image": None, "text": None}
    if flags.cache_features:
        stored = locked_features(flags, trained, directory, split, flags.views)
    adapt_heads(trained, directory, split, **stored)
    words = None
    if flags.word_weight:
        words = ask_for_words(trained, directory, split, weight=flags.word_weight, seed=flags.seed)
    size = {"batch_size": flags.batch_size, "seed": flags.seed, "words": words, "share": share}
    first = flags.unlock_after or flags.steps
    from_records = partial(training_batches, files, trained.tokenizer, drawing, **size)
    from_stored = partial(
        feature_batches, directory, split, trained.tokenizer, drawing, **stored, **size
    )

    def batches(start: int) -> tf.data.Dataset:
        uses_stored = flags.locked and flags.cache_features and start < first
        made = (from_stored if uses_stored else from_records)(start_step=start)
        return shortened(made, trained.config.context_length)

    phases = [Phase(first, batches)]
    if flags.unlock_after:
        begin = partial(compile_unlocked, trained.dual_encoder, flags)
        phases.append(Phase(flags.steps - first, batches, begin))
    return phases


def batch_keys(
    files: Sequence[str] | Mixture, update: int, batch_size: int, seed: int
) -> list[str]:
    """The keys of the records of an update, counted from 0, in the order of its batch."""
    start, features = update * batch_size, (schema.KEY,)
    if isinstance(files, Mixture):
        keys = files.examples(seed, start, features, lambda own, number, record: record[schema.KEY])
    else:
        keys = endless_shards(
            files,
            shuffle_seed=seed,
            start=start,
            features=features,
            then=lambda number, record: record[schema.KEY],
        )
    return [key.decode("utf-8", "replace") for key in keys.take(batch_size).as_numpy_iterator()]


def _known_faults(
    flags: FitFlags, model: DualEncoder, replicas: int, train: Sequence[Manifest]
) -> list[str]:
    """What the doctor can say before training begins."""
    val = load_manifest(_with_split(flags.val, "val")[0]) if flags.val else None
    rows = flags.batch_size // replicas
    return [
        *wrong_normalization(model, rows, replicas),
        *other_preprocessing(flags, train, val),
    ]


def _picture(flags: FitFlags, trained: TrainedModel) -> Callable[[], bytes] | None:
    """What draws the retrievals of the validation records."""
    if not flags.val:
        return None
    directory, split = _with_split(flags.val, "val")
    return RetrievalGrid(trained, directory, split).png


def locked_features(
    flags: FitFlags, trained: TrainedModel, directory: Path, split: str, views: str
) -> dict[str, ImageFeatures | TextFeatures | None]:
    """The stored outputs of the locked towers over a split, `image` and `text`; None where the
    tower is not locked."""
    where = Storage(flags.feature_precision, flags.feature_cache)
    image = text = None
    if "image" in flags.locked:
        image = image_features(trained, directory, split, views, where)
    if "text" in flags.locked:
        text = text_features(trained, directory, split, where)
    return {"image": image, "text": text}


def _early_stopping(flags: FitFlags, monitor: str) -> list[keras.callbacks.Callback]:
    if flags.patience is None:
        return []
    mode = "min" if monitor.endswith("loss") else "max"
    return [keras.callbacks.EarlyStopping(monitor, patience=flags.patience, mode=mode)]


def _measures(
    flags: FitFlags, trained: TrainedModel, strategy, val_files, share: Share
) -> tuple[dict, str]:
    """The measurements between epochs, and the log that chooses the best model."""
    measures, monitors = {}, []
    if val_files:
        directory, split = _with_split(flags.val, "val")
        size = {"batch_size": flags.batch_size}
        if len(flags.locked) == 2 and flags.cache_features and not flags.unlock_after:
            stored = locked_features(flags, trained, directory, split, views="1")
            batches = stored_validation_batches(**stored, **size)
            retrieval = StoredRetrieval(trained.dual_encoder, **stored).metrics
        else:
            batches = validation_batches(val_files, trained.tokenizer, flags.image_size, **size)
            batches = shortened(batches, trained.config.context_length)
            retrieval = partial(evaluate_retrieval, trained, f"{directory}:{split}")
        part = share.of(batches)
        measures["loss"] = lambda: {"val_loss": mean_loss(trained.dual_encoder, strategy, part)}
        measures["recall"] = lambda: _recalls(retrieval())
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


def _recalls(found: dict) -> dict[str, float]:
    """The recalls as numbers of the log, and their mean."""
    sides = {"i2t": found["image_to_text"], "t2i": found["text_to_image"]}
    recalls = {f"val_{s}_{k}": v[k] for s, v in sides.items() for k in ("r1", "r5", "r10")}
    return {**recalls, "val_recall": sum(recalls.values()) / len(recalls)}
