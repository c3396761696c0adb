"""The token table: the mean of its rows, whatever their order; saved and loaded."""

import keras
import numpy as np

from tfclip.models.registry import text_tower


def test_a_text_is_the_mean_of_the_rows_of_its_tokens(tmp_path):
    tower = text_tower("token-table").build(vocabulary_size=9, context_length=4, width=3)
    assert tower.count_params() == 9 * 3
    table = np.arange(27, dtype=np.float32).reshape(9, 3) ** 2
    tower.get_layer("embeddings").tokens.assign(table)
    ids, mask = np.array([[5, 2, 7, 0], [7, 5, 2, 8]]), np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    given = {"token_ids": ids, "text_mask": mask.astype(bool)}
    expected = [np.mean([table[5], table[2], table[7]], axis=0), table[[7, 5, 2, 8]].mean(axis=0)]
    np.testing.assert_allclose(tower(given), expected)
    tower.save(tmp_path / "tower.keras")
    loaded = keras.models.load_model(tmp_path / "tower.keras")
    np.testing.assert_array_equal(loaded(given), tower(given))
