"""Maps cosines to probabilities with fitted Platt or isotonic calibrations. NumPy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CALIBRATIONS = ("platt", "isotonic")


@dataclass(frozen=True)
class Platt:
    """Probability of each class = sigmoid(slope * score + intercept); both (C,) float64."""

    slope: np.ndarray
    intercept: np.ndarray
    kind = "platt"

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities (N,C) float64 of scores (N,C)."""
        logits = np.asarray(scores, np.float64) * self.slope + self.intercept
        return 0.5 * (1 + np.tanh(0.5 * logits))

    def to_dict(self, names: Sequence[str]) -> dict:
        """Return the parameters as JSON types, by class name."""
        return {
            "kind": self.kind,
            "slope": dict(zip(names, self.slope.tolist(), strict=True)),
            "intercept": dict(zip(names, self.intercept.tolist(), strict=True)),
        }


@dataclass(frozen=True)
class Isotonic:
    """Piecewise linear for each class: knots (C,K) float64, ascending, padded with the last."""

    scores: np.ndarray
    values: np.ndarray
    kind = "isotonic"

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities (N,C) float64 of scores (N,C)."""
        scores = np.asarray(scores, np.float64)
        return np.stack(
            [
                np.interp(scores[:, c], self.scores[c], self.values[c])
                for c in range(len(self.scores))
            ],
            axis=1,
        )

    def to_dict(self, names: Sequence[str]) -> dict:
        """Return the parameters as JSON types, by class name."""
        return {
            "kind": self.kind,
            "scores": dict(zip(names, self.scores.tolist(), strict=True)),
            "values": dict(zip(names, self.values.tolist(), strict=True)),
        }


Calibration = Platt | Isotonic


def calibration_from_dict(content: Mapping, names: Sequence[str]) -> Calibration:
    """Return the calibration that `to_dict` described, for these classes in this order.

    Raises:
        KeyError, ValueError, TypeError: a field is missing or not finite.
    """
    kinds: dict[str, tuple[type[Platt] | type[Isotonic], tuple[str, str]]] = {
        "platt": (Platt, ("slope", "intercept")),
        "isotonic": (Isotonic, ("scores", "values")),
    }
    kind, fields = kinds[content["kind"]]
    arrays = [np.array([content[field][name] for name in names], np.float64) for field in fields]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("the calibration is not finite")
    return kind(*arrays)
