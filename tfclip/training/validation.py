"""Validation during training: loss, retrieval recall, top-1 accuracy, mAP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from tfclip.console import say
from tfclip.evaluation.embedding.from_features import FeatureEmbedder, FrozenParts
from tfclip.evaluation.tasks.classification import evaluate_classification
from tfclip.evaluation.tasks.map_during_training import SplitScorer
from tfclip.evaluation.tasks.retrieval import evaluate_retrieval
from tfclip.inputs.batches import validation_batches
from tfclip.inputs.input_shards import InputShard
from tfclip.inputs.text_lengths import shortened
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.saving import TrainedModel
from tfclip.records.manifest import records_reference
from tfclip.records.reader import split_files
from tfclip.training.data.feature_batches import stored_validation_batches
from tfclip.training.data.feature_retrieval import StoredRetrieval
from tfclip.training.loop.replicas import distribute, first_replica
from tfclip.training.options.flags import FitFlags
from tfclip.training.phases import StoredFeatures, frozen_features

Measurements = dict[str, Callable[[], dict[str, float]]]


def validation_features(flags: FitFlags, trained: TrainedModel) -> StoredFeatures:
    """Return the outputs of the towers that stay frozen over --val, computed if they are not
    stored."""
    if not flags.val or not _keeps_features(flags):
        return StoredFeatures()
    directory, split = records_reference(flags.val, "val")
    return frozen_features(flags, trained, directory, split, views="1")


def _keeps_features(flags: FitFlags) -> bool:
    return flags.freeze.cache_features and not flags.freeze.unfreeze_after


def make_validation(
    flags: FitFlags,
    trained: TrainedModel,
    strategy: tf.distribute.Strategy,
    input_shard: InputShard,
    stored: StoredFeatures,
) -> tuple[Measurements, str]:
    """Return the measurements by name, and the name of the metric that chooses the best model.

    `stored` are `validation_features`.

    Raises:
        FileNotFoundError, ValueError: --val, --voc or --class-folders cannot be evaluated.
    """
    measurements: Measurements = {}
    monitors = []
    if flags.val:
        directory, split = records_reference(flags.val, "val")
        size = {"batch_size": flags.batch_size}
        count, (image, text) = flags.evaluation.val_images, stored
        if image is not None and text is not None:
            if count is not None:
                image, text = image.first(count), text.first(count)
            batches = stored_validation_batches(image, text, **size)
            retrieval = StoredRetrieval(trained.dual_encoder, image, text).metrics
        else:
            batches = validation_batches(
                split_files(directory, split),
                trained.tokenizer,
                trained.config.picture_size,
                **size,
            )
            if count is not None:
                batches = batches.take(count // flags.batch_size)
            batches = shortened(batches, trained.config.context_length)
            frozen = FrozenParts(FeatureEmbedder(trained.dual_encoder), *stored)
            reference = f"{directory}:{split}"
            retrieval = partial(evaluate_retrieval, trained, reference, images=count, frozen=frozen)
        mean_loss = MeanLoss(trained.dual_encoder, strategy, input_shard.of(batches))
        measurements["loss"] = lambda: {"val_loss": mean_loss()}
        measurements["recall"] = lambda: _recalls(retrieval())
        monitors.append("val_recall")
    if folders := flags.evaluation.class_folders:
        measurements["top1"] = lambda: {"top1": evaluate_classification(trained, folders)["top1"]}
        monitors.append("top1")
    if flags.evaluation.voc:
        scorer = _scorer(flags, trained, flags.evaluation.voc)
        measurements["voc"] = lambda: {"voc_map": scorer.map()}
        monitors.append("voc_map")
    monitor = flags.evaluation.monitor
    if monitor == "auto":
        monitor = ["loss", *monitors][-1]
    if monitor == "loss" and flags.evaluation.monitor == "auto":
        say(
            "note: without --val the best model is chosen by the training loss, which does not "
            "detect overfitting; make_records --val-fraction 0.1 holds out validation pictures"
        )
    return measurements, monitor


def _scorer(flags: FitFlags, trained: TrainedModel, reference: str) -> SplitScorer:
    """Return the measurement of --voc, on stored outputs if the image tower stays frozen."""
    directory, split = records_reference(reference, "val")
    frozen = None
    if _keeps_features(flags) and "image" in flags.freeze.towers and "+" not in split:
        features = frozen_features(flags, trained, directory, split, "1", ["image"])
        frozen = FrozenParts(FeatureEmbedder(trained.dual_encoder), features.image)
    return SplitScorer(trained, directory, split, frozen=frozen)


def _recalls(metrics: dict) -> dict[str, float]:
    """Return the recalls by their names in the log, and their mean."""
    directions = {"i2t": metrics["image_to_text"], "t2i": metrics["text_to_image"]}
    recalls = {f"val_{s}_{k}": v[k] for s, v in directions.items() for k in ("r1", "r5", "r10")}
    return {**recalls, "val_recall": sum(recalls.values()) / len(recalls)}


class MeanLoss:
    """The mean contrastive loss over whole batches; its graph is traced once for all calls."""

    def __init__(
        self, model: DualEncoder, strategy: tf.distribute.Strategy, batches: tf.data.Dataset
    ):
        """Take `model`, created within `strategy`, and `inputs.batches.validation_batches`."""
        self._model, self._strategy, self._batches = model, strategy, batches
        self._test_step: Callable[..., dict] | None = None

    def __call__(self) -> float:
        """Return the mean of one pass over the batches; NaN if there is no batch."""
        self._model.reset_metrics()
        loss = float("nan")
        iterator = iter(distribute(self._strategy, self._batches))
        if self._test_step is None:
            self._test_step = self._traced(iterator.element_spec)
        for batch in iterator:
            loss = float(self._test_step(batch)["loss"])
        self._model.reset_metrics()
        return loss

    def _traced(self, batch_spec) -> Callable[..., dict]:
        # One graph for all shapes, as in training: the last batch is shorter, texts vary.
        @tf.function(input_signature=[batch_spec], autograph=False)
        def test_step(batch):
            values = self._strategy.run(self._model.test_step, args=(batch,))
            return first_replica(self._strategy, values)

        return test_step
