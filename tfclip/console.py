"""Runs a command: parses its flags, shows progress, prints its result or its error.

A command module describes itself with `Command` and ends with

    if __name__ == "__main__":
        sys.exit(run("tfclip.export", Command(ExportFlags, main)))

`ExportFlags` is a frozen dataclass that imports no TensorFlow and raises ValueError from its
`__post_init__`; `main(flags)` imports the rest, does the work and returns the result as a dict. A
field `run: tyro.conf.Positional[Path]` is a positional argument, every other field a `--flag`; the
string below a field is its help.

Where a word selects what to do, pass a dict. The selecting word is removed before the flags are
parsed; `before` names the positional arguments before it:

    run("tfclip.make_records", {"flickr8k": Command(PackFlags, partial(pack_source, "flickr8k")),
                                "verify": Command(VerifyFlags, verify)}, kind="source")
    run("tfclip.evaluate", {"voc": Command(VocFlags, voc)}, kind="benchmark", before=("RUN",))

`flags` may be an instance instead of a class: its values are then the defaults of the flags.
"""

import contextlib
import dataclasses
import gc
import inspect
import io
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tyro
from tqdm import tqdm

from tfclip.backend import backend_problem
from tfclip.config_file import read_config, take_config, words_of
from tfclip.failures import is_users, notes, one_line, quiet_destructors
from tfclip.flag_errors import describe_mistakes
from tfclip.naming import unknown
from tfclip.quiet import quiet_tensorflow


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        flags: a frozen dataclass, or an instance of one, whose values are the defaults.
        main: does the work and returns the result.
        summary: one line for the overview; by default the first docstring line of the flags.
        plan: returns what `--dry-run` prints; None where there is no `--dry-run`.
    """

    flags: Any
    main: Callable[[Any], dict | None]
    summary: str = ""
    plan: Callable[[Any], dict] | None = None

    def described(self) -> str:
        """Return `summary`, or the first line of the docstring of the flags."""
        return self.summary or (self.flags.__doc__ or "").strip().split("\n")[0]


class CommandFailed(Exception):
    """The command ran and failed: a message of one line, an exit code, and a result to print.

    For instance 3: too many pictures were skipped. Mistakes of the user are ValueError or OSError.
    """

    def __init__(self, message: str, *, exit_code: int = 1, result: dict | None = None):
        super().__init__(message)
        self.exit_code = exit_code
        self.result = result


SECONDS_BETWEEN_LINES = 10.0
SWITCHES = "--json", "--debug", "--dry-run"

EVERYWHERE = """Every command also takes
  --config FILE  read flags from config.json of a run, or from YAML; the command line wins
  --json         print the result as JSON, as the last line on standard output
  --debug        show the traceback of an error"""


def run(
    prog: str,
    commands: Command | Mapping[str, Command],
    argv: Sequence[str] | None = None,
    *,
    kind: str = "command",
    before: Sequence[str] = (),
) -> int:
    """Parse the command line, do the work, and return the exit code.

    0: success. 2: a mistake in the flags or in what they refer to (any ValueError or OSError),
    reported in one line on standard error. 130: interrupted. 1: an unexpected error.
    `CommandFailed` has an exit code of its own. Tracebacks are shown only with `--debug`.

    Args:
        prog: the module that is run, "tfclip.fit".
        commands: one command, or one for each selecting word.
        argv: the words after the module; by default those of the process.
        kind: what the selecting word names, for the error about an unknown one.
        before: names of the positional arguments before the selecting word.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    as_json, debug, dry = (word in argv for word in SWITCHES)
    argv = [word for word in argv if word not in SWITCHES]
    # Importing TensorFlow leaves 370,000 objects. Looking for garbage among them after every 700,
    # the default of Python 3.11, took 0.7 of the 4.5 s of processor time of the import.
    gc.set_threshold(10_000)
    if not debug:
        quiet_tensorflow()
        quiet_destructors()
    flags = None
    try:
        if (problem := backend_problem()) is not None:
            raise ValueError(problem)
        argv, file = take_config(argv)
        config, recipe = read_config(file) if file else ({}, None)
        if isinstance(commands, Command):
            command = commands
        else:
            if recipe and recipe in commands and (not argv or argv[0].startswith("-")):
                argv = [recipe, *argv]
            name, argv = _select(prog, commands, argv, kind, before)
            command = commands[name]
            prog = " ".join([prog, *before, name])
        argv = argv + words_of(config, argv, [name.lower() for name in before])
        flags = _parse(prog, command, argv)
        main = command.main
        if dry:
            if command.plan is None:
                raise ValueError(f"{prog} has no --dry-run")
            main = command.plan
        # Under --json standard output holds the result alone, whatever a library prints.
        with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
            result = main(flags)
        if as_json:
            print(json_text(result or {}), flush=True)
        elif dry:
            print(json_text(result, indent=2), flush=True)
        return 0
    except SystemExit as stop:  # --help, and what tyro ends itself
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt as stop:
        say("; ".join(["interrupted", *notes(stop)]))
        return 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, CommandFailed) and as_json and error.result is not None:
            print(json_text(error.result), flush=True)
        if isinstance(error, CommandFailed) or is_users(error):
            say(f"error: {one_line(error, flags)}")
            return error.exit_code if isinstance(error, CommandFailed) else 2
        say(f"error: {type(error).__name__}: {one_line(error, flags)} (--debug shows where)")
        return 1


def _select(
    prog: str, commands: Mapping[str, Command], argv: list[str], kind: str, before: Sequence[str]
) -> tuple[str, list[str]]:
    """Return the selecting word and the other words.

    Raises:
        SystemExit: `--help` without a selecting word; the overview is printed.
        ValueError: the selecting word is missing or unknown.
    """
    words = [word for word in argv[: len(before) + 1] if not word.startswith("-")]
    usage = " ".join([f"python -m {prog}", *before, kind.upper()])
    if len(words) <= len(before):
        asks = [word for word in argv if word in ("-h", "--help")]
        if asks and words and words[-1] in commands:  # `evaluate voc --help` needs no run
            return words[-1], [*before, *asks]
        overview = "\n".join(f"  {name:16} {c.described()}" for name, c in commands.items())
        if asks:
            print(f"usage: {usage} [--flags]\n\n{overview}\n\n{usage} --help shows the flags.")
            raise SystemExit(0)
        raise ValueError(f"no {kind} was given; run {usage}, with one of: {', '.join(commands)}")
    name = words[-1]
    if name not in commands:
        raise unknown(kind, name, commands)
    return name, argv[: len(before)] + argv[len(before) + 1 :]


def _parse(prog: str, command: Command, argv: list[str]) -> Any:
    """Return the flags of one command; a message that tyro draws in a box becomes a ValueError."""
    given = not isinstance(command.flags, type)
    flags_type = type(command.flags) if given else command.flags
    boxed = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxed):
            return tyro.cli(
                flags_type,
                prog=prog,
                args=argv,
                description=f"{inspect.cleandoc(flags_type.__doc__ or '')}\n\n{EVERYWHERE}",
                default=command.flags if given else tyro.MISSING_NONPROP,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        mistake = _cause(stop)
        if mistake is not None:
            raise mistake from None
        message = describe_mistakes(boxed.getvalue(), flags_type)
        raise ValueError(f"{message}; see python -m {prog} --help") from None


def _cause(stop: BaseException) -> Exception | None:
    """Return the error that the flags dataclass raised, if that ended the parsing."""
    error = stop.__context__
    while error is not None:
        frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
        if isinstance(error, ValueError | OSError) and "__post_init__" in frames:
            return error
        error = error.__context__
    return None


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return strict JSON: NaN and infinities become null, paths strings, arrays lists."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def say(text: str) -> None:
    """Print a line on standard error; standard output is for the result."""
    tqdm.write(text, file=sys.stderr)


def progress(iterable: Iterable, *, total: int | None, what: str) -> Iterator:
    """Yield from `iterable` with a progress bar on standard error, shown after two seconds.

    Where standard error is not a terminal, a line every ten seconds replaces the bar.

    Args:
        iterable: the items.
        total: the number of items; None if it is not known.
        what: the label of the bar, "packing train".
    """
    if sys.stderr.isatty():
        bar = tqdm(iterable, total=total, desc=what, delay=2, mininterval=0.2, file=sys.stderr)
        yield from bar
        return
    printed = time.monotonic()
    for number, item in enumerate(iterable, start=1):
        yield item
        if time.monotonic() - printed >= SECONDS_BETWEEN_LINES:
            printed = time.monotonic()
            say(f"{what}: {number:,}" + (f" of {total:,}" if total else ""))
