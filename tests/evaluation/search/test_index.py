"""The search index: rows against brute force, records by their place, and what is refused."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfclip.evaluation.search.index import (
    nearest_rows,
    open_index,
    read_record,
    record_offsets,
    write_index,
)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture
def embeddings():
    rows = unit(np.random.default_rng(0).normal(size=(1000, 24))).astype(np.float32)
    rows[700] = rows[3]  # a tie
    return rows


@pytest.mark.parametrize("chunk", [1, 7, 999, 1000, 5000])
def test_the_nearest_are_those_of_the_whole_matrix(embeddings, chunk):
    for row in (3, 700, 11):
        query = embeddings[row]
        rows, cosines = nearest_rows(embeddings, query, 10, chunk)
        similar = np.array([np.dot(one.astype(float), query.astype(float)) for one in embeddings])
        expected = sorted(range(1000), key=lambda at: (-round(similar[at], 12), at))[:10]
        assert rows.tolist() == expected
        np.testing.assert_allclose(cosines, similar[expected], atol=1e-12)
    assert nearest_rows(embeddings, embeddings[700], 2, chunk)[0].tolist() == [3, 700]


def test_few_rows_and_wrong_questions(embeddings):
    assert len(nearest_rows(embeddings[:3], embeddings[0], 10)[0]) == 3
    for query, top in ((np.zeros(5), 1), (np.full(24, np.nan), 1), (embeddings[0], 0)):
        with pytest.raises(ValueError, match="received"):
            nearest_rows(embeddings, query, top)


def made(tmp_path, embeddings, batches):
    records, at = tmp_path / "records", 0
    records.mkdir(exist_ok=True)
    for shard, count in (("a.tfrecord", 400), ("b.tfrecord", 600)):
        with tf.io.TFRecordWriter(str(records / shard)) as writer:
            for _ in range(count):
                writer.write(f"record {at} {'x' * (at % 50)}".encode())
                at += 1
    write_index(
        tmp_path / "index.npy",
        batches,
        24,
        1000,
        run=tmp_path / "run",
        model="abc",
        records=records,
        fingerprint="def",
        shards=("a.tfrecord", "b.tfrecord"),
    )
    return open_index(tmp_path / "index.npy")


def test_an_index_is_one_mapped_file_that_knows_where_each_record_lies(tmp_path, embeddings):
    index = made(tmp_path, embeddings, np.array_split(embeddings, 7))
    assert isinstance(index.rows, np.memmap)
    np.testing.assert_array_equal(index.rows["embedding"], embeddings)
    for row in (0, 399, 400, 999):
        place = index.rows[row]
        data = read_record(index.records / index.shards[place["shard"]], int(place["offset"]))
        assert data == f"record {row} {'x' * (row % 50)}".encode()
    assert sum(1 for _ in record_offsets(tmp_path / "records" / "b.tfrecord")) == 600
    assert (index.model, index.fingerprint) == ("abc", "def")


def test_too_many_or_too_few_embeddings_leave_no_index(tmp_path, embeddings):
    for batches in ([embeddings, embeddings[:1]], [embeddings[:-1]]):
        with pytest.raises(ValueError, match="pictures"):
            made(tmp_path, embeddings, batches)
        assert [path.name for path in tmp_path.iterdir()] == ["records"]


def test_what_is_no_index_is_refused(tmp_path, embeddings):
    with pytest.raises(FileNotFoundError, match="make one with: python -m tfclip.search index"):
        open_index(tmp_path / "index.npy")
    made(tmp_path, embeddings, [embeddings])
    kept = (tmp_path / "index.npy").read_bytes()
    described = json.loads((tmp_path / "index.json").read_text())
    for damage in (kept[:500], b"no index"):
        (tmp_path / "index.npy").write_bytes(damage)
        with pytest.raises(ValueError, match="is no search index"):
            open_index(tmp_path / "index.npy")
    (tmp_path / "index.npy").write_bytes(kept)
    (tmp_path / "index.json").write_text(json.dumps(described | {"pictures": 5}))
    with pytest.raises(ValueError, match="1000 rows, 5 described"):
        open_index(tmp_path / "index.npy")
