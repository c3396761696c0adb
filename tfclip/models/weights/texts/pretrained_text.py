"""A pretrained text encoder that has been read, and how it is copied into a tower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import keras
import numpy as np

from tfclip.failures import first_line
from tfclip.inputs.text import Tokenizer
from tfclip.models.weights import convert_texts
from tfclip.models.weights.texts.tokenizer_files import TokenizerFiles

# Rows of a token table beyond the tokens: multilingual models have 250,037 for 250,002.
MOST_PADDING = 128


@dataclass(frozen=True)
class PretrainedText:
    """A pretrained text encoder: its sizes, its vocabulary and its weights.

    Attributes:
        origin: where it comes from, for messages.
        builder: the builder of the towers that it fits; None if any may fit (`.h5`).
        options: the sizes and parts for the builder; the pooling only if the folder states it.
        tokens: the tokenizer, or None if the weights come without one.
        arrays: by the names of `convert_texts.variables_by_name`, or None for an `.h5` file.
        stated_length: the longest text that the folder states, or None.
        notes: what is not used or was decided, to be shown to the user.
    """

    origin: str
    builder: str | None
    options: dict
    tokens: TokenizerFiles | None
    arrays: Mapping[str, np.ndarray] | None
    stated_length: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The tokens, or for CLIP the merges; None if the weights come without."""
        return self.tokens.vocabulary if self.tokens else None

    @property
    def longest_text(self) -> int | None:
        """The longest text: the rows of the position table, or fewer if the folder states fewer;
        None for an `.h5` file."""
        arrays = self.arrays or {}
        tables = [arrays[name] for name in convert_texts.POSITIONS if name in arrays]
        if not tables:
            return None
        return min(len(tables[0]), self.stated_length or len(tables[0]))

    def checked(self, stated_rows: int | None = None) -> PretrainedText:
        """Return these weights if the tokenizer fits the token table.

        A table may have more rows than tokens, as multilingual models do, if the folder's
        configuration states its size; the rows are left out.

        Raises:
            ValueError: the sizes differ.
        """
        if self.tokens is None or self.arrays is None:
            return self
        table = next(name for name in convert_texts.TOKENS if name in self.arrays)
        rows, size = len(self.arrays[table]), self.tokens.make(3).vocabulary_size
        if rows < size or rows > size and (rows != stated_rows or rows - size > MOST_PADDING):
            raise ValueError(
                f"{self.origin}: the vocabulary has {size} tokens and the token table {rows} rows; "
                "take both from the same model"
            )
        return replace(self, arrays={**self.arrays, table: self.arrays[table][:size]})

    def copy_into(self, tower: keras.Model) -> None:
        """Load the weights into a tower that was built with `options`; all of them or none.

        A tower for shorter texts takes the first rows of the position table.

        Raises:
            ValueError: an array is missing, left over, or of another shape.
        """
        if self.arrays is None:
            _load_h5(tower, Path(self.origin))
            return
        variables = convert_texts.variables_by_name(tower)
        missing = sorted(set(variables) - set(self.arrays))
        # A tower without BERT's pooler does not need its weights.
        extra = sorted(n for n in set(self.arrays) - set(variables) if "pooled_dense" not in n)
        if missing or extra:
            raise ValueError(
                f"--text-weights {self.origin} do not fit the tower: "
                f"missing {', '.join(missing[:3]) or 'nothing'}, left over "
                f"{', '.join(extra[:3]) or 'nothing'}"
            )
        arrays = dict(self.arrays)
        for name, variable in variables.items():
            if name in convert_texts.POSITIONS:
                arrays[name] = arrays[name][: variable.shape[0]]
            if tuple(variable.shape) != arrays[name].shape:
                raise ValueError(
                    f"--text-weights {self.origin} do not fit the tower: {name} is "
                    f"{arrays[name].shape}, the tower's is {tuple(variable.shape)}"
                )
        for name, variable in variables.items():
            variable.assign(arrays[name])

    def make_tokenizer(self, context_length: int) -> Tokenizer | None:
        """Return the tokenizer of the weights, or None if they come without a vocabulary."""
        return self.tokens.make(context_length) if self.tokens else None


def _load_h5(tower: keras.Model, path: Path) -> None:
    """Load a file of `tower.save_weights(path)`; after an error the tower is unchanged."""
    before = tower.get_weights()
    try:
        with h5py.File(path) as file:
            arrays = []
            file.visititems(lambda _, node: arrays.append(node) if hasattr(node, "shape") else None)
            count = len(arrays)
        if count != len(before):
            raise ValueError(f"it holds {count} arrays, the tower has {len(before)}")
        tower.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds
        tower.set_weights(before)
        raise ValueError(
            f"--text-weights {path} does not fit this tower: {first_line(error)}"
        ) from error
