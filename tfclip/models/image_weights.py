"""Pretrained weights for image towers: from the libraries' hubs, from local files and folders."""

from __future__ import annotations

from pathlib import Path

import keras

from tfclip.models import registry
from tfclip.models.applications import set_imagenet_normalization
from tfclip.models.pretrained import NONE, first_line


def load_image_weights(tower: keras.Model, name: str, weights: str) -> None:
    """Put pretrained weights into an image tower.

    Args:
        tower: the model that `registry.image_tower(name)` built.
        name: the tower's name, e.g. "efficientnet-b5".
        weights: "none", "imagenet", or the path of a `.h5` or `.weights.h5` file without top.

    Raises:
        ValueError: when the tower has no such weights or the file is for another architecture.
        FileNotFoundError: for a path that is not there, or official weights out of reach.
    """
    if weights == NONE:
        return
    if weights == "imagenet":
        _copy_imagenet(tower, name)
    else:
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"--image-weights must be none, imagenet or a .h5 file. Received: {weights} "
                "(no such file)."
            )
        before = tower.get_weights()
        try:
            tower.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            tower.set_weights(before)
            raise ValueError(
                f"{path} does not hold weights for {name} without its classifier: "
                f"{first_line(error)}"
            ) from error
    if name.startswith("efficientnet-"):
        set_imagenet_normalization(tower)


def _copy_imagenet(tower: keras.Model, name: str) -> None:
    if not name.startswith("efficientnet-"):
        known = [n for n in registry.IMAGE_TOWERS if n.startswith("efficientnet")]
        raise ValueError(
            f"--image-weights imagenet exists for {', '.join(known)}. Received tower: {name}. "
            "Use --image-weights none or the path of a file."
        )
    variant = name.removeprefix("efficientnet-").upper()
    build = getattr(keras.applications, f"EfficientNet{variant}")
    try:
        official = build(include_top=False, weights="imagenet", pooling="avg")
    except Exception as error:
        raise FileNotFoundError(
            f"The ImageNet weights of {name} could not be downloaded ({first_line(error)}). Fetch "
            f"efficientnet{variant.lower()}_notop.h5 from the keras-applications storage and pass "
            "--image-weights PATH, or use --image-weights none."
        ) from error
    tower.set_weights(official.get_weights())
