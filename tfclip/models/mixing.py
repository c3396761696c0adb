"""Interpolates the weights of two models (WiSE-FT: Wortsman et al. 2022, arXiv:2109.01903)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tfclip.models.saving import TrainedModel, load_model


class Line:
    """The models (1 - alpha) A + alpha B, one at a time, in one set of variables.

    All weights are interpolated, including the stored logarithm of the temperature and the
    statistics of batch normalisation; the latter are an approximation, exact where A and B agree.

    Args:
        first, second: runs or model folders with the same architecture and tokenizer.

    Raises:
        FileNotFoundError: one of them is not a model.
        ValueError: their architectures or tokenizers differ; names the difference.
    """

    def __init__(self, first: Path, second: Path):
        one, other = load_model(first), load_model(second)
        plain = [
            replace(m.config, initial_logit_scale=1.0, precision="float32") for m in (one, other)
        ]
        if plain[0] != plain[1]:
            left, right = (config.to_dict() for config in plain)
            keys = sorted(left.keys() | right.keys())
            name = next(key for key in keys if left.get(key) != right.get(key))
            raise ValueError(
                f"{first} and {second} cannot be mixed: {name} is {left.get(name)} and "
                f"{right.get(name)}"
            )
        if _tokens(one) != _tokens(other):
            raise ValueError(f"{first} and {second} cannot be mixed: their vocabularies differ")
        self.model = TrainedModel(
            one.dual_encoder,
            one.tokenizer,
            {**other.trained_on, "soup": {"first": str(first), "second": str(second)}},
        )
        self._first = [np.asarray(value, "float32") for value in one.dual_encoder.weights]
        self._second = [np.asarray(value, "float32") for value in other.dual_encoder.weights]

    def at(self, alpha: float) -> TrainedModel:
        """Return the model at `alpha`: 0 is the first, 1 the second; valid until the next call."""
        model = self.model.dual_encoder
        for variable, a, b in zip(model.weights, self._first, self._second, strict=True):
            variable.assign((1 - alpha) * a + alpha * b)
        self.model.trained_on["soup"]["alpha"] = alpha
        return self.model


def _tokens(model: TrainedModel) -> tuple:
    tokenizer = model.tokenizer
    names = ("vocabulary", "merges", "model")
    return (tokenizer.describe(), [getattr(tokenizer, name, None) for name in names])
