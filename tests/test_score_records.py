"""`make_records score`: which model rates, what is written, and what is refused."""

import json
import os

import numpy as np
import pytest

from tfclip.fit import main as fit
from tfclip.make_records import main
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import read_split


@pytest.fixture(scope="module")
def records(drawn_sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("records") / "coco"
    words = ["--data", drawn_sets / "flickr8k", "--out", out, "--shards", 3, "--workers", 1]
    assert main(["flickr8k", *map(str, words), "--splits", "dev", "test"]) == 0
    return out


def scores_of(directory, split, feature=schema.SCORE):
    read = read_split(directory, split, features=(feature,), then=lambda r: r[feature])
    return np.concatenate(list(read.as_numpy_iterator()))


def test_a_run_of_other_pictures_rates_itself(records, tiny_run, tmp_path, capfd):
    words = ["score", records, "--run", tiny_run, "--out", tmp_path / "out", "--splits", "dev"]
    assert main([*map(str, words), "--drop-worst", "0.25", "--json"]) == 0
    out, err = capfd.readouterr()
    told = json.loads(out.splitlines()[-1])
    before = load_manifest(records).splits["dev"].captions
    assert told["folds"] == {"dev": 1}
    assert told["splits"]["dev"]["dropped"] == round(before / 4)
    scores = scores_of(tmp_path / "out", "dev")
    assert len(scores) == before - round(before / 4)
    fit = scores + scores_of(tmp_path / "out", "dev", schema.AGREEMENT)
    assert fit.min() >= told["splits"]["dev"]["highest_dropped"]
    assert "dropped the" in err and "worst by the sum of both" in err
    assert "test: copied without scores" in err and (tmp_path / "out-worst.png").is_file()
    assert main(["verify", str(tmp_path / "out")]) == 0
    again = ["score", str(tmp_path / "out"), "--splits", "dev", "--drop-worst", "0.5"]
    again += ["--worst-by", "cosine", "--out"]
    assert main([*again, str(tmp_path / "again")]) == 0
    assert scores_of(tmp_path / "again", "dev").min() >= np.median(scores)
    assert main(["score", str(records), "--splits", "dev", "--out", str(tmp_path / "x")]) == 2
    assert "has no scores; give --run" in capfd.readouterr().err
    assert main(list(map(str, words))) == 2
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "words, told",
    [
        (["--drop-worst", "1"], "allowed: 0 to below 1"),
        (["--folds", "0"], "allowed: 1 or more"),
        (["--splits", "val"], "unknown split"),
        (["--sheet", "worst.docx"], "allowed: a picture file"),
        (["--run", "nowhere"], "does not exist"),
    ],
)
def test_mistakes_are_one_line(records, tiny_run, tmp_path, capfd, words, told):
    given = ["score", str(records), "--out", str(tmp_path / "out")]
    given += [] if "--run" in words else ["--run", str(tiny_run)]
    assert main([*given, *words]) == 2
    err = capfd.readouterr().err
    assert told in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    "TFCLIP_LONG" not in os.environ, reason="three trainings, a minute: set TFCLIP_LONG=1"
)
def test_what_the_run_has_seen_is_rated_by_others(records, training_records, tmp_path, capfd):
    run = tmp_path / "run"
    learnt = next(one for one in sorted(training_records.iterdir()) if one.name.startswith("vocab"))
    vocabulary = ["--vocabulary", str(learnt)]
    small = [
        *vocabulary,
        "--steps",
        "1",
        "--batch-size",
        "2",
        "--image-size",
        "32",
        "--evaluate-every",
        "1",
    ]
    assert fit(["shapes", "--records", f"{records}:dev", "--run", str(run), *small]) == 0
    words = ["score", records, "--run", run, "--splits", "dev", "--out"]
    assert main([*map(str, words), str(tmp_path / "out"), "--folds", "2", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out.splitlines()[-1])["folds"] == {"dev": 2}
    assert "training 2 models" in err and not (tmp_path / "out.folds").exists()
    assert main([*map(str, words), str(tmp_path / "own"), "--folds", "1"]) == 0
    assert "scores its own training pictures" in capfd.readouterr().err
    own, fair = scores_of(tmp_path / "own", "dev"), scores_of(tmp_path / "out", "dev")
    assert own.shape == fair.shape and not np.allclose(own, fair)
    assert main([*map(str, words), str(tmp_path / "no"), "--folds", "4"]) == 2
    assert "fewer than --folds 4" in capfd.readouterr().err
