"""Adds the tagging loss over caption words to a model: `models.objective.tagging_loss`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.console import say
from tfclip.evaluation.embedding.features.feature_cache import FOLDER, Storage, text_description
from tfclip.evaluation.embedding.features.stored_arrays import stored_arrays
from tfclip.inputs.words import (
    LARGEST_SHARE,
    LEAST_PICTURES,
    MOST_WORDS,
    PROMPT,
    SHORTEST,
    RecordWords,
    split_words,
)
from tfclip.models.objective.tagging_loss import TaggingLoss
from tfclip.models.saving import TrainedModel
from tfclip.records.reader import shard_counts

PROMPTS_AT_ONCE = 256


def make_tagging_loss(
    trained: TrainedModel,
    parts: Sequence[tuple[Path, str]],
    *,
    weight: float,
    seed: int,
    where: Storage | None = None,
) -> RecordWords:
    """Choose words from the captions of splits, and set the model's tagging loss over them.

    Args:
        trained: the model.
        parts: the records with the captions, and the split of each.
        weight: the factor of the loss.
        seed: of the words that are sampled.
        where: where the words and the outputs of a frozen text tower are stored, by default beside
            the first records; None computes them.

    Raises:
        ValueError: no word is frequent enough; or what is stored is damaged.
    """
    stored: dict[str, np.ndarray] = {}
    frozen = "text" in trained.dual_encoder.frozen
    if frozen and where is not None:
        stored = _stored(trained, parts, where)
    words = split_words(*parts) if not stored else _words_of(stored, parts)
    if words.without_blanks:
        named = " and ".join(f"{records}:{split}" for records, split in parts)
        say(
            f"note: {words.without_blanks:,} captions of {named} are in scripts without spaces "
            "(Chinese, Japanese, Thai, ...) and have no words for the tagging loss, "
            "--word-weight; only the contrastive loss learns from them"
        )
    ids, mask = prompt_tokens(trained, words.words)
    features = None
    if frozen:
        features = stored["features"] if stored else prompt_features(trained, ids, mask)
    trained.dual_encoder.tagging_loss = TaggingLoss(
        words.words,
        ids,
        mask,
        None if features is None else tf.constant(features),
        weight,
        seed=seed,
    )
    say(f"tagging loss over {len(words.words)} words: {_listed(words.words)}")
    return words


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) if len(words) < 8 else f"{', '.join(words[:6])} ... {words[-1]}"


def _stored(
    trained: TrainedModel, parts: Sequence[tuple[Path, str]], where: Storage
) -> dict[str, np.ndarray]:
    """Return the words, and the outputs of the text tower for them, as arrays."""
    # In float32 also beside features of lower precision: they are few.
    where = Storage(cache=where.cache)
    described = [text_description(trained, *part, where) for part in parts]
    what = {
        **(described[0] if len(parts) == 1 else {"sets": described}),
        "tagging": [PROMPT, SHORTEST, LEAST_PICTURES, LARGEST_SHARE, MOST_WORDS],
    }

    def compute(folder: Path) -> None:
        words = split_words(*parts)
        np.save(folder / "words.npy", np.array(words.words))
        np.save(folder / "places.npy", words.places)
        np.save(folder / "without_blanks.npy", np.array(words.without_blanks))
        np.save(
            folder / "features.npy", prompt_features(trained, *prompt_tokens(trained, words.words))
        )

    label = "tagging words of " + " and ".join(split for _, split in parts)
    return stored_arrays(what, where.cache or parts[0][0] / FOLDER, compute, label)


def _words_of(stored: dict[str, np.ndarray], parts: Sequence[tuple[Path, str]]) -> RecordWords:
    return RecordWords(
        tuple(map(str, stored["words"])),
        np.asarray(stored["places"]),
        tuple(count for part in parts for count in shard_counts(*part)),
        int(stored["without_blanks"]),
    )


def prompt_tokens(trained: TrainedModel, words: Sequence[str]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the token ids (M,L) and the mask (M,L) int32 of the prompts of words."""
    tokens = trained.tokenizer([PROMPT.format(word) for word in words])
    mask = tf.cast(tokens["text_mask"], tf.int32)
    # Prompts are far shorter than the context, and padding would be computed too.
    fixed = trained.dual_encoder.text_tower.input["token_ids"].shape[1]
    longest = fixed or tf.reduce_max(tf.reduce_sum(mask, axis=1))
    return tokens["token_ids"][:, :longest], mask[:, :longest]


def prompt_features(trained: TrainedModel, ids: tf.Tensor, mask: tf.Tensor) -> np.ndarray:
    """Return the text tower's features (M, F) of prompts (M, L)."""
    run = tf.function(trained.dual_encoder.text_features, reduce_retracing=True, autograph=False)
    parts = [
        run(ids[at : at + PROMPTS_AT_ONCE], mask[at : at + PROMPTS_AT_ONCE])
        for at in range(0, len(ids), PROMPTS_AT_ONCE)
    ]
    return np.concatenate([tf.cast(part, tf.float32) for part in parts])
