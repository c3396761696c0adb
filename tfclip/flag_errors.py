"""Words the mistakes on a command line that tyro draws in a box, in one line."""

import dataclasses
import re
from collections.abc import Iterator

_KINDS = {"int": "a whole number", "float": "a number"}


def describe_mistakes(box: str, flags_type: type) -> str:
    """Return the mistakes that a box names: missing arguments, unknown flags, wrong values.

    Args:
        box: what tyro printed.
        flags_type: the dataclass of the flags, whose positional arguments are filled in order.
    """
    mistakes, similar = [], []
    for head, *rest in _sections(box):
        if head.strip().startswith("Missing from"):
            mistakes.append(_missing(rest, flags_type))
        elif head.strip().startswith("Unrecognized"):
            mistakes.append(_unknown([head.partition(":")[2], *rest]))
        elif head.strip().startswith(("Perhaps you meant", "Arguments similar")):
            # Flags are indented by 6, their help by 10.
            similar += [line.split()[0] for line in rest if re.match(r" {6}--", line)]
        elif head.strip().startswith(("For full helptext", "Argument helptext", "Got errors")):
            break
        else:
            mistakes.append(_plain(" ".join(" ".join([head, *rest]).split()).strip(" .")))
    if similar:
        mistakes.append(f"did you mean {' or '.join(dict.fromkeys(similar))}?")
    return "; ".join(mistakes).replace("?;", "?")


def _sections(box: str) -> Iterator[list[str]]:
    """Yield the lines of each part of a box; its frame may be drawn with blanks."""
    section: list[str] = []
    for line in box.splitlines():
        line = line.replace("│", " ").rstrip()
        if not line.startswith("  "):  # the title, or the last line of the frame
            continue
        if line.strip("─- "):
            section.append(line)
        elif section:
            yield section
            section = []
    if section:
        yield section


def _missing(lines: list[str], flags_type: type) -> str:
    names = [line.strip() for line in lines if re.match(r" {6}\S", line)]
    flags = [name for name in names if name.startswith("-") and not name.endswith("--help")]
    # tyro names each positional argument by its type; the last ones of the required are missing.
    required = [
        field.name.upper()
        for field in dataclasses.fields(flags_type)
        if "Positional" in str(field.type)
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    count = sum(not name.startswith("-") for name in names)
    return f"missing: {', '.join([*required[len(required) - count :], *flags])}"


def _unknown(lines: list[str]) -> str:
    words = [word for line in lines for word in re.split(r",\s*|\s+", line.strip()) if word]
    flags = [word for word in words if word.startswith("-")]
    if flags:
        return f"unknown: {', '.join(flags)}"
    return f"more arguments than the command takes: {' '.join(words)}"


def _plain(sentence: str) -> str:
    """Say in the words of the other errors what tyro reports about a value."""
    needed = re.fullmatch(r"Missing value for argument '(.+)'. Expected (\d+) values", sentence)
    if needed and not needed[1].startswith("-"):
        return f"missing: {needed[1].upper()}"
    if needed:
        return f"{needed[1]} needs {'a value' if needed[2] == '1' else f'{needed[2]} values'}"
    number = re.fullmatch(
        r"Error parsing (\S+): (?:invalid literal for (int)\(\) with base 10|"
        r"could not convert string to (float)): (.*)",
        sentence,
    )
    if number is None:
        return sentence
    name, whole, fraction, received = number.groups()
    return f"{name}: received {received}, allowed: {_KINDS[whole or fraction]}"
