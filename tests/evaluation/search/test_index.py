"""The files of an index: what is written is read, kills and damage, and indexes of before."""

import json
import os
import zlib

import numpy as np
import pytest
import tensorflow as tf

from tfclip.evaluation.search import store
from tfclip.evaluation.search.index import open_index
from tfclip.evaluation.search.records_file import read_record, record_offsets
from tfclip.evaluation.search.single_file import row_type

REST = {
    "run": "run",
    "model": "abc",
    "tiles": "1",
    "synced": 0,
    "sources": [{"kind": "folder", "path": "/none", "relative": "../pictures"}],
    "excluded": [],
    "problems": [],
}


@pytest.fixture
def embeddings():
    rows = np.random.default_rng(0).normal(size=(1000, 24)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def written(folder, embeddings, batches=7, rest=REST):
    folder.mkdir(exist_ok=True)
    with store.new_data(folder, embeddings.shape[1]) as writer:
        for rows in np.array_split(embeddings, batches):
            names = [f"ü {writer.count + row}.jpg".encode() for row in range(len(rows))]
            pictures = np.zeros(len(rows), store.PICTURE)
            pictures["bytes"] = np.arange(len(rows))
            writer.add(rows[:, None], pictures, names)
        writer.finish(rest)
    return open_index(folder)


def test_what_is_written_is_read_from_mapped_files(tmp_path, embeddings):
    (tmp_path / "pictures").mkdir()
    index = written(tmp_path / "index", embeddings)
    assert isinstance(index.embeddings, np.memmap)
    np.testing.assert_array_equal(index.embeddings, embeddings)
    assert [index.name(row) for row in (0, 143, 999)] == ["ü 0.jpg", "ü 143.jpg", "ü 999.jpg"]
    assert len(index) == 1000 and index.model == "abc"
    rows, cosines, views = index.nearest(embeddings[7], 1)
    assert (rows.tolist(), views.tolist()) == ([7], [0])
    assert cosines[0] == pytest.approx(1)
    # The folder of pictures was moved together with the index: its relative path holds.
    assert index.path(3) == tmp_path / "pictures" / "ü 3.jpg"
    np.testing.assert_array_equal(np.load(next((tmp_path / "index").glob("emb*"))), embeddings)


def test_an_error_while_writing_leaves_the_index_of_before(tmp_path, embeddings):
    before = written(tmp_path / "index", embeddings)
    files = sorted(path.name for path in (tmp_path / "index").iterdir())
    with pytest.raises(KeyError), store.new_data(tmp_path / "index", 24) as writer:
        writer.add(embeddings[:5, None], np.zeros(5, store.PICTURE), [b"a"] * 5)
        raise KeyError
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == files
    np.testing.assert_array_equal(open_index(tmp_path / "index").embeddings, before.embeddings)


def test_an_opened_index_stays_while_another_replaces_it(tmp_path, embeddings):
    before = written(tmp_path / "index", embeddings)
    (tmp_path / "index" / "embeddings-0123456789ab.npy").write_bytes(b"of a killed process")
    after = written(tmp_path / "index", embeddings[:10])
    assert (len(before), len(after)) == (1000, 10)
    np.testing.assert_array_equal(before.embeddings, embeddings)
    assert len(list((tmp_path / "index").iterdir())) == 4


def test_one_process_writes_at_a_time(tmp_path):
    with store.writing(tmp_path), pytest.raises(ValueError, match="another process is writing"):
        with store.writing(tmp_path):
            pass
    with store.writing(tmp_path):
        # A child of a fork has the lock's file too, and may live on.
        reading, holding = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(holding)
            os.read(reading, 1)
            os._exit(0)
        os.close(reading)
    try:
        with store.writing(tmp_path):
            pass
    finally:
        os.close(holding)
        os.waitpid(child, 0)


def test_what_is_no_index_is_refused(tmp_path, embeddings):
    with pytest.raises(FileNotFoundError, match="make one with: python -m tfclip.search index"):
        open_index(tmp_path / "index")
    written(tmp_path / "index", embeddings)
    description = tmp_path / "index" / "index.json"
    content = json.loads(description.read_text())
    for change, said in (
        ({"pictures": 5}, "1000 rows, 5 x 1 described"),
        ({"first_pictures": 1}, "not those that are described"),
        ({"version": 3}, "has version 3; this tfclip reads 2"),
        ({"format": "other"}, "has version None"),
        ({"token": "000000000000"}, "is missing"),
    ):
        description.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=said):
            open_index(tmp_path / "index")
    description.write_text("{")
    with pytest.raises(ValueError, match="is no search index"):
        open_index(tmp_path / "index")
    description.write_text(json.dumps(content))
    for path in (tmp_path / "index").glob("*.npy"):
        kept = path.read_bytes()
        path.write_bytes(kept[:500])
        with pytest.raises(ValueError, match="is no search index"):
            open_index(tmp_path / "index")
        path.write_bytes(kept)
    assert len(open_index(tmp_path / "index")) == 1000


def test_the_place_of_a_record_is_where_it_is_read(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for at in range(100):
            writer.write(f"record {at} {'x' * (at % 50)}".encode())
    offsets = list(record_offsets(tmp_path / "a.tfrecord"))
    assert len(offsets) == 100
    for at in (0, 51, 99):
        data = read_record(tmp_path / "a.tfrecord", offsets[at])
        assert data == f"record {at} {'x' * (at % 50)}".encode()


def test_an_index_of_earlier_versions_is_read(tmp_path, embeddings):
    rows = np.zeros(1000, row_type(24))
    rows["embedding"], rows["offset"] = embeddings, np.arange(1000)
    np.save(tmp_path / "search.npy", rows)
    content = {"run": "/run", "model": "abc", "records": "/records", "fingerprint": "def"}
    content |= {"shards": ["a.tfrecord"], "pictures": 1000}
    described = tmp_path / "search.json"
    for first in ({}, {"first_rows": zlib.crc32(rows[:16].tobytes())}):
        described.write_text(json.dumps(content | first))
        index = open_index(tmp_path / "search.npy")
        np.testing.assert_array_equal(index.embeddings, embeddings)
        assert index.nearest(embeddings[5], 1)[0].tolist() == [5]
        assert (str(index.sources[0]), index.name(0), len(index)) == ("/records", None, 1000)
    for change, said in (
        ({"first_rows": 5}, "are not those of search.json"),
        ({"pictures": 5}, "1000 rows, 5 described"),
    ):
        described.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=said):
            open_index(tmp_path / "search.npy")
