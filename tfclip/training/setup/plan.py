"""Implements `fit --dry-run`: builds the model with its weights, and writes nothing."""

from __future__ import annotations

from tfclip.records.manifest import load_manifest, records_reference
from tfclip.training.data.training_sets import TrainingSets, open_training_sets
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.recipes import Recipe
from tfclip.training.options.saved_flags import may_validate_in_training, resumed_config
from tfclip.training.setup.build_model import prepare_model
from tfclip.training.workers.strategy import make_strategy

FLOAT_BYTES = 4
# Weights, gradients, and the two moments of AdamW.
COPIES = 4


def plan_run(name: str, recipe: Recipe, flags: FitFlags) -> dict:
    """Build the model of a run and return its resolved flags, its sizes and its files.

    Weights and vocabulary are read and caption lengths measured, so that errors before the first
    step are raised here too. Damaged records are only detected in training.
    """
    strategy = make_strategy(flags.execution.replicas, 1)
    records = open_training_sets(
        flags.records,
        flags.data.record_weights,
        flags.val,
        val_in_training=may_validate_in_training(flags),
    )
    flags = flags.with_steps(records.images)
    with strategy.scope():
        trained = prepare_model(
            flags,
            records.directories,
            records.files,
            options=recipe.options(flags),
            trained_on={"recipe": name},
            resumed=resumed_config(flags),
        )
    model, config = trained.dual_encoder, trained.config
    training = sum(v.value.shape.num_elements() for v in model.trainable_variables)
    return {
        "recipe": name,
        "flags": flags.to_dict(),
        "model": config.to_dict(),
        "sizes": {
            "parameters": model.count_params(),
            "trained_parameters": training,
            "weights_mb": round(model.count_params() * FLOAT_BYTES / 1e6, 1),
            "training_state_mb": round(training * FLOAT_BYTES * COPIES / 1e6, 1),
            "training_pictures": records.images,
            "validation_pictures": _validation_pictures(flags),
            "steps": flags.steps,
            "examples": flags.steps * flags.batch_size,
        },
        "writes": {"run": str(flags.run), "features": _feature_folders(flags, records)},
    }


def _validation_pictures(flags: FitFlags) -> int:
    if not flags.val:
        return 0
    directory, split = records_reference(flags.val, "val")
    return load_manifest(directory).splits[split].images


def _feature_folders(flags: FitFlags, records: TrainingSets) -> list[str]:
    """Return the folders for outputs of frozen towers."""
    if not flags.freeze.stores_features:
        return []
    return [str(flags.freeze.feature_cache or one / "features") for one in records.directories]
