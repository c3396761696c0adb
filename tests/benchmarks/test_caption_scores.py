"""The parts of benchmarks.caption_scores that a wrong figure would come from."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks import caption_scores
from tfclip.make_records import main as make_records
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import read_split
from tfclip.records.scores import scored_set
from tfclip.records.scores.caption_scores import CaptionScores

TABLES = {
    "one": [("a", "x"), ("a", "yy"), ("b", "zzz"), ("c", "vvvv"), ("c", "wwwww")],
    "other": [("c", "yy"), ("b", "zzz"), ("a", "wwwww"), ("a", "vvvv")],
}


@pytest.fixture
def sets(tmp_path):
    for name in "abc":
        Image.new("RGB", (6, 4), "teal").save(tmp_path / f"{name}.jpg")
    for name, rows in TABLES.items():
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            rows = [("path", "caption"), *((f"{image}.jpg", text) for image, text in rows)]
            csv.writer(file).writerows(rows)
        words = ["--data", tmp_path / f"{name}.csv", "--out", tmp_path / name, "--workers", 1]
        assert make_records(["caption_table", *map(str, words), "--splits", "train"]) == 0
    return tmp_path


def contents(directory):
    features = (schema.ID, schema.CAPTION)
    return list(read_split(directory, "train", features=features).as_numpy_iterator())


def text_rows(texts):
    return np.array([[len(text), text[0]] for text in texts] + [[0, 0]], np.float32)


def test_shared_features_are_those_of_the_same_pictures_and_texts(sets):
    rows = contents(sets / "one")
    texts = [text for row in rows for text in row[schema.CAPTION]]
    for side in ("image", "text"):
        folder = sets / "one/features" / side
        folder.mkdir(parents=True)
        what = {"side": side, "split": "train", "weights": "w", "records": "of one"}
        (folder / "features.json").write_text(json.dumps({"what": what}))
    ids = np.array([row[schema.ID] for row in rows])
    np.save(sets / "one/features/image/image_id.npy", ids)
    np.save(sets / "one/features/image/features.npy", np.stack([ids % 97, ids % 89], 1))
    starts = np.cumsum([0] + [len(row[schema.CAPTION]) for row in rows])
    np.save(sets / "one/features/text/text_starts.npy", starts)
    np.save(sets / "one/features/text/features.npy", text_rows(texts))
    np.save(sets / "one/features/text/caption_id.npy", np.array([*map(len, texts), 0]))
    caption_scores.share_features(sets / "one", sets / "other")
    shared = {}
    for folder in (sets / "other/features").iterdir():
        what = json.loads((folder / "features.json").read_text())["what"]
        assert what["records"] == load_manifest(sets / "other").fingerprint()
        assert what["weights"] == "w"
        shared[what["side"]] = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    rows = contents(sets / "other")
    ids = np.array([row[schema.ID] for row in rows])
    texts = [text for row in rows for text in row[schema.CAPTION]]
    np.testing.assert_array_equal(shared["image"]["image_id"], ids)
    np.testing.assert_array_equal(shared["image"]["features"], np.stack([ids % 97, ids % 89], 1))
    np.testing.assert_array_equal(shared["text"]["features"], text_rows(texts))
    np.testing.assert_array_equal(shared["text"]["caption_id"], [*map(len, texts), 0])
    starts = np.cumsum([0] + [len(row[schema.CAPTION]) for row in rows])
    np.testing.assert_array_equal(shared["text"]["text_starts"], starts)


def test_a_fifth_moves_and_none_to_its_own_picture():
    rows = [(f"{n // 5}.jpg", f"caption {n}", "train") for n in range(500)]
    rows += [("x.jpg", "stays", "dev")]
    moved = caption_scores.shuffled(rows, seed=0)
    true = {(name, text) for name, text, _ in rows}
    assert sum((name, text) not in true for name, text, _ in moved) == 100
    assert sorted(text for _, text, _ in moved) == sorted(text for _, text, _ in rows)


def test_the_area_is_that_of_scikit_learn(monkeypatch):
    rng = np.random.default_rng(0)
    cosines, agreements = rng.normal(size=(2, 60)).round(1)  # with ties
    is_wrong = rng.random(60) < 0.3
    row = {schema.KEY: b"caption_table/a.jpg"}
    row[schema.CAPTION] = np.array([f"{n}".encode() for n in range(60)], object)
    read = type("Read", (), {"as_numpy_iterator": lambda self: iter([row])})
    monkeypatch.setattr("tfclip.records.reader.read_split", lambda *_, **__: read())
    scores = CaptionScores(cosines, agreements)
    monkeypatch.setattr(scored_set, "stored_scores", lambda *_: scores)
    wrong = {("a.jpg", str(n)) for n in range(60) if is_wrong[n]}
    found = caption_scores.auc_of(None, wrong, 1.0)
    for by, fit in (("cosine", cosines), ("both", np.float32(cosines + agreements))):
        assert found[by]["auc"] == pytest.approx(roc_auc_score(is_wrong, -fit))
        # Of all captions, as many are wrong as there are.
        assert found[by]["precision"] == pytest.approx(is_wrong.mean())
    (worst,) = {at for at in range(60) if scores.fit()[at] == scores.fit().min()}
    one = caption_scores.auc_of(None, {("a.jpg", str(worst))}, 1 / 60)
    assert one["both"] == {"auc": 1.0, "precision": 1.0}


def test_recalls_of_the_best_epoch(tmp_path):
    for folder in ("run-kept", "run-kept-2"):
        (tmp_path / folder / "best").mkdir(parents=True)
        lines = "val_recall,val_i2t_r10,val_t2i_r10\n0.2,0.5,0.4\n0.3,0.6,0.5\n0.1,0.9,0.9\n"
        (tmp_path / folder / "log.csv").write_text(lines)
    assert caption_scores.recalls_of(tmp_path, "kept", [0, 1, 2]) == [(0.6, 0.5), (0.6, 0.5)]
