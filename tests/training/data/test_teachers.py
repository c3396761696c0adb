"""Teachers beside records: what is stored, what a batch gets, what is refused, what is trained."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfclip.evaluation.embedding.embed import embed_texts
from tfclip.evaluation.embedding.features.feature_cache import (
    Storage,
    image_features,
    text_features,
)
from tfclip.fit import main as fit
from tfclip.inputs.batches import training_batches
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.inputs.view_sets import view_set
from tfclip.make_records import main as make_records
from tfclip.models.saving import load_model
from tfclip.records import schema
from tfclip.records.reader import read_split, shard_counts, split_files
from tfclip.training.data.feature_batches import feature_batches
from tfclip.training.data.teacher_words import ROW_SCALE, make_word_distillation, principal_rows
from tfclip.training.data.teachers import open_teachers


@pytest.fixture(scope="module")
def records(drawn_sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("taught") / "records"
    words = ["flickr8k", "--data", drawn_sets / "flickr8k", "--out", out, "--shards", 2]
    assert make_records([*map(str, words), "--workers", "1", "--splits", "dev"]) == 0
    return out


@pytest.fixture(scope="module")
def taught(records, tiny_run):
    file = records.parent / "words.txt"
    file.write_text("[PAD]\nred star\n##s\nblue\n7\nof\nblue\n")
    words = ["embed", records, "--teacher", tiny_run, "--name", "tiny", "--splits", "dev"]
    words += ["--words", file]
    assert make_records([*map(str, words), "--views", "2", "--precision", "float32"]) == 0
    return records


def test_batches_hold_the_teachers_embeddings_of_their_views_and_captions(taught, tiny_run):
    teachers = open_teachers(taught, "dev", ("tiny",), "2")
    model = load_model(tiny_run)
    files, size = split_files(taught, "dev"), model.config.picture_size
    for captions in (1, 3):
        options = SamplingOptions(views="2", captions=captions)
        batches = training_batches(
            files, model.tokenizer, size, options, batch_size=4, seed=3, teachers=teachers
        )
        batch = next(iter(batches.take(1)))
        # The tower itself embeds the very pixels and tokens of the batch.
        expected = model.dual_encoder.encode_image(batch["image"])
        np.testing.assert_allclose(batch["teacher_image"], expected, atol=1e-5)
        ids, mask = (
            tf.reshape(batch[name], (4 * captions, -1)) for name in ("token_ids", "text_mask")
        )
        expected = model.dual_encoder.encode_text(ids, mask)
        found = np.reshape(batch["teacher_text"], expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        plain = next(
            iter(
                training_batches(files, model.tokenizer, size, options, batch_size=4, seed=3).take(
                    1
                )
            )
        )
        for name, column in plain.items():
            np.testing.assert_array_equal(column, batch[name])


@pytest.mark.parametrize("captions", [1, 3])
def test_batches_of_stored_features_hold_them_too(taught, tiny_run, tmp_path, captions):
    teachers = open_teachers(taught, "dev", ("tiny",), "2")
    model, where = load_model(tiny_run), Storage("float32", tmp_path)
    image = image_features(model, taught, "dev", "2", where)
    text = text_features(model, taught, "dev", where)
    options = SamplingOptions(views="2", captions=captions)
    files, counts = split_files(taught, "dev"), shard_counts(taught, "dev")
    given = files, counts, model.tokenizer, model.config.image_size, options
    stored = {"image": image, "text": text, "teachers": teachers}
    batch = next(iter(feature_batches(*given, batch_size=4, seed=3, **stored).take(1)))
    expected = model.dual_encoder.embed_image_features(batch["image_features"])
    np.testing.assert_allclose(batch["teacher_image"], expected, atol=1e-5)
    width = batch["text_features"].shape[-1]
    features = tf.reshape(batch["text_features"], [4 * captions, -1, width])
    if len(text.features.shape) == 2 and text.token_starts is None:
        features = features[:, 0]
    mask = tf.reshape(batch["text_mask"], [4 * captions, -1])
    expected = model.dual_encoder.embed_text_features(features, mask)
    found = np.reshape(batch["teacher_text"], expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_records_without_texts_get_the_empty_text(taught, tiny_run):
    teachers = open_teachers(taught, "dev", ("tiny",), "1")
    rows = np.array([0, 1])
    _, texts = teachers.embeddings(rows, np.zeros(2, np.int32), np.array([-1, 0]))
    record = list(read_split(taught, "dev", features=(schema.CAPTION,)).as_numpy_iterator())[1]
    expected = embed_texts(load_model(tiny_run), [b"", record[schema.CAPTION][0]])
    np.testing.assert_allclose(texts, expected, atol=1e-5)
    assert len(view_set("2")) == teachers.teachers[0].images[0].shape[1]


def test_a_reduced_teacher_has_the_principal_components_of_both_modalities(taught, tiny_run):
    words = ["embed", taught, "--teacher", tiny_run, "--name", "small", "--splits", "dev"]
    words += ["--views", "2", "--precision", "float32", "--size", "6"]
    assert make_records([*map(str, words)]) == 0
    # From a singular value decomposition of all rows, those of a modality with equal weight.
    whole = [open_teachers(taught, "dev", (name,), "2").teachers[0] for name in ("tiny", "small")]
    rows, found = (
        [
            np.concatenate([part.reshape(-1, part.shape[-1]) for part in getattr(one, kind)])
            for kind in ("images", "texts")
        ]
        for one in whole
    )
    stacked = np.concatenate([part / np.sqrt(len(part)) for part in rows])
    values, axes = np.linalg.svd(stacked, full_matrices=False)[1:]
    for part, reduced in zip(rows, found, strict=True):
        projected = part @ axes[:6].T
        projected /= np.linalg.norm(projected, axis=1, keepdims=True)
        np.testing.assert_allclose(reduced @ reduced.T, projected @ projected.T, atol=1e-4)
    described = json.loads((taught / "teachers/small/teacher.json").read_text())
    assert described["size"] == 6 and whole[1].empty.shape == (6,)
    np.testing.assert_allclose(described["kept"], (values[:6] ** 2).sum() / (values**2).sum())
    assert make_records([*map(str, words[:-1]), "6000", "--overwrite"]) == 2


def test_words_are_embedded_and_learnt_as_the_student_reads_them(taught, tiny_run):
    model = load_model(tiny_run)
    prompts = [b"a photo of a red star.", b"a photo of a blue."]
    loss = make_word_distillation(model, taught, "tiny", weight=3.0, seed=0)
    np.testing.assert_allclose(loss.embeddings, embed_texts(model, prompts), atol=1e-5)
    # A student that is the teacher has nothing to learn.
    encode = model.dual_encoder.encode_text
    same = loss(lambda given: encode(given["token_ids"], given["text_mask"]), tf.constant(5))
    np.testing.assert_allclose(same, 0, atol=1e-5)
    description = taught / "teachers/tiny/words.txt"
    content = description.read_bytes()
    description.write_bytes(content.replace(b"blue", b"pink"))
    with pytest.raises(ValueError, match="words.txt is damaged or missing; run"):
        make_word_distillation(model, taught, "tiny", weight=1.0, seed=0)
    description.write_bytes(content)


def test_a_table_starts_from_the_principal_components_of_its_words():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(5, 4)).astype("float32")
    # The token 1 is in all prompts, 6 in two, and 8 in none; 0 is padding.
    prompts = [[1, 2, 0, 0], [1, 3, 6, 0], [1, 4, 6, 6], [1, 5, 0, 0], [1, 7, 0, 0]]
    rows = principal_rows(np.array(prompts), embeddings, (9, 3))
    assert np.isnan(rows[[0, 1, 8]]).all()
    centred = embeddings - embeddings.mean(0)
    components = centred @ np.linalg.svd(centred)[2][:3].T
    expected = np.stack([*components[:4], (components[1] + components[2]) / 2, components[4]])
    # The order of the tokens 2 to 7: 6 comes before 7. Signs of components are arbitrary.
    np.testing.assert_allclose((rows[2:8] ** 2).mean(), ROW_SCALE**2, rtol=1e-5)
    factor = ROW_SCALE / np.sqrt((expected**2).mean())
    np.testing.assert_allclose(np.abs(rows[2:8]), factor * np.abs(expected), rtol=1e-4, atol=1e-6)
    # Missing components of a narrow teacher stay 0.
    assert (principal_rows(np.array(prompts), embeddings, (9, 6))[2:8, 4:] == 0).all()


@pytest.mark.parametrize(
    "words, told",
    [
        (["--teacher", "tinny"], "unknown teacher 'tinny'; known, nearest first: tiny"),
        (["--teacher", "tiny", "--views", "4"], "has embedded 2 views"),
        (["--teacher", "tiny", "--flip"], "--flip changes the inputs"),
        (["--teacher-affinity", "2"], "needs --teacher"),
        (["--teacher", "tiny", "--teacher-affinity", "0"], "a weight above 0"),
        (["--teacher", "tiny", "--teacher-feature", "1", "--embed-dim", "5"], "--embed-dim 5"),
    ],
)
def test_refusals_are_one_line(taught, tmp_path, capfd, words, told):
    run = ["shapes", "--records", f"{taught}:dev", "--run", tmp_path / "run", "--regions", "whole"]
    given = [*map(str, run), "--region-share", "0", "--steps", "1", "--batch-size", "4", *words]
    assert fit(given) == 2
    error = capfd.readouterr().err
    assert told in error and error.count("\n") == 1, error


def test_changed_records_and_damaged_files_are_refused(taught, tiny_run, tmp_path, capfd):
    copy = tmp_path / "copy"
    shutil.copytree(taught, copy)
    array = next((copy / "teachers/tiny").glob("*.images.npy"))
    content = array.read_bytes()
    array.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="damaged or missing; run python -m .* embed"):
        open_teachers(copy, "dev", ("tiny",), "1")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "source": "other"}))
    with pytest.raises(ValueError, match="has changed since teacher tiny"):
        open_teachers(copy, "dev", ("tiny",), "1")
    again = ["embed", str(taught), "--teacher", str(tiny_run), "--name", "tiny"]
    assert make_records([*again, "--splits", "dev"]) == 2
    assert "exists; give another --name, or --overwrite" in capfd.readouterr().err
    assert make_records(["embed", str(taught), "--teacher", str(tmp_path)]) == 2
    assert "holds no trained model" in capfd.readouterr().err


@pytest.mark.slow
def test_a_distilled_run_trains_saves_and_resumes(taught, tiny_run, tmp_path, small_recipe, capfd):
    run = ["shapes", "--records", f"{taught}:dev", "--run", tmp_path / "run", "--regions", "whole"]
    words = ["--region-share", "0", "--batch-size", "4", "--teacher", "tiny", "--views", "2"]
    words += ["--vocabulary", str(tiny_run / "best/vocab.txt")]
    words += ["--embed-dim", "16"]
    given = [*map(str, run), *words, "--teacher-affinity", "2", "--teacher-words", "1"]
    assert fit([*given, "--steps", "2"]) == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert list(config["teachers"]) == ["tiny"] and config["flags"]["teacher_affinity"] == 2
    assert "distillation from tiny" in capfd.readouterr().err
    assert fit([*given, "--steps", "2", "--teacher-affinity", "3"]) == 2
    assert "--teacher-affinity 2.0, now 3.0" in capfd.readouterr().err
