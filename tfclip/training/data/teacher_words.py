"""Words that a teacher embeds beside its captions: stored by `embed`, learnt by `fit`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip import files
from tfclip.console import say
from tfclip.evaluation.embedding.embed import embed_texts
from tfclip.inputs.words import PROMPT, SHORTEST
from tfclip.models.objective.word_distillation import WordDistillation
from tfclip.models.saving import TrainedModel
from tfclip.records.teachers import WORD_LIST, WORDS, read_description, teacher_folder
from tfclip.text_lists import read_lines
from tfclip.training.data.reduced_teacher import principal_components
from tfclip.training.data.tagging_targets import prompt_features, prompt_tokens

# The root mean square of the rows of a table that starts from a teacher's words.
ROW_SCALE = 0.3


def whole_words(lines: Iterable[str]) -> list[str]:
    """Return the words and phrases among the lines of a list or a vocabulary, each once.

    Pieces of words, special tokens, numbers, signs and words of fewer than three letters are left
    out.

    Examples:
        >>> whole_words(["[PAD]", "dog", "##s", "tv monitor", "of", "2012", "dog"])
        ['dog', 'tv monitor']
    """
    kept = (line for line in lines if line.replace(" ", "").isalpha() and len(line) >= SHORTEST)
    return list(dict.fromkeys(kept))


def write_words(model: TrainedModel, folder: Path, words: Path, precision: str) -> int:
    """Store the model's embeddings of a prompt for each word of a file; return their number.

    Raises:
        ValueError, OSError: the file cannot be read, or has no word.
    """
    found = whole_words(read_lines(words))
    if not found:
        raise ValueError(f"--words {words} has no words of {SHORTEST} or more letters, one a line")
    embedded = embed_texts(model, [PROMPT.format(word).encode() for word in found])
    np.save(folder / WORDS, embedded.astype(precision))
    (folder / WORD_LIST).write_text("\n".join(found) + "\n", encoding="utf-8")
    return len(found)


def make_word_distillation(
    trained: TrainedModel, records: Path, teacher: str, *, weight: float, seed: int
) -> WordDistillation:
    """Return the loss over the words that a teacher has embedded beside these records.

    Raises:
        ValueError: it has embedded none, or they are damaged.
    """
    folder = teacher_folder(records, teacher)
    again = f"python -m tfclip.make_records embed {records} --teacher RUN --name {teacher}"
    checksums = read_description(records, teacher)["files"]
    if WORDS not in checksums:
        raise ValueError(
            f"--teacher-words needs a teacher that has embedded words, and {teacher} has not; run "
            f"{again} --words FILE --overwrite"
        )
    for name in (WORDS, WORD_LIST):
        if not (folder / name).is_file() or files.checksum(folder / name) != checksums[name]:
            raise ValueError(f"{folder / name} is damaged or missing; run {again} --overwrite")
    words = whole_words(read_lines(folder / WORD_LIST))
    ids, mask = prompt_tokens(trained, words)
    frozen = "text" in trained.dual_encoder.frozen
    say(f"{len(words):,} words of teacher {teacher}")
    return WordDistillation(
        ids,
        mask,
        tf.constant(prompt_features(trained, ids, mask)) if frozen else None,
        tf.constant(np.load(folder / WORDS)),
        weight,
        seed=seed,
    )


def start_table(trained: TrainedModel, words: WordDistillation) -> None:
    """Start the rows of a table of token vectors from what the teacher says of the words.

    A row is the mean of the embeddings of the words with that token, less the mean of all, in as
    many principal components as it has numbers. Tokens of every prompt or of no word stay random.
    """
    table = trained.dual_encoder.text_tower.get_layer("embeddings").tokens
    rows = principal_rows(
        words.token_ids.numpy() * words.text_mask.numpy(), words.embeddings.numpy(), table.shape
    )
    table.assign(np.where(np.isnan(rows), table.numpy(), rows))


def principal_rows(
    token_ids: np.ndarray, embeddings: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Return the rows (V, width) of `start_table` from prompts (M, L) and embeddings (M, D).

    Their root mean square is ROW_SCALE; the rows that stay random are NaN. Token 0 is padding.
    """
    prompts, places = np.nonzero(token_ids)
    tokens = token_ids[prompts, places]
    pairs = np.unique(np.stack([tokens, prompts], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=shape[0])
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    directions, _ = principal_components(centred.T @ centred, shape[1])
    components = centred @ directions
    rows = np.zeros(shape)
    np.add.at(rows[:, : directions.shape[1]], pairs[:, 0], components[pairs[:, 1]])
    rows /= np.maximum(counts, 1)[:, None]
    of_words = (counts > 0) & (counts < len(token_ids))
    rows *= ROW_SCALE / np.sqrt(np.mean(rows[of_words] ** 2))
    rows[~of_words] = np.nan
    return rows
