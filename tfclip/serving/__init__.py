"""Out: the served graph, and the client of a server that runs it.

client = tfclip.serving.Client("http://localhost:8500")
"""

import importlib

__all__ = ["Client"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("tfclip.serving.client"), name)
