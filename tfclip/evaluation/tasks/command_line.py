"""A measurement's flags written back as the command that one would type."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any


def command_line(benchmark: str, flags: Any) -> str:
    """Return `tfclip evaluate RUN BENCHMARK --flag value ...`, without flags at their defaults.

    Args:
        benchmark: the word of the command, for example "voc".
        flags: of that command; the field `run` is positional.
    """
    words = ["tfclip", "evaluate", str(flags.run), benchmark]
    for field in dataclasses.fields(flags):
        value = getattr(flags, field.name)
        if field.name == "run" or value == field.default:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)
