"""Imports what `package.module:name` refers to, or refuses it in one line."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from typing import Any

from tfclip.naming import unknown


def is_reference(name: str) -> bool:
    """Return whether a name has the form `package.module:name`, code outside of tfclip."""
    return ":" in name


def check_reference(kind: str, reference: str) -> None:
    """Check the spelling of a reference without importing it.

    Raises:
        ValueError: it is not written `package.module:name`.
    """
    module, _, name = reference.partition(":")
    parts = module.split(".")
    if not (name.isidentifier() and all(part.isidentifier() for part in parts)):
        raise ValueError(
            f"{kind} {reference!r} is not understood; write package.module:name, a name in a "
            "module that Python can import"
        )


def missing_module(kind: str, reference: str) -> str | None:
    """Return the error message if the module of a reference is missing, else None.

    Only the packages around the module are imported, not the module itself.
    """
    module = reference.partition(":")[0]
    try:
        exists = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        return _missing(kind, reference, error.name or module)
    except ValueError:  # a module without a specification, such as __main__, exists
        exists = True
    return None if exists else _missing(kind, reference, module)


def load(kind: str, reference: str) -> Any:
    """Import the module of `package.module:name` and return the object of that name.

    Args:
        kind: what is referred to, for messages: "image tower", "source", "--callback".
        reference: `package.module:name`.

    Raises:
        ValueError: the module is missing (the message says what to install or where to put it), its
            import fails, or it has no such name.
    """
    check_reference(kind, reference)
    path, _, name = reference.partition(":")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise ValueError(_missing(kind, reference, error.name or path)) from error
    except Exception as error:
        raise ValueError(
            f"{kind} {reference}: importing {path} failed with {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, name):
        names = [one for one in dir(module) if not one.startswith("_")]
        raise unknown(f"{kind} of {path}", name, names)
    return getattr(module, name)


def call(kind: str, reference: str, function: Any, *args: Any, **arguments: Any) -> Any:
    """Call the object that `load` returned.

    Raises:
        ValueError: it is not callable, or does not take these arguments; names them.
    """
    if not callable(function):
        raise ValueError(f"{kind} {reference} is a {type(function).__name__}, not a function")
    try:
        inspect.signature(function).bind(*args, **arguments)
    except TypeError as error:
        given = ", ".join([*(type(one).__name__ for one in args), *(f"{n}=" for n in arguments)])
        raise ValueError(f"{kind} {reference} is called with ({given}): {error}") from None
    except ValueError:  # a function written in C has no signature to inspect
        pass
    return function(*args, **arguments)


def _missing(kind: str, reference: str, name: str) -> str:
    path = reference.partition(":")[0]
    if path == name or path.startswith(f"{name}."):
        return (
            f"{kind} {reference}: no module named {name}; install the package that holds it, or "
            "put its folder on the path: PYTHONPATH=FOLDER"
        )
    return f"{kind} {reference}: {path} needs the module {name}, which is missing; install it"
