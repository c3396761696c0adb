"""python -m tfclip.completion bash|zsh: print a script that completes commands and their flags."""

import contextlib
import importlib
import io
import re
import sys
from dataclasses import dataclass
from functools import partial

from tfclip.console import Command, run

FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
WORD = re.compile(r"^  ([a-z][\w-]*) ", re.MULTILINE)

SCRIPT = """\
{prelude}_tfclip() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
  case "$current" in
    -*) case "${{COMP_WORDS[1]}}" in
{flags}
        esac ;;
    *)  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands}"
        else case "${{COMP_WORDS[1]}}" in
{words}
        esac; fi ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
}}
complete -o filenames -F _tfclip tfclip
"""


@dataclass(frozen=True)
class CompletionFlags:
    """Print a completion script for `tfclip`: save it where your shell looks, or source it."""


def completion(shell: str, flags: CompletionFlags) -> None:
    """Print the completion script of a shell."""
    print(script(shell), end="")


def script(shell: str) -> str:
    """Return the script for bash or zsh, generated from the --help of each command."""
    from tfclip.__main__ import command_summaries

    commands = command_summaries()
    words, flags = {}, {}
    for name in commands:
        overview = _help(name)
        words[name] = sorted(set(WORD.findall(overview)) - {"--json", "--debug"})
        shown = overview + "".join(_help(name, word) for word in words[name])
        flags[name] = sorted({*FLAG.findall(shown), "--help", "--json", "--debug"} - {"--flags"})
    return SCRIPT.format(
        prelude="autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else "",
        commands=" ".join(commands),
        flags="\n".join(f'        {n}) words="{" ".join(f)}" ;;' for n, f in flags.items()),
        words="\n".join(f'        {n}) words="{" ".join(w)}" ;;' for n, w in words.items() if w),
    )


def _help(command: str, *words: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        importlib.import_module(f"tfclip.{command}").main([*words, "--help"])
    return printed.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    commands = {
        shell: Command(CompletionFlags, partial(completion, shell), f"completion for {shell}")
        for shell in ("bash", "zsh")
    }
    return run("tfclip.completion", commands, argv, kind="shell")


if __name__ == "__main__":
    sys.exit(main())
