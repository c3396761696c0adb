"""The disk is full: one line, and what was finished stays. The limit is the system's own."""

import os
import resource
from pathlib import Path

import pytest

from tfclip.make_records import main
from tfclip.records.packing.journal import JOURNAL

CODE = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import tfclip.records.packing.writer
from tfclip.make_records import main
most = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def data(made, tmp_path):
    """12 small pictures and one large one, the tenth: the shard that holds it is the longest."""
    pictures = tmp_path / "data/Flicker8k_Dataset"
    pictures.mkdir(parents=True)
    names = [f"{at:02}.jpg" for at in range(12)]
    for at, name in enumerate(names):
        side = 600 if at == 9 else 40
        (pictures / name).write_bytes(made.encoded(made.pixels(side, side), quality=99))
    token = [f"{name}#0\ta picture\n" for name in names]
    (tmp_path / "data/Flickr8k.token.txt").write_text("".join(token))
    (tmp_path / "data/Flickr_8k.trainImages.txt").write_text("\n".join(names) + "\n")
    return tmp_path / "data"


def words(data: Path, out: Path) -> list[str]:
    return ["flickr8k", "--shards=4", f"--data={data}", f"--out={out}", "--workers=1"]


def packed_on_a_full_disk(forked, data: Path, out: Path, most: int) -> tuple[int, str]:
    """In a process of its own, which cannot take its limit back."""
    ended = forked.run("-c", CODE, most, *words(data, out))
    return ended.returncode, "".join(
        line for line in ended.stderr.splitlines(keepends=True) if line.startswith("error")
    )


def test_a_full_disk_keeps_what_was_finished(forked, data, tmp_path):
    """A file may have 20,000 bytes: three shards have less, the one with the large picture more."""
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.skip("files are limited here already")
    code, told = packed_on_a_full_disk(forked, data, tmp_path / "out", 20_000)
    assert code == 2
    assert told.startswith(f"error: File too large: {tmp_path}/out.partial/train-00001-of-00004")
    assert told.count("\n") == 1
    assert "finished shards are kept in" in told and "run the same command again" in told
    kept = set(os.listdir(tmp_path / "out.partial"))
    assert JOURNAL in kept and "train-00000-of-00004.tfrecord" in kept
    assert "train-00003-of-00004.tfrecord" not in kept
    assert not any(name.endswith(".tmp") for name in kept)
    times = {name: (tmp_path / "out.partial" / name).stat().st_ino for name in kept - {JOURNAL}}
    # There is room again: the same command packs the rest.
    assert main(words(data, tmp_path / "out")) == 0
    assert {name: (tmp_path / "out" / name).stat().st_ino for name in times} == times
    assert main(words(data, tmp_path / "whole")) == 0
    for name in os.listdir(tmp_path / "whole"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
