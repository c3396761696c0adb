"""tfclip COMMAND ...: runs a command; python -m tfclip.COMMAND does the same."""

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from tfclip.console import say
from tfclip.naming import unknown
from tfclip.version import __version__

USAGE = "usage: tfclip COMMAND ...   (or: python -m tfclip.COMMAND ...)"


def command_summaries() -> dict[str, str]:
    """Return one line for each command, that is, for each module beside this one that can be run.

    The lines are read from the files, so that listing the commands imports none of them.
    """
    summaries = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name != Path(__file__).name and '\nif __name__ == "__main__":' in text:
            first = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
            summaries[path.stem] = first.partition(": ")[2].rstrip(".")
    return summaries


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names with the other words; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    commands = command_summaries()
    if words and words[0] in ("--version", "-V"):
        print(f"tfclip {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:14} {summary}" for name, summary in commands.items())
        print(
            f"{USAGE}\n\n{lines}\n\ntfclip COMMAND --help shows the flags of a command, "
            "tfclip --version the version."
        )
        return 0 if words else 2
    if words[0] not in commands:
        say(f"error: {unknown('command', words[0], commands)}; see tfclip --help")
        return 2
    return importlib.import_module(f"tfclip.{words[0]}").main(words[1:])


if __name__ == "__main__":
    sys.exit(main())
