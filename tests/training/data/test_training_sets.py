"""Several sets of records in one run: compared, mixed, counted in the log."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from benchmarks.compared_runs import differences, result_of
from tfclip.fit import main
from tfclip.inputs.mixture import Mixture
from tfclip.inputs.tokenizers.vocabulary import save_vocabulary
from tfclip.records.manifest import load_manifest
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.sources.sample import Sample, Source
from tfclip.training.data.training_sets import open_training_sets
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.flat import nest
from tfclip.training.options.recipes import RECIPES
from tfclip.training.phases import batch_keys
from tfclip.training.run import train

SMALL = ["--image-size", "16", "--batch-size", "4", "--steps", "6", "--evaluate-every", "4"]


def packed(out, source_name, keys, words="red green blue", shards=None):
    samples = []
    for at in keys:
        file = io.BytesIO()
        Image.new("RGB", (20, 20), (9 * at, 0, 0)).save(file, "PNG")
        samples.append(Sample(f"{source_name}/{at}", file.getvalue(), (f"{words} {at}",)))
    source = Source(source_name, {"train": len(samples)}, lambda split: iter(samples))
    pack(
        source,
        out,
        PackOptions(workers=1, shards=shards),
        finish=lambda building, files: save_vocabulary(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(words)], building / "vocab.txt"
        ),
    )
    return str(out)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    out = tmp_path_factory.mktemp("sets")
    return [
        packed(out / "one", "one", range(12)),
        packed(out / "two", "two", range(6), words="green yellow"),
        packed(out / "again", "one", range(8, 16)),
    ]


def test_several_sets_train_together_and_are_counted(sets, tmp_path, capsys, small_recipe):
    words = ["shapes", "--records", *sets[:2], "--record-weights", "1", "3", *SMALL]
    assert main([*words, "--run", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().err
    assert "one:train: 12 pictures, 25.0% of the examples" in told
    assert "different vocabularies: learnt a new one of" in told
    rows = list(csv.DictReader((tmp_path / "run/log.csv").open()))
    mixture = Mixture((("x",), ("y",)), (1, 3), (9, 9))
    for row, step in zip(rows, (4, 6), strict=True):
        counts = [int(float(row["drawn_one"])), int(float(row["drawn_two"]))]
        assert counts == mixture.counts(0, 4 * step) and sum(counts) == 4 * step
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["flags"]["records"] == sets[:2]
    assert config["flags"]["record_weights"] == [1, 3]


@pytest.mark.slow
def test_a_run_on_several_sets_goes_on_exactly(sets, tmp_path):
    """Cut off after step 5, begun again from the checkpoint of step 3: the same weights and log."""
    recipe = replace(
        RECIPES["shapes"],
        image_options={"widths": (8, 16), "stem": 2},
        text_options={"width": 16, "blocks": 1, "heads": 2},
    )

    def run(name, *callbacks):
        given = {"image_size": 16, "batch_size": 4, "steps": 7, "evaluate_every": 4}
        given |= {"records": tuple(sets[:2]), "record_weights": (1.0, 2.0), "warmup_steps": 2}
        given |= {"checkpoint_every": "3", "run": tmp_path / name}
        train("shapes", recipe.flags(**given), callbacks, recipe)
        return result_of(tmp_path / name)

    class CutOff(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 5:
                raise KeyboardInterrupt

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("cut", CutOff())
    assert not differences(whole, run("cut"))


@pytest.fixture
def damaged(tmp_path):
    """12 pictures, 4 to a shard: a byte of one/2 is flipped, and the last shard cut in one/10."""
    out = Path(packed(tmp_path / "damaged", "one", range(12), shards=3))
    flipped, truncated = (
        out / "train-00000-of-00003.tfrecord",
        out / "train-00002-of-00003.tfrecord",
    )
    content = bytearray(flipped.read_bytes())
    content[content.index(b"one/2") - 20] ^= 1
    flipped.write_bytes(content)
    content = truncated.read_bytes()
    truncated.write_bytes(content[: content.index(b"one/10")])
    return out


def test_without_the_flag_damage_ends_with_the_names_of_shard_and_record(damaged, tmp_path, capsys):
    words = ["shapes", "--records", str(damaged), *SMALL, "--run", str(tmp_path / "run")]
    assert main(words) == 2
    assert re.search(
        r"train-00002-of-00003.tfrecord has \d+ bytes, the manifest lists \d+: record 2 is damaged",
        capsys.readouterr().err,
    )
    sound = packed(tmp_path / "sound", "one", range(12), shards=3)
    last = "train-00002-of-00003.tfrecord"
    (damaged / last).write_bytes(Path(sound, last).read_bytes())
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "train-00000-of-00003.tfrecord: record 2 is damaged" in told
    assert "--skip-damaged" in told


def test_the_order_of_the_sound_records_comes_again(damaged, tmp_path):
    sets = [open_training_sets([str(damaged)], salvage_to=tmp_path / to) for to in "ab"]
    assert (sets[0].images, sets[0].skipped) == (9, 3)
    assert str(sets[0].sets[0]) == f"{damaged}:train"
    assert sets[0].fingerprint() == sets[1].fingerprint()
    assert sets[0].fingerprint() != load_manifest(damaged).fingerprint()
    first, second = ([batch_keys(one, step, 9, seed=5) for step in range(3)] for one in sets)
    assert first == second and first[0] != first[1]
    sound = [f"one/{at}" for at in (0, 1, 3, 4, 5, 6, 7, 8, 9)]
    assert all(sorted(keys) == sound for keys in first)  # a batch of all is an epoch


@pytest.mark.slow
@pytest.mark.parametrize("locked", [False, True])
def test_a_run_that_skips_damage_goes_on_exactly(damaged, tmp_path, locked):
    """Cut off after step 5, begun again from the checkpoint of step 3; by --freeze with a cache."""
    recipe = replace(
        RECIPES["shapes"],
        image_options={"widths": (8, 16), "stem": 2},
        text_options={"width": 16, "blocks": 1, "heads": 2},
    )

    def run(name, *callbacks, **more):
        given = {"image_size": 16, "batch_size": 4, "steps": 7, "evaluate_every": 4}
        given |= {"records": (str(damaged),), "warmup_steps": 2, "checkpoint_every": "3"}
        given |= {"skip_damaged": True, "run": tmp_path / name, **more}
        if locked:
            given |= {"lock": "image", "regions": "whole", "region_share": None}
            given |= {"crop_scale": (1.0, 1.0), "flip": False}
        return train("shapes", recipe.flags(**given), callbacks, recipe)

    class CutOff(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 5:
                raise KeyboardInterrupt

    assert run("whole")["skipped_damaged"] == 3
    with pytest.raises(KeyboardInterrupt):
        run("cut", CutOff())
    assert run("cut")["skipped_damaged"] == 3
    assert not differences(result_of(tmp_path / "whole"), result_of(tmp_path / "cut"))
    # More damage is other data.
    (damaged / "train-00001-of-00003.tfrecord").write_bytes(b"")
    with pytest.raises(ValueError, match="holds a run with records fingerprint"):
        run("cut")
    assert run("cut", overwrite=True)["skipped_damaged"] == 3 + 4


def test_one_set_is_read_as_before_and_several_by_their_sizes(sets):
    one = open_training_sets(sets[:1])
    assert one.inputs == one.files and one.images == 12
    assert one.fingerprint() == one.sets[0].manifest.fingerprint()
    both = open_training_sets(sets[:2])
    assert both.inputs.weights == (12, 6) and both.images == 18
    assert both.fingerprint() != open_training_sets(sets[1::-1]).fingerprint()


def test_sets_with_pictures_in_common_are_refused_and_in_val_told(sets, capsys):
    with pytest.raises(ValueError, match=r"have 4 pictures with the same key, such as one/\d+"):
        open_training_sets([sets[0], sets[2]])
    with pytest.raises(ValueError, match="which is trained on .*--val-in-training"):
        open_training_sets(sets[:1], val=f"{sets[0]}:train")
    open_training_sets(sets[:1], val=f"{sets[0]}:train", val_in_training=True)
    assert "its metrics measure memorisation" in capsys.readouterr().err
    open_training_sets(sets[:2], val=f"{sets[2]}:train")
    assert "note: 4 pictures of --val are trained on, in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"records": ("a", "b", "a")}, "names a twice"),
        ({"records": ("a", "b"), "record_weights": (1.0,)}, "1 numbers for 2"),
        ({"records": ("a", "b"), "record_weights": (1.0, 0.0)}, "above 0; received 1.0 0.0"),
        ({"records": ("a", "b"), "record_weights": (1.0, np.inf)}, "above 0"),
        ({"records": ("a", "b"), "teacher": ("t",)}, "--teacher needs a single --records"),
    ],
)
def test_mistakes_are_told_before_anything_starts(given, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        nest(FitFlags, {"run": tmp_path, **given})


def test_the_order_of_an_earlier_pack_is_said(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("tfclip.training.data.training_sets.SHUFFLE_BLOCK", 3)
    directory = Path(packed(tmp_path / "old", "old", range(4)))
    open_training_sets([str(directory)])
    assert "is packed in the order of its source" in capfd.readouterr().err
    manifest = load_manifest(directory)
    without = {name: value for name, value in manifest.packing.items() if name != "order"}
    for packing, notes in ((without, 1), (manifest.packing | {"order": "shuffled"}, 0)):
        replace(manifest, packing=packing).save(directory)
        open_training_sets([str(directory)])
        assert capfd.readouterr().err.count("order of its source") == notes
