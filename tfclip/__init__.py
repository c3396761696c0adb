"""tfclip: train, evaluate and serve your own small CLIP models with TensorFlow and Keras.

>>> import tfclip
>>> model, preprocess = tfclip.load("runs/first")
>>> tokens = tfclip.tokenize(["a diagram", "a dog"], model)
>>> logits_per_image, logits_per_text = model(preprocess("picture.jpg")[None], tokens)
>>> logits_per_image.shape, logits_per_text.shape
(TensorShape([1, 2]), TensorShape([2, 1]))

`tfclip.train` trains such a run. Importing the package is cheap: TensorFlow is imported when one of
its names is first used.
"""

import importlib

from tfclip.backend import choose_tensorflow, require_tensorflow
from tfclip.version import __version__

__all__ = [
    "ClipModel",
    "Preprocess",
    "ZeroShotPipeline",
    "__version__",
    "available_models",
    "load",
    "tokenize",
    "train",
]


choose_tensorflow()


def __getattr__(name: str):
    if name == "serving":  # tfclip.serving.Client needs no other import
        return importlib.import_module("tfclip.serving")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require_tensorflow()
    module = "tfclip.training.train_recipe" if name == "train" else "tfclip.pipeline"
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
