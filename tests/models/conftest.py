"""What the tests of towers share: weights that are random and leave nothing at its default."""

import numpy as np
import pytest


@pytest.fixture
def randomize():
    """Fill a model's weights so that norms, biases and moving statistics all matter."""

    def fill(model, seed=0):
        rng = np.random.default_rng(seed)
        values = []
        for variable in model.weights:
            shape, name = variable.shape, variable.name
            if not variable.dtype.startswith("float"):
                value = np.asarray(variable)
            elif name in ("variance", "moving_variance"):
                value = rng.uniform(0.5, 2.0, shape)
            elif name == "gamma":
                value = rng.uniform(0.7, 1.3, shape)
            elif len(shape) > 1:
                value = rng.normal(0, 1.4 / np.sqrt(np.prod(shape[:-1])), shape)
            else:
                value = rng.normal(0, 0.2, shape)
            values.append(np.asarray(value, variable.dtype))
        model.set_weights(values)
        return model

    return fill


@pytest.fixture
def pictures():
    """Two random pictures of 64 pixels, (2, 64, 64, 3) float32 in 0..255."""
    return np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
