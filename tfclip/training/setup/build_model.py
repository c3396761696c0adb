"""Builds a model ready to train from flags: vocabulary, context length, towers, optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfclip.console import say
from tfclip.evaluation.embedding.openai_templates import IMAGENET_TEMPLATES
from tfclip.graphs import as_written
from tfclip.inputs.text import (
    LearntPieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    choose_context_length,
    tokenizer_from_file,
)
from tfclip.inputs.tokenizers.of_records import SHORTEST, tokenizer_of
from tfclip.models.config import ModelConfig
from tfclip.models.contrastive_model import MODALITIES
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.layers.low_rank import add_adapters
from tfclip.models.layers.normalization import batch_normalizations, synchronize_normalization
from tfclip.models.saving import TrainedModel
from tfclip.models.weights.image_weights import load_image_weights
from tfclip.models.weights.text_weights import PretrainedText, load_text_weights
from tfclip.records import schema
from tfclip.records.reader import read_shards
from tfclip.training.options.flags import FitFlags
from tfclip.training.setup.optimizer import LayerwiseAdamW, depth_factors, make_optimizer
from tfclip.training.setup.start import Start

# Enough captions to estimate the distribution of their lengths.
CAPTIONS_MEASURED = 20_000
LONGEST = 512
# Tokens of most class names, if each letter is a token.
CLASS_NAME = 16


def prepare_model(
    flags: FitFlags,
    directories: Sequence[Path],
    files: list[str],
    *,
    options: Mapping[str, Mapping],
    trained_on: Mapping,
    start: Start | None = None,
    resumed: Mapping | None = None,
) -> TrainedModel:
    """Build the model with its tokenizer, pretrained weights and optimizer; within the strategy.

    Args:
        flags: the flags of the run.
        directories: the training records, for their vocabulary.
        files: their shards, to measure caption lengths and learn a common vocabulary.
        options: options of towers and heads by the names of `ModelConfig`; see `Recipe.options`.
        trained_on: a description of the training, saved with the model.
        start: the model of `--init`.
        resumed: the configuration of the run to resume.

    Raises:
        ValueError, FileNotFoundError: a vocabulary or weights are missing or do not fit.
    """
    pretrained = load_text_weights(flags.model.text_tower, flags.model.text_weights)
    if start is not None:
        tokenizer, options = start.tokenizer(flags.model.context_length), start.options()
    else:
        tokenizer = _tokenizer(flags, directories, files, pretrained, resumed)
        tokenizer = tokenizer.with_context_length(
            flags.model.context_length or _measured_context(tokenizer, files, pretrained)
        )
    options = {**options, "text_options": _text_options(pretrained, options["text_options"])}
    keras.utils.set_random_seed(flags.seed)
    dual_encoder = DualEncoder(
        model_config(flags, options, tokenizer.context_length, tokenizer.vocabulary_size)
    )
    load_image_weights(dual_encoder.image_tower, flags.model.image_tower, flags.model.image_weights)
    if pretrained:
        pretrained.copy_into(dual_encoder.text_tower)
    if start is not None:
        start.copy_into(dual_encoder)
        trained_on = {**trained_on, **start.described()}
    dual_encoder.freeze(flags.freeze.towers)
    if ranks := flags.freeze.lora_ranks:
        adapt_towers(dual_encoder, ranks)
    _normalize_together(dual_encoder, flags)
    compile_for_training(dual_encoder, flags)
    return TrainedModel(dual_encoder, tokenizer, trained_on)


def _text_options(pretrained: PretrainedText | None, recipes: Mapping) -> dict:
    """Return the options of a pretrained text tower, and print what the folder decides.

    The folder's options have priority over the recipe's, except for the unit norm.
    """
    options = dict(recipes)
    if pretrained:
        for note in pretrained.notes:
            say(f"note: {note}")
        options = {**pretrained.options, **{n: recipes[n] for n in recipes if n == "normalize"}}
        options = {**recipes, **options}
    if pretrained and "pooling" in pretrained.options:
        parts = [f"pooling {options['pooling']}"]
        parts += [f"dense layers: {len(options['dense'])}"] if options.get("dense") else []
        parts += ["unit norm"] if options.get("normalize") else []
        say(f"{pretrained.origin}: its texts are encoded with {', '.join(parts)}")
    return {name: value for name, value in options.items() if (name, value) != ("normalize", False)}


def adapt_towers(model: DualEncoder, ranks: Mapping[str, int]) -> None:
    """Add adapters to the towers with a rank, and freeze the others.

    Raises:
        ValueError: a tower has no projections to adapt; names it, and the way out.
    """
    model.freeze([modality for modality, rank in ranks.items() if not rank])
    for modality, rank in ranks.items():
        tower, name = f"{modality}_tower", getattr(model.config, f"{modality}_tower")
        if not rank:
            say(f"--lora {modality}=0: the {modality} tower {name} is frozen")
            continue
        try:
            added = add_adapters(getattr(model, tower), rank)
        except ValueError:
            raise ValueError(
                f"received --lora {modality}={rank}, but the {modality} tower {name} is no "
                "transformer: LoRA adapts the projections of attention and its perceptrons; use "
                f"--lora {modality}=0, which freezes it, or omit --lora"
            ) from None
        say(
            f"--lora {modality}={rank}: {added.layers} projections of {name} have adapters with "
            f"{added.parameters:,} parameters, {added.parameters / added.fixed:.1%} of its "
            f"{added.fixed:,}, which stay fixed"
        )


def _normalize_together(model: DualEncoder, flags: FitFlags) -> None:
    """Synchronise batch normalisation across replicas; print a note if it uses micro-batches."""
    micro_batch = flags.optimizer.micro_batch
    if micro_batch is None:
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            synchronize_normalization(model)
        return
    layers = batch_normalizations(model)
    if not flags.freeze.unfreeze_after:
        layers = [layer for layer in layers if layer.trainable]
    if layers:
        say(
            f"note: with --micro-batch {micro_batch}, {len(layers)} batch normalisation layers use "
            f"the statistics of {micro_batch} pictures, not of the whole batch, so that gradients "
            "differ; freeze the tower, or use one without batch normalisation"
        )


def model_config(
    flags: FitFlags,
    options: Mapping[str, Mapping],
    context_length: int,
    vocabulary_size: int,
) -> ModelConfig:
    """Return the architecture given by the flags and the options of `Recipe.options`."""
    model, objective = flags.model, flags.objective
    return ModelConfig(
        image_tower=model.image_tower,
        text_tower=model.text_tower,
        image_size=model.image_size,
        resize=model.resize,
        interpolation=model.interpolation,
        embed_dim=model.embed_dim,
        context_length=context_length,
        vocabulary_size=vocabulary_size,
        image_head=model.image_head,
        text_head=model.text_head,
        initial_logit_scale=objective.logit_scale,
        initial_logit_bias=objective.logit_bias if objective.loss == "sigmoid" else None,
        precision=model.precision,
        **options,
    )


def compile_for_training(model: DualEncoder, flags: FitFlags) -> None:
    """Compile the model with its loss, clipping, and AdamW with warm-up.

    Gradients are clipped in the model's train_step, after the reduction over replicas.
    """
    steps, factors = flags.freeze.unfreeze_after or flags.steps, {}
    if flags.model.init is not None and flags.freeze.lora is None:
        factors = _factors_by_depth(model, flags.freeze.layer_decay)
    optimizer = make_optimizer(flags.optimizer, flags.optimizer.learning_rate, steps, factors)
    _compile(model, optimizer, flags)


def _depth_factors(model: DualEncoder, modalities: Iterable[str], decay: float) -> dict[str, float]:
    """Return the learning rate factors of the towers of some modalities."""
    factors: dict[str, float] = {}
    for modality in modalities:
        factors |= depth_factors(getattr(model, f"{modality}_tower"), decay)
    return factors


def _factors_by_depth(model: DualEncoder, decay: float) -> dict[str, float]:
    """Return the learning rate factors of the towers of --init; print their range."""
    factors = _depth_factors(model, [one for one in MODALITIES if one not in model.frozen], decay)
    if factors and decay < 1:
        say(
            f"--layer-decay {decay}: the learning rate is {min(factors.values()):.1%} of "
            "--learning-rate in the lowest layers of a tower, and rises to 100% towards its output"
        )
    return factors


def compile_unfrozen(model: DualEncoder, flags: FitFlags) -> None:
    """Unfreeze the towers, and compile the model with a new optimizer for the rest of the run.

    After a warm-up the learning rate is `unfrozen_learning_rate`, times `layer_decay` for each
    twelfth of a tower's depth below its output (Clark et al. 2020, ELECTRA, appendix B).
    """
    frozen = model.frozen
    model.freeze(())
    if model.tagging_loss is not None:
        # Its stored features are outputs of a tower that is trained from now on.
        model.tagging_loss = replace(model.tagging_loss, features=None)
    if model.word_distillation is not None:
        model.word_distillation = replace(model.word_distillation, features=None)
    factors = _depth_factors(model, frozen, flags.freeze.layer_decay)
    steps = flags.steps - (flags.freeze.unfreeze_after or 0)
    optimizer = make_optimizer(flags.optimizer, flags.freeze.unfrozen_learning_rate, steps, factors)
    _compile(model, optimizer, flags)


def compile_extension(model: DualEncoder, flags: FitFlags, start: int, steps: int) -> None:
    """Compile the model with a new optimizer for `steps` more steps after step `start`.

    A warm-up and the schedule begin anew, with the learning rates of the run's last phase.
    """
    rate = flags.optimizer.learning_rate
    factors: dict[str, float] = {}
    if flags.freeze.unfreeze_after:
        rate = flags.freeze.unfrozen_learning_rate
        factors = _depth_factors(model, flags.freeze.towers, flags.freeze.layer_decay)
    elif flags.model.init is not None:
        factors = _factors_by_depth(model, flags.freeze.layer_decay)
    warmup = min(flags.optimizer.warmup_steps, steps // 2)
    after = "which then stays" if flags.optimizer.schedule == "constant" else "then cosine to 0"
    say(
        f"--extend: {steps} more steps after step {start}, with a new optimizer: {warmup} steps of "
        f"warm-up to a learning rate of {rate:g}, {after}"
    )
    _compile(model, make_optimizer(flags.optimizer, rate, steps, factors), flags)


def _compile(model: DualEncoder, optimizer: LayerwiseAdamW, flags: FitFlags) -> None:
    if flags.model.precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer,
        flags.objective.loss,
        clip_norm=flags.optimizer.clip_norm,
        micro_batch=flags.optimizer.micro_batch,
        jit_compile=False,
    )
    optimizer.build(model.trainable_variables)


def _tokenizer(
    flags: FitFlags,
    directories: Sequence[Path],
    files: list[str],
    pretrained: PretrainedText | None,
    resumed: Mapping | None,
) -> Tokenizer:
    """Return the tokenizer of the weights, of `--vocabulary`, or of the records, with an arbitrary
    context length. A resumed run keeps its own text rules."""
    own = pretrained.make_tokenizer(SHORTEST) if pretrained else None
    if own is not None:
        if flags.model.vocabulary:
            raise ValueError(
                "received --vocabulary and --text-weights, whose vocabulary is fixed; give only "
                "one of them"
            )
        return own
    if not flags.model.vocabulary:
        return tokenizer_of(directories, files)
    if not flags.model.vocabulary.is_file():
        raise FileNotFoundError(f"no vocabulary at --vocabulary {flags.model.vocabulary}")
    # Before runs saved their tokenizer, every vocab.txt was lower-cased.
    lowercase = None if resumed is None else resumed.get("tokenizer", {}).get("lowercase", True)
    given = tokenizer_from_file(flags.model.vocabulary, SHORTEST, lowercase)
    if isinstance(given, WordPieceTokenizer) and not given.lowercase:
        say(f"{flags.model.vocabulary} is cased: texts keep their case and accents")
    return given


def _texts(files: list[str]) -> tf.data.Dataset:
    """Return all captions and phrases as a dataset of strings."""
    return read_shards(files, features=(schema.CAPTION, schema.PHRASE)).flat_map(
        as_written(
            lambda record: tf.data.Dataset.from_tensor_slices(
                tf.concat([record[schema.CAPTION], record[schema.PHRASE]], axis=0)
            )
        )
    )


def _prompt_length(tokenizer: LearntPieceTokenizer) -> int:
    """Return a context length for common prompts, whose words a small vocabulary splits a lot.

    Batches are shortened to their longest text, so that a longer context costs almost nothing.
    """
    prompts = [template.format("") for template in IMAGENET_TEMPLATES]
    counts = tokenizer.token_counts(prompts).numpy() + CLASS_NAME
    return choose_context_length(counts, fraction=1.0)


def _measured_context(
    tokenizer: Tokenizer, files: list[str], pretrained: PretrainedText | None
) -> int:
    """Choose the context length from the token counts of the training texts."""
    counted = (
        _texts(files).take(CAPTIONS_MEASURED).batch(1024).map(as_written(tokenizer.token_counts))
    )
    parts = list(counted.as_numpy_iterator())
    if not parts:
        raise ValueError("the training records contain no captions or region phrases")
    counts = np.concatenate(parts)
    longest = pretrained.longest_text if pretrained else None
    length = choose_context_length(counts, maximum=longest or LONGEST)
    if isinstance(tokenizer, LearntPieceTokenizer):
        length = max(length, _prompt_length(tokenizer))
    cut = int((counts > length).sum())
    longer = f"; {cut:,} of {len(counts):,} texts are longer and will be cut" if cut else ""
    say(f"context length: {length} tokens{longer}")
    return length
