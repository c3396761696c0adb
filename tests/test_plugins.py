"""What a module outside the package brings: a tower, a source, callbacks; and what is refused."""

import json
import sys

import pytest

import tfclip
from tfclip.config_file import words_of
from tfclip.evaluate import main as evaluate
from tfclip.export import main as export
from tfclip.fit import main as fit
from tfclip.make_records import main as make_records
from tfclip.predict import main as predict
from tfclip.sources import registry
from tfclip.training.train_recipe import train

MODULE = '''
import io
from pathlib import Path

import keras
from PIL import Image

from tfclip.sources.sample import Sample, Source


def colours(data, options):
    """Pictures of one colour, whose names stand in a file of the folder."""
    names = (Path(data) / "colours.txt").read_text().split()

    def read(split):
        for name in names:
            for number in range(4):
                file = io.BytesIO()
                Image.new("RGB", (40 + number, 40), name).save(file, "PNG")
                caption = f"a picture that is {name}."
                yield Sample(f"colours/{name}{number}", file.getvalue(), (caption,), split=split)

    return Source("anything", {"train": 4 * len(names)}, read)


def means(image_size, width=8):
    pictures = keras.Input((image_size, image_size, 3))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(pictures))
    return keras.Model(pictures, keras.layers.Dense(width)(mean))


def bag_of_words(vocabulary_size, context_length):
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="bool", name="text_mask")
    words = keras.layers.Embedding(vocabulary_size, 8)(ids)
    pooled = keras.layers.GlobalAveragePooling1D()(words, mask=mask)
    return keras.Model({"token_ids": ids, "text_mask": mask}, pooled)


def not_a_tower(image_size):
    return image_size


class Steps(keras.callbacks.Callback):
    """Writes a line for each step."""

    file = "steps.txt"

    def __init__(self):
        super().__init__()
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        with open(self.file, "a") as out:
            out.write(f"{self.steps} {logs['batch_loss']:.3f}\\n")


def steps_elsewhere():
    callback = Steps()
    callback.file = "elsewhere.txt"
    return callback
'''
SMALL = ["--image-size=16", "--batch-size=4", "--warmup-steps=1", "--evaluate-every=5"]
SMALL += ["--region-share=0", "--regions=whole"]


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """A folder on the path with that module, and the present folder."""
    (tmp_path / "brought_along.py").write_text(MODULE)
    (tmp_path / "colours.txt").write_text("red green blue")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("brought_along", None)


def test_a_tower_a_source_and_a_callback_of_another_module(brought, capsys):
    module = "brought_along"
    assert make_records([f"{module}:colours", "--data=.", "--out=records", "--workers=1"]) == 0
    manifest = json.loads((brought / "records" / "manifest.json").read_text())
    assert manifest["source"] == f"{module}:colours", "the name that opens it again"
    words = ["shapes", "--records=records", "--run=run", *SMALL, "--steps=10"]
    words += [f"--image-tower={module}:means", f"--text-tower={module}:bag_of_words"]
    words += [f"--callback={module}:Steps", f"--callback={module}:steps_elsewhere"]
    assert fit(words) == 0, capsys.readouterr().err
    for name in ("steps.txt", "elsewhere.txt"):
        lines = (brought / name).read_text().splitlines()
        assert [line.split()[0] for line in lines] == [str(n + 1) for n in range(10)]
    # Without the second callback: said, and not refused.
    assert fit(words[:-1]) == 0
    assert "--callback brought_along:Steps brought_along:steps_elsewhere, now" in (
        capsys.readouterr().err
    )
    from PIL import Image

    Image.new("RGB", (30, 30), "red").save(brought / "red.png")
    ask = ["run", "red.png", "--labels", "red", "blue"]
    assert predict([*ask, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out.splitlines()[-1])["pictures"]
    assert answer["picture"] == "red.png"
    assert evaluate(["run", "retrieval", "--records=records:train"]) == 0
    assert export(["run", "--out=exported", "--labels=none"]) == 0
    # Where the module is not on the path, one line says so.
    (brought / "brought_along.py").unlink()
    sys.modules.pop("brought_along")
    assert predict(ask) == 2
    assert (
        "image tower brought_along:means: no module named brought_along; install"
        in (capsys.readouterr().err.splitlines()[-1])
    )
    assert predict(["exported", "red.png", "--labels", "red", "blue"]) == 0


@pytest.mark.parametrize(
    "flag, told",
    [
        ("--image-tower=brought_along:nothing", "unknown image tower of brought_along 'nothing'"),
        ("--image-tower=brought_along:not_a_tower", "must return a keras.Model; it returned a int"),
        ("--image-tower=brought_along:bag_of_words", "missing a required argument"),
        ("--text-tower=no_such.module:tower", "no module named no_such; install the package that"),
        ("--callback=brought_along:means", "missing a required argument: 'image_size'"),
        ("--callback=brought_along:MODULE", "unknown --callback of brought_along 'MODULE'"),
        ("--callback=broken:x", "importing broken failed with ZeroDivisionError"),
        ("--callback=needs:x", "needs needs the module not_installed, which is missing"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(flag, told, brought, training_records, capsys):
    (brought / "broken.py").write_text("1 / 0\n")
    (brought / "needs.py").write_text("import not_installed\n")
    words = ["shapes", f"--records={training_records}", "--run=run", "--steps=2", *SMALL, flag]
    assert fit(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert told in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_a_source_by_entry_point(brought, monkeypatch):
    folder = brought / "colours-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1.0\n")
    told = "[tfclip.sources]\ncolours = brought_along:colours\nvoc = brought_along:colours\n"
    (folder / "entry_points.txt").write_text(told)
    registry.installed_sources.cache_clear()
    try:
        source = registry.open_source("colours", brought)
        assert (source.name, source.counts) == ("colours", {"train": 12})
        with pytest.raises(
            ValueError, match="colours has the same name as tfclip's own source voc"
        ):
            registry.open_source("voc", brought)
    finally:
        registry.installed_sources.cache_clear()


def test_train_takes_the_flags_of_the_command(training_records, tmp_path):
    assert tfclip.train is train
    with pytest.raises(ValueError, match="unknown flag 'batchsize'; known, .*: batch_size"):
        tfclip.train("shapes", records=training_records, run=tmp_path / "run", batchsize=4)
    with pytest.raises(ValueError, match="--learning-rate must be above 0"):
        tfclip.train("shapes", records=training_records, run=tmp_path / "run", learning_rate=-1.0)
    with pytest.raises(ValueError, match=r"python -m tfclip\.fit shapes --workers 2"):
        tfclip.train("shapes", records=training_records, run=tmp_path / "run", workers=2)


def test_train_trains_with_callbacks(brought, training_records, tmp_path):
    import keras

    class Losses(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.losses = []

        def on_train_batch_end(self, batch, logs=None):
            self.losses.append(logs["batch_loss"])

    losses = Losses()
    result = tfclip.train(
        "shapes",
        records=training_records,
        run=str(tmp_path / "run"),
        callbacks=[losses],
        image_tower="brought_along:means",
        text_tower="brought_along:bag_of_words",
        steps=6,
        image_size=16,
        batch_size=4,
        warmup_steps=1,
        crop_scale=[0.8, 1.0],
    )
    assert (result["steps"], len(losses.losses)) == (6, 6)
    model, preprocess = tfclip.load(result["run"])
    assert model.trained_on["recipe"] == "shapes"


def test_callbacks_of_a_run_s_configuration_are_given_again():
    assert words_of({"callback": ["a:b", "c:d"]}, []) == ["--callback", "a:b", "--callback", "c:d"]
