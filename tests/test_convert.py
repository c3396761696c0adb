"""The command `convert`, and `load` of what others saved."""

import json
from pathlib import Path

import numpy as np
import pytest

import tfclip
from tfclip.convert import main

CLIPS = Path(__file__).parent / "models" / "weights" / "clips"


def test_a_folder_becomes_a_run_that_answers_as_the_folder_does(tmp_path, capsys):
    source, run = CLIPS / "hugging_face_quick_gelu", tmp_path / "run"
    assert main([str(source), "--run", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["kind"] == "Hugging Face" and told["resize"] == "crop"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    expected = np.load(source / "expected.npz")
    texts = json.loads((source / "texts.json").read_text())
    for place in (run, source):
        model, preprocess = tfclip.load(place)
        logits, _ = model(expected["pictures"], tfclip.tokenize(texts, model))
        np.testing.assert_allclose(logits, expected["logits"], atol=2e-4)
        assert preprocess.image_size.interpolation == "bicubic"


def test_what_is_there_is_not_replaced(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main([str(CLIPS / "siglip"), "--run", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_run_that_was_killed_while_written_begins_anew(tmp_path):
    for name in ("run.writing", ".run.01234567.writing"):
        (tmp_path / name / "best").mkdir(parents=True)
        (tmp_path / name / "best" / "model.json").write_text("half")
    assert main([str(CLIPS / "siglip"), "--run", str(tmp_path / "run")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    tfclip.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing", "--run", "R"], "does not exist"),
        ([str(CLIPS), "--run", "R"], "config.json"),
        ([str(CLIPS / "open_clip_file" / "model.pt"), "--run", "R"], "--activation"),
        ([str(CLIPS / "siglip"), "--run", "R", "--activation", "relu"], "gelu or quick_gelu"),
    ],
)
def test_mistakes_are_one_line(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert told in lines[-1]
    assert not (tmp_path / "R").exists()
