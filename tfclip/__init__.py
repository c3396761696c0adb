"""tfclip: train, measure and serve your own small CLIP models with TensorFlow and Keras.

    model, preprocess = tfclip.load("runs/quickstart")
    tokens = tfclip.tokenize(["a diagram", "a dog"], model)
    logits_per_image, logits_per_text = model(preprocess("dog.jpg")[None], tokens)

    tfclip.train("shapes", records="records/shapes", run="runs/shapes", callbacks=[...], steps=500)

Importing the package costs nothing: TensorFlow starts when one of its names is used.
"""

import importlib
import os
import sys

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


def _refuse_other_backends() -> None:
    """Keras reads its backend once, when it is imported: choose before, or say that it is late."""
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if (keras := sys.modules.get("keras")) is not None:
        backend = keras.config.backend()
    if backend != "tensorflow":
        # With this name `python -m tfclip...` prints one line instead of a traceback.
        raise ImportError(
            f"tfclip runs on Keras' TensorFlow backend. Received: KERAS_BACKEND={backend}. "
            "Unset it, or import tfclip in a process of its own",
            name=__name__,
        )


_refuse_other_backends()


def __getattr__(name: str):
    if name == "serving":  # tfclip.serving.Client needs no other import
        return importlib.import_module("tfclip.serving")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "tfclip.training.train_recipe" if name == "train" else "tfclip.pipeline"
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
