"""The grid of retrievals from stored outputs of the towers is that of the towers."""

import numpy as np

from tfclip.evaluation.embedding.features.feature_cache import (
    Storage,
    image_features,
    text_features,
)
from tfclip.training.callbacks.retrieval_grid import RetrievalGrid, embed_stored


def test_stored_outputs_give_the_embeddings_and_the_picture_of_the_towers(
    tiny_model, training_records, tmp_path
):
    where = Storage(cache=tmp_path)
    stored = (
        image_features(tiny_model, training_records, "val", "1", where),
        text_features(tiny_model, training_records, "val", where),
    )
    functions = embed_stored(tiny_model, *stored)
    towers = RetrievalGrid(tiny_model, training_records, "val")
    heads = RetrievalGrid(tiny_model, training_records, "val", **functions)
    count = len(towers._pictures)
    np.testing.assert_allclose(
        functions["embed_images"](count), towers._run_image_tower(count), atol=1e-6
    )
    places = [place for place, _ in towers._queries]
    np.testing.assert_allclose(
        functions["embed_texts"](places), towers._run_text_tower(places), atol=1e-6
    )
    assert heads.png() == towers.png()
    assert embed_stored(tiny_model, None, None) == {}
