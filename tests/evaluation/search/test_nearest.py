"""Nearest neighbours against brute force, over rows and over pictures of several views."""

import numpy as np
import pytest

from tfclip.evaluation.search.nearest import nearest_pictures, nearest_rows


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


@pytest.mark.parametrize("views", [1, 4, 5])
def test_a_picture_is_as_near_as_its_nearest_view(embeddings, views):
    query = embeddings[42] + 0.1
    pictures, cosines, nearest_views = nearest_pictures(embeddings, views, query, 7, 64)
    similar = (embeddings.astype(float) @ query.astype(float)).reshape(-1, views)
    expected = np.argsort(-similar.max(axis=1), kind="stable")[:7]
    assert pictures.tolist() == expected.tolist()
    np.testing.assert_allclose(cosines, similar.max(axis=1)[expected], atol=1e-9)
    assert nearest_views.tolist() == similar.argmax(axis=1)[expected].tolist()
