"""Two worker processes train what one process trains, also when one of them is killed between."""

import csv
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tfclip.fit import main
from tfclip.models.saving import load_model
from tfclip.training.workers import worker_health
from tfclip.training.workers.cluster import Cluster, read_cluster
from tfclip.training.workers.launch import _free_ports

SMALL = ["--image-size", "16", "--batch-size", "8", "--steps", "20", "--evaluate-every", "10"]
SMALL += ["--warmup-steps", "5", "--checkpoint-every", "5", "--average", "0.9"]
# At the recipe's own rate, on so few examples, each step makes any difference half as large again.
SMALL += ["--learning-rate", "1e-4"]


def words(records, val, run) -> list[str]:
    return ["shapes", "--records", str(records), "--val", f"{val}:dev", "--run", str(run), *SMALL]


def configured(addresses: list[str], index: int) -> dict[str, str]:
    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    return {"TF_CONFIG": json.dumps(cluster)}


@pytest.mark.slow
def test_two_workers_with_a_death_between_leave_what_one_process_leaves(
    training_records, flickr8k_records, tmp_path, capsys
):
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(words(training_records, flickr8k_records, one)) == 0
    command = words(training_records, flickr8k_records, two)
    survivor = killed_between(command, two, tmp_path / "chief.err")
    assert survivor["code"] == 3
    assert survivor["seconds"] < 60
    assert survivor["told"].count("worker 1 (localhost:") == 1
    assert "resume from the last checkpoint" in survivor["told"]
    # The same command again, as a trial on one machine.
    capsys.readouterr()
    assert main([*command, "--workers", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["steps"] == 20
    assert_same(one, two)


@pytest.mark.slow
def test_two_workers_share_the_examples_of_several_sets(
    training_records, flickr8k_records, tmp_path
):
    one, two = tmp_path / "one", tmp_path / "two"
    for run, workers in ((one, "1"), (two, "2")):
        command = words(training_records, flickr8k_records, run)
        at = command.index(str(training_records)) + 1
        command[at:at] = [f"{flickr8k_records}:train", "--record-weights", "2", "1"]
        command += ["--vocabulary", str(training_records / "vocab.model"), "--workers", workers]
        assert main(command) == 0
    assert_same(one, two)
    drawn = [name for name in columns(one)[0] if name.startswith("drawn_")]
    assert len(drawn) == 2
    for ours, theirs in zip(columns(one), columns(two), strict=True):
        assert [ours[name] for name in drawn] == [theirs[name] for name in drawn]
        assert all(float(ours[name]) > 0 for name in drawn)


def columns(run) -> list[dict]:
    return list(csv.DictReader((run / "log.csv").open()))


def killed_between(command, run, log) -> dict:
    """Start two workers, kill the second after a checkpoint; what became of the first."""
    addresses = [f"localhost:{port}" for port in _free_ports(2)]
    with log.open("w+") as err:
        # The trial that goes on was started with --workers, a flag that may not differ.
        chief, worker = (
            subprocess.Popen(
                [sys.executable, "-m", "tfclip.fit", *command, "--workers", "2"],
                env={
                    **os.environ,
                    **configured(addresses, index),
                    "TFCLIP_LAUNCHER": str(os.getpid()),
                },
                stdout=subprocess.DEVNULL,
                stderr=err if index == 0 else subprocess.DEVNULL,
            )
            for index in range(2)
        )
        try:
            while not list(run.glob("checkpoints/step-*.npz")):
                assert chief.poll() is None, log.read_text()
                time.sleep(0.05)
            worker.kill()
            started = time.monotonic()
            code = chief.wait(100)
        finally:
            chief.kill()
            worker.kill()
    return {"code": code, "seconds": time.monotonic() - started, "told": log.read_text()}


def assert_same(one, two):
    logs = [columns(run) for run in (one, two)]
    assert [row["epoch"] for row in logs[1]] == ["0", "1"]
    for ours, theirs in zip(*logs, strict=True):
        for name in ("loss", "batch_loss", "val_loss", "val_recall", "logit_scale"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-5), name
    models = [load_model(run / "checkpoints" / "last").dual_encoder for run in (one, two)]
    for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_died_before_the_first_check_is_named(monkeypatch):
    told = []

    def leave(why):
        told.append(why)
        raise SystemExit  # ends the thread

    monkeypatch.setattr(worker_health, "CHECK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(worker_health, "_leave", leave)
    monkeypatch.delenv(worker_health.LAUNCHER, raising=False)
    nobody = Cluster(tuple(f"localhost:{port}" for port in _free_ports(2)), 0)
    for error, named in ((tf.errors.UnavailableError, True), (tf.errors.DataLossError, False)):
        told.clear()
        monkeypatch.setattr(worker_health, "CONNECT_SECONDS", 5.0 if named else 0.1)
        with pytest.raises(error), worker_health.watch(nobody):
            raise error(None, None, "a collective operation failed")
        # Before the workers have met, the other one may not have started yet.
        assert [why.startswith("worker 1 (localhost:") for why in told] == [True] * named


def test_tf_config_names_the_workers():
    assert read_cluster({}) == Cluster()
    assert read_cluster(configured(["a:1"], 0)) == Cluster()
    two = read_cluster(configured(["a:1", "b:2"], 1))
    assert (two.workers, two.index, two.is_chief) == (("a:1", "b:2"), 1, False)
    with_chief = {"cluster": {"worker": ["b:2"], "chief": ["a:1"]}}
    with_chief["task"] = {"type": "worker", "index": 0}
    assert read_cluster({"TF_CONFIG": json.dumps(with_chief)}) == two


@pytest.mark.parametrize(
    "config",
    [
        "two machines",
        "[]",
        '{"cluster": {"worker": ["a:1", "b:2"]}}',
        '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_configuration_that_is_not_understood_is_told_in_one_line(
    config, training_records, flickr8k_records, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TF_CONFIG", config)
    assert main(words(training_records, flickr8k_records, tmp_path / "run")) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "TF_CONFIG must be" in told[0]
    assert config in told[0]


def test_workers_of_another_place_are_not_started_here(training_records, tmp_path, monkeypatch):
    for name, value in configured(["a:1", "b:2"], 0).items():
        monkeypatch.setenv(name, value)
    command = words(training_records, training_records, tmp_path / "run")
    assert main([*command, "--workers", "2"]) == 2


@pytest.mark.slow
def test_the_mistake_of_the_chief_is_told_once(tmp_path, capfd):
    assert main([*words("missing", "missing", tmp_path / "run"), "--workers", "2"]) == 2
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert "no records at missing" in told[0]
