"""--config: flags from a file give what the same flags on the command line give."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tyro.conf import Positional

from tfclip.config_file import read_config, take_config, without_defaults, words_of
from tfclip.console import Command, run


@dataclass(frozen=True)
class Group:
    """A group."""

    size: int | None = 3
    """How large."""
    rate: float = 0.1
    """How fast."""


@dataclass(frozen=True)
class Flags:
    """Do a thing."""

    run: Positional[Path]
    """The run."""
    names: tuple[str, ...] = ("default",)
    """Which."""
    flip: bool = False
    """Mirror."""
    keep: bool = True
    """Keep."""
    group: Group = Group()
    """A group."""


def told(argv, capsys, **more) -> dict:
    command = Command(Flags, lambda flags: vars(flags) | vars(flags.group), **more)
    commands = {"voc": command, "other": command}
    code = run("tfclip.x", commands, [*argv, "--json"], before=("RUN",))
    out = capsys.readouterr()
    assert code == 0, out.err
    return json.loads(out.out)


VALUES = {"names": ["a", "b"], "flip": True, "keep": False, "size": None, "rate": 1e-7}
YAML = "names: [a, b]\nflip: true\nkeep: false\ngroup:\n  size: null\n  rate: 1.0e-7\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.json", json.dumps({"flags": {**VALUES, "run": "runs/other"}, "model": {}})),
        ("x.json", json.dumps(VALUES)),
        ("x.yaml", YAML),
    ],
)
def test_a_file_gives_what_the_flags_give(name, text, tmp_path, capsys):
    (tmp_path / name).write_text(text)
    by_file = told(["runs/a", "voc", "--config", str(tmp_path / name)], capsys)
    words = ["--names", "a", "b", "--flip", "--no-keep", "--size", "None", "--rate", "1e-7"]
    assert by_file == told(["runs/a", "voc", *words], capsys)
    assert by_file["run"] == "runs/a" and by_file["rate"] == 1e-7 and by_file["size"] is None


def test_what_is_given_on_the_command_line_wins(tmp_path, capsys):
    (tmp_path / "x.yaml").write_text(YAML)
    words = ["--names", "c", "--no-flip", f"--config={tmp_path}/x.yaml", "--rate=2"]
    found = told(["runs/a", "voc", *words], capsys)
    assert (found["names"], found["flip"], found["rate"]) == (["c"], False, 2.0)
    assert found["keep"] is False


def test_the_flags_of_a_run_that_replaced_another_delete_nothing(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"flags": {"seed": 3, "overwrite": True}}))
    assert read_config(path)[0] == {"seed": 3}
    path.write_text(json.dumps({"seed": 3, "overwrite": True}))  # asked for
    assert read_config(path)[0] == {"seed": 3, "overwrite": True}


def test_an_empty_list_stays_empty(tmp_path, capsys):
    (tmp_path / "x.json").write_text('{"names": []}')
    assert told(["r", "voc", "--config", str(tmp_path / "x.json")], capsys)["names"] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "must hold a mapping from names of flags"),
        ("a: [", "cannot be read"),
        ("sise: 3\n", "--sise"),
        ("size: many\n", "--size"),
    ],
)
def test_a_wrong_file_is_one_line(text, message, tmp_path, capsys):
    (tmp_path / "x.yaml").write_text(text)
    words = ["r", "--config", str(tmp_path / "x.yaml")]
    assert run("tfclip.x", Command(Flags, vars), words) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and message in shown


def test_a_missing_file_is_named(capsys):
    assert run("tfclip.x", Command(Flags, vars), ["r", "--config", "nowhere.yaml"]) == 2
    assert "no file at --config nowhere.yaml" in capsys.readouterr().err
    with pytest.raises(ValueError, match="needs a file"):
        take_config(["--config", "--json"])


def test_a_recipe_in_the_file_selects_the_command(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"recipe": "other", "flags": {"rate": 5}}))
    assert read_config(path) == ({"rate": 5}, "other")

    @dataclass(frozen=True)
    class Simple:
        """Simple."""

        rate: float = 1.0
        """Rate."""

    commands = {name: Command(Simple, lambda f, n=name: {n: f.rate}) for name in ("one", "other")}
    assert run("tfclip.x", commands, ["--config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"other": 5.0}


def test_dry_run_plans_and_does_not_work(tmp_path, capsys):
    def work(flags):
        raise AssertionError("worked")

    command = Command(Flags, work, plan=lambda flags: {"planned": flags.group.size})
    assert run("tfclip.x", command, ["r", "--size", "7", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out) == {"planned": 7}
    assert run("tfclip.x", Command(Flags, work), ["r", "--dry-run"]) == 2
    assert "has no --dry-run" in capsys.readouterr().err


def test_words_leave_out_positionals():
    assert words_of({"run": "x", "size": 1}, [], ["run"]) == ["--size", "1"]


def dry(words, capsys) -> dict:
    from tfclip.__main__ import main

    assert main([*map(str, words), "--dry-run"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_flag_that_is_a_mapping_is_read_back(tmp_path):
    lists = {"train": "a.txt", "val": "b.txt"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"source": {"id_lists": lists, "cautious": True}}))
    flags, _ = read_config(path)
    assert flags == {"id_lists": lists, "cautious": True}
    assert words_of(flags, []) == "--id-lists train a.txt val b.txt --cautious".split()
    assert words_of({"id_lists": {}}, []) == []


def test_packing_is_planned_and_read_back(drawn_sets, tmp_path, capsys):
    words = ["make_records", "flickr8k", "--data", drawn_sets / "flickr8k", "--out"]
    planned = dry([*words, tmp_path / "r", "--shards", "2", "--seed", "3"], capsys)
    assert planned["splits"]["train"] == {"pictures": 1, "shards": 1}
    assert planned["splits"]["dev"] == {"pictures": 12, "shards": 2}
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "plan.json").write_text(json.dumps(planned))
    again = dry(["make_records", "flickr8k", "--config", tmp_path / "plan.json"], capsys)
    assert again == planned


def test_evaluation_is_planned_and_read_back(tiny_run, voc_records, tmp_path, capsys):
    before = sorted(tiny_run.rglob("*"))
    words = ["evaluate", tiny_run, "voc", "--records", voc_records, "--tiles", "1+4"]
    planned = dry(words, capsys)
    assert planned["reads"]["pictures"] == 40 and planned["reads"]["calibration_pictures"] == 40
    assert f"{tiny_run}/thresholds.json" in planned["writes"]
    (tmp_path / "plan.json").write_text(json.dumps(planned))
    assert dry(["evaluate", tiny_run, "voc", "--config", tmp_path / "plan.json"], capsys) == planned
    assert sorted(tiny_run.rglob("*")) == before


@pytest.mark.slow
def test_a_run_from_the_configuration_of_another_is_the_same_bit_for_bit(
    training_records, tmp_path
):
    from tfclip.fit import main
    from tfclip.models.saving import load_model

    words = ["shapes", "--records", str(training_records), "--steps", "3", "--batch-size", "8"]
    words += ["--evaluate-every", "2", "--learning-rate", "0.003", "--never-trained", "red star"]
    assert main([*words, "--run", str(tmp_path / "a")]) == 0
    config = str(tmp_path / "a" / "config.json")
    assert main(["--config", config, "--run", str(tmp_path / "b")]) == 0
    a, b = (
        load_model(tmp_path / run / "checkpoints" / "last").dual_encoder.get_weights()
        for run in "ab"
    )
    assert [x.tobytes() for x in a] == [x.tobytes() for x in b]
    flags = [json.loads((tmp_path / run / "config.json").read_text())["flags"] for run in "ab"]
    assert {**flags[0], "run": ""} == {**flags[1], "run": ""}


def test_only_what_is_set_is_kept():
    values = {"steps": 10, "resize": "squash", "callback": ()}
    assert without_defaults(values, {"resize": "squash", "callback": ()}) == {"steps": 10}
    assert without_defaults(values, {"resize": "crop"}) == values
