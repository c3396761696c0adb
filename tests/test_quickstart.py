"""The quick start: the whole story at a small size, by its command."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_whole_story_at_a_small_size(tmp_path):
    words = ["-m", "tfclip.quickstart", "--scale", "0.05", "--steps", "30", "--json"]
    done = subprocess.run(
        [sys.executable, *words, "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    written = json.loads((tmp_path / "runs" / "quickstart" / "metrics" / "voc.json").read_text())
    assert result["voc"] == written
    assert len(written["never_trained"]) == 5
    assert (tmp_path / "exported" / "1" / "saved_model.pb").is_file()
    for name in ("visual_genome", "flickr8k", "coco", "voc"):
        assert (tmp_path / "records" / f"shapes-{name}" / "manifest.json").is_file()
    assert "mAP, 5 never-trained classes" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "tfclip.predict " in line]
    words = line.split()[1:]
    asked = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr


def test_a_folder_in_the_way_is_refused_before_anything_is_drawn(tmp_path, capsys):
    from tfclip.quickstart import main

    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    (tmp_path / "runs" / "quickstart" / "thesis.txt").write_text("x")
    assert main(["--folder", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
    assert not (tmp_path / "drawn").exists()
