"""The phases of a run: batches from records, or from stored outputs of frozen towers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from tfclip.console import say
from tfclip.evaluation.embedding.features.feature_cache import (
    ImageFeatures,
    Storage,
    TextFeatures,
    image_features,
    text_features,
)
from tfclip.evaluation.embedding.features.joined_features import join_images, join_texts
from tfclip.inputs.batches import training_batches
from tfclip.inputs.input_shards import InputShard
from tfclip.inputs.mixture import endless_examples
from tfclip.inputs.text_lengths import shortened
from tfclip.models.contrastive_model import MODALITIES
from tfclip.models.objective.distillation import Distillation
from tfclip.models.saving import TrainedModel
from tfclip.records import schema
from tfclip.training.data.feature_batches import feature_batches
from tfclip.training.data.tagging_targets import make_tagging_loss
from tfclip.training.data.teacher_words import make_word_distillation, start_table
from tfclip.training.data.teachers import Teachers, open_teachers
from tfclip.training.data.training_sets import TrainingSets
from tfclip.training.loop.trainer import Phase
from tfclip.training.options.flags import FitFlags
from tfclip.training.setup.adapt_heads import adapt_heads
from tfclip.training.setup.build_model import compile_extension, compile_unfrozen


class StoredFeatures(NamedTuple):
    """The stored outputs of the frozen towers over a split; None for a tower that is not frozen."""

    image: ImageFeatures | None = None
    text: TextFeatures | None = None


def make_phases(
    flags: FitFlags,
    trained: TrainedModel,
    records: TrainingSets,
    input_shard: InputShard,
    ends: Sequence[int] = (),
) -> list[Phase]:
    """Return the run as one phase, or as two if frozen towers are unfrozen later; and a phase for
    each extension.

    Args:
        flags: with the `steps` before the first extension.
        trained: the compiled model; the weights of its heads may be initialised here.
        records: the training records.
        input_shard: the rows of each batch that this worker reads.
        ends: for a run that was extended, the steps at the end of each extension.
    """
    parts = [(one.read_from, one.split) for one in records.sets]
    directory, split = parts[0]
    stored = StoredFeatures()
    if flags.freeze.cache_features:
        stored = _joined(
            [frozen_features(flags, trained, *part, flags.sampling.views) for part in parts]
        )
    adapt_heads(trained, directory, split, **stored._asdict())
    tagging_loss = None
    if weight := flags.objective.word_weight:
        where = Storage(cache=flags.freeze.feature_cache) if flags.freeze.stores_features else None
        tagging_loss = make_tagging_loss(
            trained, parts, weight=weight, seed=flags.seed, where=where
        )
    teachers = None
    if names := flags.distillation.teacher:
        teachers = open_teachers(directory, split, names, flags.sampling.views)
        trained.dual_encoder.distillation = distillation(flags, teachers)
        if weight := flags.distillation.teacher_words:
            words = make_word_distillation(
                trained, directory, names[0], weight=weight, seed=flags.seed
            )
            trained.dual_encoder.word_distillation = words
            is_new = flags.model.init is None and "text" not in trained.dual_encoder.frozen
            if trained.config.text_tower == "token-table" and is_new:
                start_table(trained, words)
    size: dict[str, Any] = {
        "batch_size": flags.batch_size,
        "seed": flags.seed,
        "words": tagging_loss,
        "teachers": teachers,
        "input_shard": input_shard,
    }
    first = flags.freeze.unfreeze_after or flags.steps
    from_records = partial(
        training_batches,
        records.inputs,
        trained.tokenizer,
        trained.config.picture_size,
        flags.sampling,
        epoch_size=records.images,
        **size,
    )
    from_stored = partial(
        feature_batches,
        records.inputs,
        records.counts,
        trained.tokenizer,
        trained.config.picture_size,
        flags.sampling,
        image=stored.image,
        text=stored.text,
        **size,
    )

    def batches(start: int) -> tf.data.Dataset:
        is_unfrozen = flags.freeze.unfreeze_after is not None and start >= first
        uses_stored = flags.freeze.stores_features and not is_unfrozen
        dataset = (from_stored if uses_stored else from_records)(start_step=start)
        return shortened(dataset, trained.config.context_length)

    phases = [Phase(first, batches)]
    if flags.freeze.unfreeze_after:
        begin = partial(compile_unfrozen, trained.dual_encoder, flags)
        phases.append(Phase(flags.steps - first, batches, begin))
    for start, end in pairwise((flags.steps, *ends)):
        begin = partial(compile_extension, trained.dual_encoder, flags, start, end - start)
        phases.append(Phase(end - start, batches, begin))
    return phases


def distillation(flags: FitFlags, teachers: Teachers) -> Distillation:
    """Return the losses of the flags against stored teachers.

    Raises:
        ValueError: a loss needs one teacher with embeddings of the student's size.
    """
    options, sizes = flags.distillation, [one.size for one in teachers.teachers]
    options.check_sizes(sizes, flags.model.embed_dim)
    say(
        "distillation from "
        + ", ".join(f"{one.name} ({one.size} numbers)" for one in teachers.teachers)
    )
    return Distillation(
        sizes=tuple(sizes),
        scales=tuple(one.scale for one in teachers.teachers),
        affinity=options.teacher_affinity,
        feature=options.teacher_feature,
        interactive=options.teacher_interactive,
        contrastive=options.contrastive_weight,
    )


def frozen_features(
    flags: FitFlags,
    trained: TrainedModel,
    directory: Path,
    split: str,
    views: str,
    modalities: Sequence[str] = MODALITIES,
) -> StoredFeatures:
    """Return the outputs of the frozen towers over a split, computed if they are not stored."""
    options = flags.freeze
    towers = set(options.towers).intersection(modalities)
    where = Storage(options.feature_precision, options.feature_cache, options.compute)
    image = text = None
    if "image" in towers:
        image = image_features(trained, directory, split, views, where)
    if "text" in towers:
        text = text_features(trained, directory, split, where)
    return StoredFeatures(image, text)


def _joined(parts: Sequence[StoredFeatures]) -> StoredFeatures:
    """Return the features of several sets, one after the other."""
    images = [part.image for part in parts if part.image is not None]
    texts = [part.text for part in parts if part.text is not None]
    return StoredFeatures(
        join_images(images) if images else None, join_texts(texts) if texts else None
    )


def batch_keys(records: TrainingSets, update: int, batch_size: int, seed: int) -> list[str]:
    """Return the keys of the records of an update, counted from 0, in batch order."""
    keys = endless_examples(
        records.inputs,
        seed=seed,
        start=update * batch_size,
        features=(schema.KEY,),
        sample=lambda own, number, record: record[schema.KEY],
        epoch_size=records.images,
    )
    return [key.decode("utf-8", "replace") for key in keys.take(batch_size).as_numpy_iterator()]
