"""Atomic writes, killed at every line, interrupted by errors, and their order on the disk."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tfclip import files

OLD, NEW = "old\n" * 3000, "new\n" * 5000


def traced(write, at_line) -> None:
    """Run `write`, calling `at_line` before each line of files.py."""

    def trace(frame, event, _):
        if frame.f_code.co_filename != files.__file__:
            return None
        if event == "line":
            at_line()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        write()
    finally:
        sys.settrace(before)


def lines_that_change_the_disk(root: Path, write) -> list[int]:
    """The numbers of the lines before which the files under `root` are in another state."""
    states = []

    def look():
        found = sorted(root.rglob("*"))
        states.append([(str(p)[len(str(root)) :], p.is_file() and p.read_bytes()) for p in found])

    traced(write, look)
    names = [[name.split("/.")[0] for name, _ in state] for state in states]
    contents = [[content for _, content in state] for state in states]
    both = list(zip(names, contents, strict=True))
    return [n for n in range(len(both)) if n == 0 or both[n] != both[n - 1]]


def put_folder(path: Path, text: str) -> None:
    with files.new_folder(path, replace=True) as folder:
        (folder / "a").write_text(text)
        (folder / "inner").mkdir()
        (folder / "inner" / "b").write_text(text)


WRITES = {"file": lambda path: files.write_text(path, NEW), "folder": lambda p: put_folder(p, NEW)}


def kill_at(line: int, write) -> int:
    """Run `write` in a fork that is killed before the given line of files.py; return its status."""

    def count():
        nonlocal line
        line -= 1
        if line < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            traced(write, count)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def kill_as_told() -> None:
    """Kill one write after the other, each a line of standard input; print their statuses."""
    for told in sys.stdin:
        line, what, path = json.loads(told)
        print(kill_at(line, lambda what=what, path=path: WRITES[what](Path(path))), flush=True)


@pytest.fixture(scope="module")
def killer():
    """This file as a program: forking this process, with TensorFlow in it, takes far longer."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    ) as process:

        def kill(line: int, what: str, path: Path) -> None:
            process.stdin.write(json.dumps([line, what, str(path)]) + "\n")
            process.stdin.flush()
            status = int(process.stdout.readline())
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

        yield kill


def kills(killer, root: Path, what: str, path: Path, prepare, read) -> list:
    """What is read after a kill in each state of the disk, and last after an undisturbed end."""
    prepare()
    lines = lines_that_change_the_disk(root, lambda: WRITES[what](path))
    read()
    states = []
    for line in lines:
        prepare()
        killer(line, what, path)
        states.append(read())
    prepare()
    WRITES[what](path)
    return [*states, read()]


def content(path: Path) -> dict[str, str]:
    return {str(p.relative_to(path)): p.read_text() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("old", [OLD, None])
def test_a_file_is_old_or_new_at_every_kill(killer, tmp_path, old):
    path = tmp_path / "sub" / "file.txt"

    def prepare():
        path.unlink(missing_ok=True)
        if old is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(old)

    def read():
        return path.read_text() if path.exists() else None

    states = kills(killer, tmp_path, "file", path, prepare, read)
    assert set(states) == {old, NEW} and len(states) > 3
    assert states == sorted(states, key=lambda state: state == NEW)
    files.remove_unfinished(path.parent)
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_is_old_or_new_at_every_kill_and_the_next_write_mends_it(killer, tmp_path):
    path = tmp_path / "best"
    places = set()

    def read():
        found = files.complete_folder(path)
        places.add(found.name)
        state = content(found)
        put_folder(path, "third")
        assert content(path) == {"a": "third", "inner/b": "third"}
        assert not (tmp_path / "best.before").exists()
        return state["a"] if len(set(state.values())) == 1 and len(state) == 2 else state

    states = kills(killer, tmp_path, "folder", path, lambda: put_folder(path, OLD), read)
    assert set(states) == {OLD, NEW}
    # Some kills fell between the two renames, or this tests less than it says.
    assert places == {"best", "best.before"}


def test_two_kills_in_a_row_between_the_renames_lose_nothing(killer, tmp_path):
    path = tmp_path / "best"

    def prepare():
        put_folder(path, OLD)
        path.rename(tmp_path / "best.before")

    states = kills(
        killer,
        tmp_path,
        "folder",
        path,
        prepare,
        lambda: content(files.complete_folder(path))["inner/b"],
    )
    assert set(states) == {OLD, NEW}


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("nth", range(4))
def test_a_failing_system_call_leaves_the_old_one_and_no_litter(tmp_path, monkeypatch, call, nth):
    file, folder = tmp_path / "file", tmp_path / "folder"
    files.write_text(file, OLD)
    put_folder(folder, OLD)
    for write, read in (
        (lambda: files.write_text(file, NEW), lambda: {file.read_text()}),
        (
            lambda: put_folder(folder, NEW),
            lambda: set(content(files.complete_folder(folder)).values()),
        ),
    ):
        count, real = iter(range(100)), getattr(os, call)

        def fail(*args, count=count, real=real, **options):
            if next(count) == nth:
                raise OSError(28, os.strerror(28))
            return real(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            try:
                write()
                failed = False
            except OSError as error:
                assert error.errno == 28
                failed = True
        assert read() in ({OLD}, {NEW}) if failed else read() == {NEW}
        assert not list(tmp_path.glob(".*"))


def test_an_error_of_the_writer_changes_nothing(tmp_path):
    for new, path in ((files.new_file, "file"), (files.new_folder, "folder")):
        with pytest.raises(ZeroDivisionError), new(tmp_path / path) as beside:
            if beside.is_dir():
                (beside / "half").write_text("half")
            else:
                beside.write_text("half")
            raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_content_is_on_the_disk_before_its_name_and_the_name_after(tmp_path, monkeypatch):
    log = []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(number):
        log.append(os.path.realpath(f"/proc/self/fd/{number}"))
        fsync(number)

    def logged_replace(old, new):
        log.append(("rename", str(old), str(new)))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    path = tmp_path / "best"
    put_folder(path, NEW)
    (rename,) = [entry for entry in log if entry[0] == "rename"]
    beside = rename[1]
    at = log.index(rename)
    assert set(log[:at]) == {beside, f"{beside}/a", f"{beside}/inner", f"{beside}/inner/b"}
    assert log[at + 1 :] == [str(tmp_path)]
    log.clear()
    files.write_bytes(tmp_path / "file", b"\0\r\n")
    assert [entry for entry in log if isinstance(entry, tuple)] == [log[1]]
    assert log[0] == log[1][1] and log[2] == str(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"\0\r\n"


def test_a_folder_with_files_is_not_replaced_unasked(tmp_path):
    put_folder(tmp_path / "folder", OLD)
    with pytest.raises(OSError), files.new_folder(tmp_path / "folder") as folder:
        (folder / "a").write_text(NEW)
    assert set(content(tmp_path / "folder").values()) == {OLD}
    assert len(list(tmp_path.iterdir())) == 1


def test_links_of_a_folder_are_not_followed(tmp_path):
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with files.new_folder(tmp_path / "folder") as folder:
        (folder / "link").symlink_to(tmp_path / "nowhere")
        (folder / "circle").symlink_to(tmp_path)
    assert (tmp_path / "folder" / "link").is_symlink()


def test_others_may_read_what_was_written_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        files.write_text(tmp_path / "file", NEW)
        put_folder(tmp_path / "folder", NEW)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


if __name__ == "__main__":
    kill_as_told()
