"""Measures semantic textual similarity of a model's text tower or of a pretrained text folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.console import say
from tfclip.evaluation.datasets.sentence_pairs import AVERAGED, find_sets, read_pairs
from tfclip.evaluation.embedding.text_batches import embed_by_length
from tfclip.evaluation.metrics.correlation import pearson, spearman
from tfclip.inputs.text import Tokenizer
from tfclip.models import registry
from tfclip.models.saving import TrainedModel
from tfclip.models.weights.convert_texts import CLIP
from tfclip.models.weights.text_weights import read_folder


@dataclass(frozen=True)
class TextSide:
    """A text encoder: a graph from `token_ids` and `text_mask` to (N,width), and its tokenizer."""

    encode: Callable[..., tf.Tensor]
    tokenizer: Tokenizer
    width: int
    described: str


def text_side_of_model(model: TrainedModel) -> TextSide:
    """Return the text tower and head of a trained model."""
    encode = _graph(model.dual_encoder.encode_text)
    return TextSide(encode, model.tokenizer, model.config.embed_dim, model.config.text_tower)


def text_side_of_folder(path: Path) -> TextSide:
    """Return the tower of a pretrained text folder.

    A sentence-transformers folder states its pooling; other folders of BERT are pooled by the mean.
    CLIP is pooled at the end-of-text token, before its projection.

    Raises:
        FileNotFoundError, ValueError: see `text_weights.read_folder`; or CLIP without merges.
    """
    path = Path(path)
    pretrained = read_folder(path)
    is_clip = pretrained.builder == CLIP
    name = "clip-text" if is_clip else "bert"
    options = {"pooling": "end" if is_clip else "mean", **pretrained.options}
    # A folder of safetensors has a position table; only single .h5 files have none.
    length = pretrained.longest_text or 0
    for note in pretrained.notes:
        say(f"note: {note}")
    tokenizer = pretrained.make_tokenizer(length)
    if tokenizer is None:
        raise FileNotFoundError(
            f"{path} has no merges.txt or tokenizer.json; fetch that file of the model into it"
        )
    tower = registry.text_tower(name).build(
        vocabulary_size=tokenizer.vocabulary_size,
        context_length=length,
        **options,
    )
    pretrained.copy_into(tower)

    def encode(token_ids, text_mask):
        return tower({"token_ids": token_ids, "text_mask": text_mask}, training=False)

    description = f"{path}, pooled by {options['pooling']}, at most {length} tokens"
    return TextSide(_graph(encode), tokenizer, tower.output_shape[-1], description)


def evaluate_sts(side: TextSide, data: Path) -> dict:
    """Correlate the cosines of sentence pairs with human scores, for every set below `data`.

    Returns:
        For each set `spearman`, `pearson`, `pairs` and `unscored`; `mean_spearman` over STS12 to
        STS16 and STS-B, None if one of them is missing; and the arguments.

    Raises:
        FileNotFoundError, ValueError: see `sentence_pairs`.
    """
    sets = {name: read_pairs(paths) for name, paths in find_sets(data).items()}
    texts = sorted({text for pairs in sets.values() for text in pairs.first + pairs.second})
    embeddings = embed_by_length(side.encode, side.tokenizer, texts, side.width)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings = embeddings / np.maximum(norms, 1e-12)
    row = {text: number for number, text in enumerate(texts)}
    figures = {}
    for name, pairs in sets.items():
        first, second = (
            embeddings[[row[text] for text in side]] for side in (pairs.first, pairs.second)
        )
        cosines = np.sum(first * second, axis=1)
        figures[name] = {
            "spearman": spearman(cosines, pairs.scores),
            "pearson": pearson(cosines, pairs.scores),
            "pairs": len(pairs.scores),
            "unscored": pairs.unscored,
        }
    missing = [name for name in AVERAGED if name not in figures]
    if missing:
        say(f"no mean over the sets: {', '.join(missing)} not below {data}")
    mean = None if missing else float(np.mean([figures[name]["spearman"] for name in AVERAGED]))
    return {**figures, "mean_spearman": mean, "text": side.described, "data": str(data)}


def _graph(encode: Callable) -> Callable:
    """Return `encode` as one graph for batches of any size and length."""
    return tf.function(
        encode,
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, "token_ids"),
            tf.TensorSpec([None, None], tf.bool, "text_mask"),
        ],
        autograph=False,
    )
