"""What is wrong with a run is said before TensorFlow starts, and all of it at once."""

import json
import subprocess
import sys
import time

import pytest

from tfclip.training.options.recipes import RECIPES
from tfclip.training.setup.preflight import _can_be_fetched, preflight, refuse_another_run

FRESH = """
import sys
from tfclip.fit import main
code = main(sys.argv[1:])
sys.exit(code if "tensorflow" not in sys.modules else 99)
"""


def refused(*words) -> str:
    """The one line of a refusal, which came without TensorFlow."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - started < 8  # 2 on a machine without other work
    return done.stderr


def test_all_missing_files_are_named_at_once(tmp_path):
    told = refused(
        *("clip-mixer", "--records", tmp_path / "r", "--val", f"{tmp_path}/v:dev"),
        *("--run", tmp_path / "run", "--image-weights", "./i.h5", "--class-folders", "nowhere"),
    )
    for name in (f"{tmp_path}/r", f"{tmp_path}/v", "./i.h5", "nowhere", "bpe_simple_vocab_16e6"):
        assert name in told


def test_an_unknown_split_names_those_there_are(training_records, tmp_path):
    told = refused("shapes", "--records", f"{training_records}:tran", "--run", tmp_path / "run")
    assert "'tran'" in told and "train" in told
    assert not (tmp_path / "run").exists()


def test_another_run_is_refused_by_its_flags(training_records, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    flags = RECIPES["shapes"].flags(records=(str(training_records),), run=run, steps=9)
    (run / "config.json").write_text(json.dumps({"recipe": "shapes", "flags": flags.to_dict()}))
    preflight("shapes", RECIPES["shapes"], flags)
    words = ["shapes", "--records", training_records, "--run", run]
    assert "--steps 9, now 8;" in refused(*words, "--steps", "8")
    assert "recipe shapes, now teensy-4m" in refused("teensy-4m", *words[1:], "--text-weights", run)


@pytest.mark.parametrize("name", ["laptop-squeezenet", "laptop-lite0"])
def test_a_run_of_a_former_laptop_goes_on_under_its_name_of_today(tmp_path, name):
    flags = RECIPES[name].flags(run=tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"recipe": "laptop", "flags": flags.to_dict()})
    )
    refuse_another_run(name, flags)
    with pytest.raises(ValueError, match=f"recipe {name}, now laptop; .*resume it"):
        refuse_another_run("laptop", RECIPES["laptop"].flags(run=tmp_path))


def test_a_folder_that_is_no_run_is_kept(training_records, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    told = refused("shapes", "--records", training_records, "--run", tmp_path)
    assert "is not a run directory" in told


def test_weights_in_reach_are_left_to_the_loader(monkeypatch, tmp_path):
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:1")
    assert _can_be_fetched("imagenet", "efficientnet-b5")
    monkeypatch.delenv("https_proxy")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models/efficientnetb5_notop.h5").write_text("")
    assert _can_be_fetched("imagenet", "efficientnet-b5")


@pytest.mark.parametrize("weights", ["imagenet", "hf://a/b", "bert_small_en_uncased"])
def test_weights_out_of_reach_are_refused(weights, monkeypatch, tmp_path):
    def unknown_host(*_):
        raise OSError("Name or service not known")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", unknown_host)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert not _can_be_fetched(weights, "bert-small")


def test_weights_by_name_are_fetched_or_named_together(training_records, monkeypatch, tmp_path):
    monkeypatch.setenv("TFCLIP_WEIGHTS", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    # As if the packages of the weights were not installed.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    given = {"records": (str(training_records),), "run": tmp_path / "run"}
    flags = RECIPES["teensy-4m"].flags(
        image_tower="efficientnet-lite0", image_weights="imagenet", **given
    )
    with pytest.raises(FileNotFoundError) as error:
        preflight("teensy-4m", RECIPES["teensy-4m"], flags)
    for name in ("efficientnet-lite0 (19 MB)", "all-MiniLM-L6-v2 (91 MB)", str(tmp_path / "cache")):
        assert name in str(error.value)
    assert "\n" not in str(error.value)
