"""Several image towers as one: the same pictures, their features side by side."""

from __future__ import annotations

from collections.abc import Sequence

import keras


def side_by_side(towers: Sequence[keras.Model], names: Sequence[str]) -> keras.Model:
    """Join image towers whose inputs have the same size.

    Towers that were trained separately make different mistakes, so that heads on the features of
    both are better than on those of either.

    Args:
        towers: models from (B, S, S, 3) pictures to pooled features.
        names: a name for each, which becomes that of its layer; all different.

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, F) features, F the sum of the towers'.

    Raises:
        ValueError: two names are equal, or a tower does not pool.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"towers side by side must differ. Received: {' + '.join(names)}.")
    for tower, name in zip(towers, names, strict=True):
        if len(tower.output_shape) != 2:
            raise ValueError(
                f"towers side by side need pooled features (B, F). Received: {name} with "
                f"{tower.output_shape}."
            )
        tower.name = layer_name(name)
    pictures = keras.Input(towers[0].input_shape[1:], name="image")
    features = keras.layers.Concatenate(name="features")([tower(pictures) for tower in towers])
    return keras.Model(pictures, features, name="side_by_side")


def layer_name(name: str) -> str:
    """Return the name of the layer of a tower.

    >>> layer_name("efficientnet-lite0")
    'efficientnet_lite0'
    """
    return name.replace("-", "_").replace(".", "_")
