"""The benchmark of packing and reading: it runs, and says what is missing."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.records import RecordsFlags, main


def test_missing_pictures_are_told_in_one_line(tmp_path, capsys):
    pytest.importorskip("webdataset")
    assert main(["--data", str(tmp_path)]) == 2
    assert "Flickr8k.token.txt" in capsys.readouterr().err


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="--rounds 0"):
        RecordsFlags(rounds=0)
    with pytest.raises(ValueError, match="allowed: packing, resizing, reading"):
        RecordsFlags(parts=("writing",))


@pytest.mark.slow
@pytest.mark.skipif("TFCLIP_DATA" not in os.environ, reason="needs TFCLIP_DATA")
def test_both_sides_do_the_same_work():
    pytest.importorskip("webdataset")
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.records", "--rounds=1", "--pictures=150", "--json"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["pictures"] == 150
    for name in ("packing", "resizing"):
        assert len(result[name]["sides"]) == 6
        assert all(side["images_per_second"] > 0 for side in result[name]["sides"].values())
        assert result[name]["fastest"] in ("webdataset", "TFDS builder", "Model Garden")
    assert len(result["reading"]["sides"]) == 7
    pixels = result["reading"]["pixels"]
    assert pixels["bilinear"] < 1.5 * pixels["between"]
    assert pixels["bicubic"] < pixels["between"]
