"""The fit command: a run from records to models and logs, and its refusals in one line."""

import csv
import json
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from tfclip.fit import main
from tfclip.models.saving import load_model
from tfclip.training.options.recipes import RECIPES
from tfclip.training.setup.recipe_sizes import count_parameters, recipe_sizes

SMALL = ["--image-size", "16", "--batch-size", "4", "--steps", "6", "--evaluate-every", "4"]


def fit(records, run, *words, capsys=None) -> int:
    return main(["shapes", "--records", str(records), "--run", str(run), *SMALL, *words])


@pytest.fixture(scope="module")
def finished(training_records, flickr8k_records, voc_records, tmp_path_factory, small_recipe_while):
    run = tmp_path_factory.mktemp("runs") / "tiny"
    val, voc = f"{flickr8k_records}:dev", f"{voc_records}:train"
    words = ["--val", val, "--voc", voc, "--never-trained", "red star"]
    with small_recipe_while():
        assert fit(training_records, run, *words) == 0
    return run


def test_a_run_leaves_its_configuration_its_log_and_loadable_models(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["recipe"] == "shapes"
    assert config["flags"]["batch_size"] == 4
    assert config["versions"]["tensorflow"].startswith("2.")
    rows = list(csv.DictReader((finished / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    for name in ("loss", "val_loss", "val_recall", "val_i2t_r5", "voc_map", "logit_scale"):
        assert np.isfinite([float(row[name]) for row in rows]).all(), name
    assert list((finished / "tensorboard").rglob("events.out.tfevents.*"))
    last, best = load_model(finished / "checkpoints" / "last"), load_model(finished)
    assert best.trained_on["never_trained"] == ["red star"]
    assert last.config == best.config


def test_the_best_model_is_that_of_the_best_epoch(finished):
    rows = list(csv.DictReader((finished / "log.csv").open()))
    maps = [float(row["voc_map"]) for row in rows]
    last, best = load_model(finished / "checkpoints" / "last"), load_model(finished)
    same = all(
        np.array_equal(a, b)
        for a, b in zip(
            last.dual_encoder.get_weights(), best.dual_encoder.get_weights(), strict=True
        )
    )
    assert same == (maps[-1] > maps[0])


def test_a_run_that_is_there_is_kept(training_records, finished, capsys):
    before = (finished / "config.json").read_bytes()
    assert fit(training_records, finished) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (finished / "config.json").read_bytes() == before


def test_a_folder_that_is_no_run_is_never_replaced(training_records, tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("x")
    assert fit(training_records, tmp_path, "--overwrite") == 2
    assert "is not a run directory" in capsys.readouterr().err
    assert (tmp_path / "precious.txt").exists()


def test_a_loss_that_is_no_number_ends_the_run_in_words(
    training_records, tmp_path, capsys, small_recipe
):
    words = ["--learning-rate", "1e30", "--warmup-steps", "0", "--clip-norm", "None"]
    assert fit(training_records, tmp_path / "run", *words) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "NaN" in last
    assert "--learning-rate" in last
    assert not (tmp_path / "run" / "best").exists()
    broken = json.loads((tmp_path / "run" / "broken_batch.json").read_text())
    assert len(set(broken["keys"])) == 4
    assert all(key.startswith("visual_genome/") for key in broken["keys"])
    assert f"step {broken['step']}" in last


def test_a_recipe_with_a_vocabulary_of_its_own_asks_for_it(training_records, tmp_path, capsys):
    words = ["clip-mixer", "--records", str(training_records), "--run", str(tmp_path / "run")]
    assert main([*words, "--batch-size", "4"]) == 2
    assert "--vocabulary PATH" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_damaged_shard_is_named(training_records, tmp_path, capsys):
    copy = tmp_path / "records"
    shutil.copytree(training_records, copy)
    shard = next(copy.glob("train-*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    assert fit(copy, tmp_path / "run") == 2
    assert shard.name in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["shaps", "--records", "x", "--run", "y"], "shapes"),
        (["shapes", "--records", "missing", "--run", "y"], "make_records"),
        (["shapes", "--run", "y"], "records"),
        (["shapes", "--records", "--run", "y"], "--records needs at least one DIR"),
        (["shapes", "--records", "x", "--run", "y", "--image-tower", "resnet"], "efficientnet-b0"),
        (["shapes", "--records", "x", "--run", "y", "--text-tower", "bart"], "bert"),
        (["shapes", "--records", "x", "--run", "y", "--batch-size", "1"], "--batch-size"),
        (["shapes", "--records", "x", "--run", "y", "--batch-size", "9", "--replicas", "2"], "2"),
        (["shapes", "--records", "x", "--run", "y", "--precision", "int4"], "bfloat16"),
        (["shapes", "--records", "x", "--run", "y", "--monitor", "val_loss"], "--val"),
        (["shapes", "--records", "x", "--run", "y", "--crop-scale", "0.9", "0.5"], "crop-scale"),
    ],
)
def test_mistakes_are_told_in_one_line(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told_lines = capsys.readouterr().err.strip().splitlines()
    assert len(told_lines) == 1
    assert told in told_lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--records", "{records}:dev"], "train"),
        (["--records", "{labels}:train"], "no caption"),
        (["--image-weights", "nowhere.h5"], "nowhere.h5"),
        (["--text-tower", "bert-tiny", "--text-weights", "./nowhere"], "nowhere"),
        (["--vocabulary", "nowhere.txt"], "nowhere.txt"),
        (["--val", "{records}:dev"], "dev"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_a_run_is_made(
    words, told, training_records, voc_records, tmp_path, capsys
):
    words = [word.format(records=training_records, labels=voc_records) for word in words]
    if "--records" not in words:
        words += ["--records", str(training_records)]
    assert main(["shapes", "--run", str(tmp_path / "run"), *SMALL, *words]) == 2
    assert told in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_the_list_of_recipes_builds_no_model():
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tfclip.fit", "list", "--json"],
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0
    assert set(json.loads(done.stdout)) == set(RECIPES)
    # Where it is loaded, a recipe has changed: python -m benchmarks.recipe_sizes
    assert not re.search(r"\| +tensorflow\n", done.stderr)
    assert seconds < 10  # 1 on a machine without other work


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_kept_numbers_of_parameters_are_those_of_the_model(name):
    kept = {k: v for k, v in recipe_sizes(RECIPES[name]).items() if k != "recipe"}
    assert kept == count_parameters(RECIPES[name])


@pytest.mark.slow
def test_a_dry_run_tells_sizes_and_places_and_writes_nothing(
    training_records, tmp_path, capsys, small_recipe
):
    words = ["shapes", "--records", str(training_records), "--run", str(tmp_path / "run"), *SMALL]
    assert main([*words, "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []
    assert planned["writes"]["run"] == str(tmp_path / "run")
    assert planned["sizes"]["steps"] == 6 and planned["sizes"]["training_pictures"] == 11
    assert main(words) == 0
    built = load_model(tmp_path / "run").dual_encoder.count_params()
    assert planned["sizes"]["parameters"] == built
    begun = json.loads((tmp_path / "run" / "config.json").read_text())
    assert planned["flags"] == begun["flags"] and planned["model"] == begun["model"]
