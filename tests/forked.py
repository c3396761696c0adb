"""Python programs in processes of their own that begin in a moment: forks of a warm interpreter.

A new interpreter needs 4 to 8 s of processor time to import TensorFlow and Keras. Here one process
imports them once, for all workers of pytest-xdist, and forks for each program that is asked for.
It runs no op before: a fork of a process whose TensorFlow has started threads would hang.

For tests of what a process does: signals, kills, limits of the system, devices that are chosen
before TensorFlow starts. Tests of the imports themselves (how long they take, what they write, what
environment variables do to them), of every line of standard error and of the parent of a process
need `subprocess`: here messages of TensorFlow are not held back, and a program's parent is a fork.
What is only called needs no process: commands are functions, `main(words)`.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Not the commands: a module that `-m` runs must not have been imported.
PRELOADED = ("tfclip.training.run", "tfclip.records.packing.writer", "tfclip.models.saving")
# What a program knows that has TensorFlow alone.
TENSORFLOW_ALONE = ("numpy", "tensorflow", "tensorflow_text")


class Forked:
    """A program that runs, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, address: str, words: list[str], folder: Path, **place: object):
        """Run `python WORDS` (`-m MODULE`, `-c CODE` or a file first); output goes to `folder`."""
        self._output = [folder / "stdout", folder / "stderr"]
        self._answers = socket.socket(socket.AF_UNIX)
        self._answers.connect(address)
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(open(path, "wb")) for path in self._output]
            message = json.dumps({"words": words, **place}).encode()
            numbers = array.array("i", [file.fileno() for file in opened])
            self._answers.sendall(f"{len(message):08}".encode())
            self._answers.sendmsg(
                [message[:1]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers.tobytes())]
            )
            self._answers.sendall(message[1:])
        self._lines = self._answers.makefile("r")
        self.pid = int(self._lines.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            with selectors.DefaultSelector() as ready:
                ready.register(self._answers, selectors.EVENT_READ)
                if not ready.select(timeout):
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(self._lines.readline())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what was written to standard output and standard error."""
        self.wait(timeout)
        out, err = (path.read_text() for path in self._output)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self.kill()
        self.wait()
        self._lines.close()
        self._answers.close()


class Interpreter:
    """The warm interpreter, as a test sees it; the fixture `forked` gives one."""

    def __init__(self, address: str, folder: Path):
        self._address, self._folder, self._number = address, folder, 0

    def start(self, *words: object, env: dict | None = None, cwd: object = None) -> Forked:
        """Start `python WORDS`, in a session of its own, with the environment of this process."""
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        place = {"env": {**os.environ, **(env or {})}, "cwd": str(cwd or os.getcwd())}
        return Forked(self._address, [str(word) for word in words], folder, **place)

    def run(
        self, *words: object, timeout: float | None = None, **place
    ) -> subprocess.CompletedProcess[str]:
        """Run `python WORDS` to its end; at a timeout the program is killed."""
        with self.start(*words, **place) as program:
            out, err = program.communicate(timeout)
        assert program.returncode is not None
        return subprocess.CompletedProcess(words, program.returncode, out, err)


@contextlib.contextmanager
def interpreter(shared: Path, folder: Path, alone: bool = False) -> Iterator[Interpreter]:
    """The warm interpreter of all that share the folder `shared`; it ends with the last of them.

    With `alone` it is another one, which has imported TensorFlow and can import no tfclip.
    """
    name = "alone" if alone else "forks"
    with open(shared / f"{name}.lock", "w") as lock, socket.socket(socket.AF_UNIX) as lease:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = shared / f"{name}.address"
        try:
            lease.connect(known.read_text())
        except OSError:  # the first to ask, or the last one has ended
            known.write_text(_started(alone))
            lease.connect(known.read_text())
        fcntl.flock(lock, fcntl.LOCK_UN)
        yield Interpreter(known.read_text(), folder)


def _started(alone: bool) -> str:
    # Not in the folder of the tests: the address of a socket may have about 100 characters.
    address = Path(tempfile.mkdtemp(prefix="forks-")) / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen(64)
        # -I: nothing but installed packages can be imported, whatever the environment says.
        options, preloaded = (["-I"], TENSORFLOW_ALONE) if alone else ([], PRELOADED)
        words = [*options, __file__, str(listener.fileno()), str(address.parent), *preloaded]
        subprocess.Popen(
            [sys.executable, *words],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,
        )
    return str(address)


def serve(listener: socket.socket) -> dict | None:
    """Fork for every request; return it in the fork, and None when nobody is left to ask."""
    leases: set[socket.socket] = set()
    with selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        begun = time.monotonic()
        while leases or time.monotonic() - begun < 60:
            for key, _ in ready.select(1):
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    leases.add(connection)
                    ready.register(connection, selectors.EVENT_READ)
                    continue
                connection = key.fileobj
                ready.unregister(connection)
                leases.discard(connection)
                size = connection.recv(8)
                if size and os.fork() == 0:
                    for other in (listener, *leases):
                        other.close()
                    return _request(connection, int(size))
                connection.close()
                begun = 0.0
    return None


def _request(connection: socket.socket, size: int) -> dict:
    """Read a request, and fork again: this process tells how the other one, which returns, ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, numbers, _, _ = socket.recv_fds(connection, size, 2)
    while len(message) < size:
        message += connection.recv(size - len(message))
    child = os.fork()
    if child == 0:
        os.setsid()
        connection.close()
        for number, wanted in zip(numbers, (1, 2), strict=True):
            os.dup2(number, wanted)
            os.close(number)
        return json.loads(message)
    with contextlib.suppress(OSError):  # nobody may wait for it any more
        connection.sendall(f"{child}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(f"{code}\n".encode())
    os._exit(0)


def ops_of_tensorflow() -> set[str]:
    """The names of the ops that are registered now."""
    from tensorflow.core.framework.op_def_pb2 import OpList
    from tensorflow.python.client import pywrap_tf_session as session

    every = OpList.FromString(session.TF_GetBuffer(session.TF_GetAllOpList()))
    return {op.name for op in every.op}


def run_program(request: dict, names: dict) -> None:
    """Be `python WORDS`; code of `-c` finds `names`."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kind, *words = request["words"]
    if kind == "-m":
        sys.argv = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *words[1:]]
        exec(
            compile(words[0], "<string>", "exec", dont_inherit=True),
            {"__name__": "__main__", **names},
        )
    else:
        sys.argv = [kind, *words]
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    number, place, *preloaded = sys.argv[1:]
    if not sys.flags.isolated:
        sys.path[0] = str(ROOT)
    names = {}
    for module in preloaded:
        __import__(module)
        if module == "tensorflow":
            names["OPS_OF_TENSORFLOW"] = ops_of_tensorflow()
    from tensorflow.python.eager import context

    if context.context()._context_handle is not None:
        sys.exit("TensorFlow has started with an import, so that no fork can use it")
    asked = serve(socket.socket(fileno=int(number)))
    if asked is None:
        shutil.rmtree(place, ignore_errors=True)
    else:
        run_program(asked, names)
