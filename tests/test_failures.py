"""A full disk, a read-only place and a missing file are one line with the place and the way on."""

import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tfclip.console import Command, run
from tfclip.failures import NO_ACCESS, NO_SPACE, is_users, one_line, require_space


@dataclass(frozen=True)
class Flags:
    """Flags of a command that writes."""

    out: Path = Path("there")
    """Where."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            f"No space left on device: a/b; {NO_SPACE}",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            f"No space left on device: there; {NO_SPACE}",
        ),
        # NumPy's and HDF5's words for it.
        (OSError("4096 requested and 1024 written"), f"No space left on device: there; {NO_SPACE}"),
        (
            OSError("Can't write data (errno = 28, error message = 'No space left on device')"),
            f"No space left on device: there; {NO_SPACE}",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/x"),
            f"Read-only file system: /x; {NO_ACCESS}",
        ),
        (PermissionError(13, "Permission denied", "/x"), f"Permission denied: /x; {NO_ACCESS}"),
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory: x"),
        (ValueError("two\nlines"), "two lines"),
    ],
)
def test_the_line_has_the_place_and_the_way_on(error, told):
    assert one_line(error, Flags()) == told
    assert is_users(error)


def test_tensorflows_own_words_lose_the_names_of_nodes():
    import tensorflow as tf

    full = tf.errors.ResourceExhaustedError(
        None,
        None,
        "{{function_node __wrapped__SaveV2}} /full/x.tmp; No space left on device [Op:A]",
    )
    assert one_line(full, Flags()) == f"No space left on device: /full/x.tmp; {NO_SPACE}"
    assert is_users(full)
    memory = tf.errors.ResourceExhaustedError(
        None, None, "{{node a}} OOM when allocating [[{{b}}]]"
    )
    assert one_line(memory).startswith("OOM when allocating; use a smaller --batch-size")
    assert not is_users(memory)


def test_a_real_write_of_tensorflow_to_a_full_device():
    import tensorflow as tf

    with pytest.raises(tf.errors.OpError) as raised:
        tf.io.write_file("/dev/full/x", "a")
    assert "{{" not in one_line(raised.value) and "\n" not in one_line(raised.value)


def test_a_real_write_of_numpy_to_a_full_device():
    with pytest.raises(OSError) as raised, open("/dev/full", "wb") as full:
        np.zeros(100_000).tofile(full)
    assert one_line(raised.value, Flags()) == f"No space left on device: there; {NO_SPACE}"


def test_room_is_asked_for_before_writing(tmp_path):
    require_space(tmp_path, 1)
    with pytest.raises(OSError) as raised:
        require_space(tmp_path, 10**18)
    told = one_line(raised.value)
    assert told.startswith(f"No space left on device: {tmp_path}; {NO_SPACE}; 1000000000000.0 MB")


def test_a_command_ends_with_that_line_and_exit_code_2(capsys):
    def full(flags):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert run("tfclip.x", Command(Flags, full), ["--out", "z"]) == 2
    assert capsys.readouterr().err == f"error: No space left on device: z; {NO_SPACE}\n"


LIMITED = """
import resource, signal, sys
from tfclip.__main__ import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_an_export_that_finds_no_room(tiny_run, tmp_path):
    words = ["export", str(tiny_run), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: File too large: {tmp_path}/out/") and NO_SPACE in line
    assert os.listdir(tmp_path / "out") == []
