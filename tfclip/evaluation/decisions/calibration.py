"""From a cosine to a probability, and how far such probabilities are from the truth. NumPy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CALIBRATIONS = ("platt", "isotonic")


@dataclass(frozen=True)
class Platt:
    """A probability of each class is sigmoid(slope score + intercept); both (C,) float64."""

    slope: np.ndarray
    intercept: np.ndarray
    kind = "platt"

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """From scores (N,C) to probabilities (N,C) float64."""
        logits = np.asarray(scores, np.float64) * self.slope + self.intercept
        return 0.5 * (1 + np.tanh(0.5 * logits))

    def to_dict(self, names: Sequence[str]) -> dict:
        """The same as JSON types, by class name."""
        return {
            "kind": self.kind,
            "slope": dict(zip(names, self.slope.tolist(), strict=True)),
            "intercept": dict(zip(names, self.intercept.tolist(), strict=True)),
        }


@dataclass(frozen=True)
class Isotonic:
    """Lines between knots for each class; (C,K) float64, rising, the last knot repeated."""

    scores: np.ndarray
    values: np.ndarray
    kind = "isotonic"

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """From scores (N,C) to probabilities (N,C) float64."""
        scores = np.asarray(scores, np.float64)
        return np.stack(
            [
                np.interp(scores[:, c], self.scores[c], self.values[c])
                for c in range(len(self.scores))
            ],
            axis=1,
        )

    def to_dict(self, names: Sequence[str]) -> dict:
        """The same as JSON types, by class name."""
        return {
            "kind": self.kind,
            "scores": dict(zip(names, self.scores.tolist(), strict=True)),
            "values": dict(zip(names, self.values.tolist(), strict=True)),
        }


Calibration = Platt | Isotonic


def calibration_from_dict(content: Mapping, names: Sequence[str]) -> Calibration:
    """Read what `to_dict` gives, for these classes in this order.

    Raises:
        KeyError, ValueError, TypeError: something is missing or is no finite number.
    """
    kinds: dict[str, tuple[type[Platt] | type[Isotonic], tuple[str, str]]] = {
        "platt": (Platt, ("slope", "intercept")),
        "isotonic": (Isotonic, ("scores", "values")),
    }
    kind, fields = kinds[content["kind"]]
    arrays = [np.array([content[field][name] for name in names], np.float64) for field in fields]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("a calibration that is not finite")
    return kind(*arrays)
