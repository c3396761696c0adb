"""Packing with Beam's DirectRunner: the same bytes as the writer here."""

import json
import os
from importlib.util import find_spec

import pytest

from tfclip.make_records import main
from tfclip.sources.shapes import draw_shapes

# Nothing of the other sets, which are thousands of pictures by default.
NONE = {"visual_genome": 1, "coco": (1, 1), "voc": (1, 1, 1), "image_size": 64, "workers": 1}


def test_beam_is_asked_for_where_it_is_missing(tmp_path, capsys):
    if find_spec("apache_beam"):  # importing it would take longer than all the other tests here
        pytest.skip("apache_beam is here")
    draw_shapes(tmp_path / "shapes", flickr8k=(2, 1, 1), **NONE)
    arguments = ["--data", str(tmp_path / "shapes/flickr8k"), "--out", str(tmp_path / "out")]
    assert main(["flickr8k", *arguments, "--runner", "DirectRunner"]) == 2
    assert "run pip install 'tfclip[beam]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_of_beam_without_a_runner(capsys, tmp_path):
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["flickr8k", *arguments, "--beam-options", "direct_num_workers=2"]) == 2
    assert "--beam-options without --runner" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["direct_num_workers=2"]])
def test_the_direct_runner_packs_the_same_bytes(tmp_path, capsys, options):
    pytest.importorskip("apache_beam")
    draw_shapes(tmp_path / "shapes", flickr8k=(40, 10, 10), **NONE)
    broken = sorted(os.listdir(tmp_path / "shapes/flickr8k/Flicker8k_Dataset"))[3]
    (tmp_path / "shapes/flickr8k/Flicker8k_Dataset" / broken).write_text("no picture")
    common = ["flickr8k", "--data", str(tmp_path / "shapes/flickr8k"), "--shards", "4"]
    common += ["--max-skipped", "0.5", "--max-images", "30"]
    assert main([*common, "--out", str(tmp_path / "here")]) == 0
    beam = ["--runner", "DirectRunner", *(["--beam-options", *options] if options else [])]
    assert main([*common, "--out", str(tmp_path / "beam"), *beam, "--json"]) == 0
    capsys.readouterr()
    names = sorted(os.listdir(tmp_path / "here"))
    assert names == sorted(os.listdir(tmp_path / "beam"))
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "beam" / name).read_bytes()
    skipped = (tmp_path / "beam/skipped.jsonl").read_text().splitlines()
    assert all("not a picture" in json.loads(line)["reason"] for line in skipped)
    assert sorted(os.listdir(tmp_path)) == ["beam", "here", "shapes"]
