"""From flags to a model that is ready to train: devices, vocabulary, context, towers, optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfclip.console import say
from tfclip.inputs.text import WordPieceTokenizer, choose_context_length, load_vocabulary
from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.image_weights import load_image_weights
from tfclip.models.normalization import synchronize_normalization
from tfclip.models.saved import TrainedModel
from tfclip.models.text_weights import load_text_weights
from tfclip.records import schema
from tfclip.records.manifest import VOCABULARY
from tfclip.records.reader import read_shards
from tfclip.training.recipes import FitFlags

# Enough captions to know their lengths; more would only take longer.
CAPTIONS_MEASURED = 20_000


def make_strategy(replicas: int) -> tf.distribute.Strategy:
    """The devices to train on; call it before TensorFlow has used any.

    Args:
        replicas: 1 for one device (a GPU when there is one), N for N logical CPU devices, 0 for
            all GPUs.

    Raises:
        ValueError: for 0 without a GPU, or when TensorFlow has already fixed its devices.
    """
    if replicas == 1:
        return tf.distribute.get_strategy()
    if replicas == 0:
        if not tf.config.list_physical_devices("GPU"):
            raise ValueError("--replicas 0 takes all GPUs, but TensorFlow sees none; use 1 or more")
        return tf.distribute.MirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * replicas
    try:
        tf.config.set_logical_device_configuration(cpu, logical)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < replicas:
            raise ValueError(
                f"--replicas {replicas}: TensorFlow already runs with "
                f"{len(tf.config.list_logical_devices('CPU'))} logical CPU devices in this process"
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])


def prepare_model(
    flags: FitFlags,
    directory: Path,
    files: list[str],
    *,
    image_options: Mapping,
    text_options: Mapping,
    trained_on: Mapping,
) -> TrainedModel:
    """Build the model with its tokenizer, pretrained weights and optimizer; within the strategy.

    Args:
        flags: what to build.
        directory: the training records, for their vocabulary.
        files: their shards, to measure caption lengths.
        image_options, text_options: sizes of the towers, from the recipe.
        trained_on: kept with the model.

    Raises:
        ValueError, FileNotFoundError: for a vocabulary or weights that are missing or do not fit.
    """
    pretrained = load_text_weights(flags.text_tower, flags.text_weights)
    vocabulary = _vocabulary(flags, directory, pretrained)
    lowercase = pretrained.lowercase if pretrained else True
    context_length = flags.context_length or _measured_context(vocabulary, lowercase, files)
    if pretrained:
        text_options = pretrained.options
    keras.utils.set_random_seed(flags.seed)
    dual_encoder = DualEncoder(
        ModelConfig(
            image_tower=flags.image_tower,
            text_tower=flags.text_tower,
            image_size=flags.image_size,
            embed_dim=flags.embed_dim,
            context_length=context_length,
            vocabulary_size=len(vocabulary),
            precision=flags.precision,
            image_options=dict(image_options),
            text_options=dict(text_options),
        )
    )
    load_image_weights(dual_encoder.image_tower, flags.image_tower, flags.image_weights)
    if pretrained:
        pretrained.copy_into(dual_encoder.text_tower)
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        synchronize_normalization(dual_encoder)
    compile_for_training(dual_encoder, flags)
    tokenizer = WordPieceTokenizer(vocabulary, context_length, lowercase)
    return TrainedModel(dual_encoder, tokenizer, trained_on)


def compile_for_training(model: DualEncoder, flags: FitFlags) -> None:
    """Give the model AdamW (Loshchilov and Hutter 2019) with warm-up and cosine, and its clipping.

    Weight decay leaves out biases, norms and the temperature. Gradients are clipped by the model's
    own train_step, after the reduce over replicas.
    """
    warmup = min(flags.warmup_steps, flags.steps // 2)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else flags.learning_rate,
        decay_steps=flags.steps - warmup,
        warmup_target=flags.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=flags.weight_decay)
    variables = model.trainable_variables
    optimizer.exclude_from_weight_decay(var_list=[v for v in variables if not _decays(v)])
    if flags.precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.clip_norm = flags.clip_norm
    model.compile(optimizer=optimizer, jit_compile=False)
    optimizer.build(variables)


def _decays(variable: keras.Variable) -> bool:
    # Attention biases are (heads, width) matrices, so the number of axes alone does not tell.
    return len(variable.shape) > 1 and variable.name != "bias"


def _vocabulary(flags: FitFlags, directory: Path, pretrained) -> list[str]:
    if pretrained:
        if flags.vocabulary:
            raise ValueError(
                "--vocabulary and --text-weights exclude each other: weights bring theirs"
            )
        return list(pretrained.vocabulary)
    path = flags.vocabulary or directory / VOCABULARY
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"no vocabulary at {path}; give one with --vocabulary PATH, or pack the records again"
        )
    return load_vocabulary(path)


def _measured_context(vocabulary: list[str], lowercase: bool, files: list[str]) -> int:
    """Choose the context length from the token counts of the training texts."""
    tokenizer = WordPieceTokenizer(vocabulary, 3, lowercase)
    texts = read_shards(files, features=(schema.CAPTION, schema.PHRASE)).flat_map(
        lambda record: tf.data.Dataset.from_tensor_slices(
            tf.concat([record[schema.CAPTION], record[schema.PHRASE]], axis=0)
        )
    )
    counted = texts.take(CAPTIONS_MEASURED).batch(1024).map(tokenizer.token_counts)
    counts = list(counted.as_numpy_iterator())
    if not counts:
        raise ValueError("the training records hold no caption and no region phrase")
    counts = np.concatenate(counts)
    length = choose_context_length(counts)
    say(
        f"context length {length} tokens; {np.mean(counts > length):.1%} of {len(counts)} texts "
        "are longer and will be cut"
    )
    return length
