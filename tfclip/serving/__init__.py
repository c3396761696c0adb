"""Serving: the served graph, a server for one machine, and clients of any server.

client = tfclip.serving.Client("http://localhost:8501")
"""

import importlib

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("tfclip.serving.client"), name)
