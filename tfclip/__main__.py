"""tfclip COMMAND ...: all commands by one name; python -m tfclip.COMMAND does the same."""

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
    """Return one line for each command: the modules beside this one that can be run.

    Read from the files, so that listing the commands imports none of them.
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name != Path(__file__).name and '\nif __name__ == "__main__":' in text:
            first = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
            found[path.stem] = first.partition(": ")[2].rstrip(".")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command with the words behind its name; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    commands = command_summaries()
    if words and words[0] in ("--version", "-V"):
        print(f"tfclip {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:14} {summary}" for name, summary in commands.items())
        print(
            f"{USAGE}\n\n{lines}\n\ntfclip COMMAND --help shows its flags; tfclip --version "
            "the version."
        )
        return 0 if words else 2
    if words[0] not in commands:
        say(f"error: {unknown('command', words[0], commands)}; see tfclip --help")
        return 2
    return importlib.import_module(f"tfclip.{words[0]}").main(words[1:])


if __name__ == "__main__":
    sys.exit(main())
