"""What a word such as `package.module:name` names: imported, or refused in one line."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from typing import Any

from tfclip.naming import unknown


def is_reference(name: str) -> bool:
    """Whether a name is of a module outside the package."""
    return ":" in name


def check_reference(kind: str, reference: str) -> None:
    """Refuse what cannot name anything, without importing it.

    Raises:
        ValueError: it is not written `package.module:name`.
    """
    module, _, name = reference.partition(":")
    parts = module.split(".")
    if not (name.isidentifier() and all(part.isidentifier() for part in parts)):
        raise ValueError(
            f"{kind} {reference!r} is not understood; write package.module:name, the name of "
            "something in a module that Python can import"
        )


def missing_module(kind: str, reference: str) -> str | None:
    """Return the sentence about a module that is not there; None where it is.

    Only the packages around the module are imported, not the module itself.
    """
    module = reference.partition(":")[0]
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        return _missing(kind, reference, error.name or module)
    except ValueError:  # a module without a specification, __main__ for one, is there
        found = True
    return None if found else _missing(kind, reference, module)


def load(kind: str, reference: str) -> Any:
    """Import the module of `package.module:name` and return what the name stands for.

    Args:
        kind: what is named, for messages: "image tower", "source", "--callback".
        reference: the words.

    Raises:
        ValueError: the module is not there (says what to install or where to put it), it fails
            while it is imported, or it has no such name.
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
    """Call what `load` returned.

    Raises:
        ValueError: it is no function, or does not take these arguments; names them.
    """
    if not callable(function):
        raise ValueError(f"{kind} {reference} is a {type(function).__name__} and no function")
    try:
        inspect.signature(function).bind(*args, **arguments)
    except TypeError as error:
        given = ", ".join([*(type(one).__name__ for one in args), *(f"{n}=" for n in arguments)])
        raise ValueError(f"{kind} {reference} is called with ({given}): {error}") from None
    except ValueError:  # a function of C tells nothing of its arguments
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
