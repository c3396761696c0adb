"""What a command prints, where, and with which exit code it ends."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tyro.conf import Positional

from tfclip.console import Command, CommandFailed, json_text, progress, run


@dataclass(frozen=True)
class Flags:
    """Do a thing.

    And say how.
    """

    run: Positional[Path]
    """The run."""
    size: int = 3
    """How large."""
    names: tuple[str, ...] = ()
    """Which."""

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"received --size {self.size}, for a name as long as {'x' * 200}")


def work(flags: Flags) -> dict:
    print("a library prints")
    return {"run": flags.run, "size": flags.size, "names": flags.names, "share": float("nan")}


def fail_with(error: Exception):
    def main(flags):
        raise error

    return main


ONE = Command(Flags, work)
SEVERAL = {"voc": ONE, "retrieval": Command(Flags(Path("runs/x"), size=9), work, "Rank.")}


def test_the_result_is_the_only_thing_on_standard_output(capsys):
    assert run("tfclip.x", ONE, ["runs/a", "--size", "5", "--names", "b", "c", "--json"]) == 0
    captured = capsys.readouterr()
    expected = {"run": "runs/a", "size": 5, "names": ["b", "c"], "share": None}
    assert json.loads(captured.out) == expected
    assert "a library prints" in captured.err


def test_without_json_a_command_prints_what_it_likes(capsys):
    assert run("tfclip.x", ONE, ["runs/a"]) == 0
    assert capsys.readouterr().out == "a library prints\n"


def test_a_word_selects_behind_another_word(capsys):
    run("tfclip.x", SEVERAL, ["runs/a", "voc", "--json"], before=("RUN",))
    assert json.loads(capsys.readouterr().out)["size"] == 3
    run("tfclip.x", SEVERAL, ["runs/b", "retrieval", "--json"], before=("RUN",))
    result = json.loads(capsys.readouterr().out)
    assert (result["run"], result["size"]) == ("runs/b", 9)  # a default of the instance
    run("tfclip.x", SEVERAL, ["--json", "voc", "runs/a"])
    assert json.loads(capsys.readouterr().out)["run"] == "runs/a"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["runs/a", "--size", "0"], f"received --size 0, for a name as long as {'x' * 200}"),
        (["runs/a", "--size"], "error: --size needs a value; see"),
        ([], "error: missing: RUN; see python -m tfclip.x --help\n"),
        (["r", "--sise", "4"], "error: unknown: --sise; did you mean --size?; see"),
        (["r", "s"], "error: more arguments than the command takes: s; see"),
        (["--sise", "4"], "error: missing: RUN; see python -m tfclip.x --help\n"),
        (["r", "--size", "x"], "error: --size: received 'x', allowed: a whole number; see"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, argv, told):
    assert run("tfclip.x", ONE, argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("error: ") and told in captured.err
    assert "│" not in captured.err and "Traceback" not in captured.err


def test_an_unknown_word_lists_the_known_ones_nearest_first(capsys):
    assert run("tfclip.x", SEVERAL, ["runs/a", "retreival"], kind="benchmark", before=("RUN",)) == 2
    expected = "error: unknown benchmark 'retreival'; known, nearest first: retrieval, voc\n"
    assert capsys.readouterr().err == expected


def test_a_missing_word_lists_the_known_ones(capsys):
    assert run("tfclip.x", SEVERAL, ["runs/a"], kind="benchmark", before=("RUN",)) == 2
    assert (
        "python -m tfclip.x RUN BENCHMARK, with one of: voc, retrieval" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ValueError("two\nlines"), 2, "two lines"),
        (FileNotFoundError("no records at x"), 2, "no records at x"),
        (FileNotFoundError(2, "No such file or directory", "x/y"), 2, "directory: x/y"),
        (OSError(28, "No space left on device"), 2, "No space left"),
        (CommandFailed("too many", exit_code=3, result={"skipped": 4}), 3, "too many"),
        (ZeroDivisionError("division"), 1, "ZeroDivisionError: division (--debug shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_of_the_work(capsys, error, code, told):
    command = Command(Flags, fail_with(error))
    assert run("tfclip.x", command, ["runs/a", "--json"]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and told in captured.err
    assert captured.out == ('{"skipped": 4}\n' if code == 3 else "")


def test_debug_shows_the_traceback(capsys):
    command = Command(Flags, fail_with(ValueError("why")))
    assert run("tfclip.x", command, ["runs/a", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    run("tfclip.x", command, ["runs/a"])
    assert "Traceback" not in capsys.readouterr().err


def test_help_shows_flags_defaults_and_what_every_command_takes(capsys):
    assert run("tfclip.x", ONE, ["--help"]) == 0
    shown = capsys.readouterr().out
    for told in ("Do a thing.", "And say how.", "How large.", "default: 3", "--json", "--debug"):
        assert told in shown
    assert run("tfclip.x", SEVERAL, ["--help"], before=("RUN",)) == 0
    overview = capsys.readouterr().out
    assert "Do a thing." in overview and "Rank." in overview
    assert run("tfclip.x", SEVERAL, ["retrieval", "--help"], before=("RUN",)) == 0
    assert "default: 9" in capsys.readouterr().out


def test_a_defaults_instance_can_be_overridden(capsys):
    run("tfclip.x", SEVERAL["retrieval"], ["runs/b", "--size", "4", "--json"])
    assert json.loads(capsys.readouterr().out)["size"] == 4


def test_json_is_strict():
    value = {"a": np.float32(0.5), 3: np.arange(2), "n": [np.nan, float("inf")], "p": Path("x")}
    text = json_text({**value, "flags": Flags(Path("r")), "none": None, "yes": np.bool_(True)})
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": 0.5,
        "3": [0, 1],
        "n": [None, None],
        "p": "x",
        "flags": {"run": "r", "size": 3, "names": []},
        "none": None,
        "yes": True,
    }


def test_a_quick_loop_shows_no_bar(capsys):
    assert list(progress(range(5), total=5, what="counting")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_importing_the_console_loads_no_tensorflow():
    code = "import sys, tfclip.console; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
