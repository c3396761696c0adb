"""Embeddings come out in order, whole, and equal to those of one picture or text at a time."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfclip.evaluation.datasets.views import file_views, record_views
from tfclip.evaluation.embedding import embed, text_batches
from tfclip.inputs.images import resize_picture
from tfclip.inputs.tiles import tile_boxes
from tfclip.models.saving import TrainedModel
from tfclip.records.reader import read_split

SIZE = 32


def encode_one(model: TrainedModel, picture: np.ndarray) -> np.ndarray:
    return model.dual_encoder.encode_image(resize_picture(picture, SIZE)[None])[0].numpy()


def test_class_embeddings_are_the_unit_means_of_their_prompts(tiny_model):
    templates = ("a photo of a {}.", "the {}", "many {}s")
    found = embed.class_embeddings(tiny_model, ["dog", "red cat"], templates)
    for name, embedding in zip(["dog", "red cat"], found, strict=True):
        each = [
            tiny_model.dual_encoder.encode_text(**tiny_model.tokenizer([text.format(name)]))[0]
            for text in templates
        ]
        mean = np.mean(each, axis=0)
        np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean), atol=1e-6)


def test_texts_of_several_batches_keep_their_order(tiny_model, monkeypatch):
    texts = [f"{'a' * (n % 5)} cat {'b' * n}" for n in range(9)]
    whole = embed.embed_texts(tiny_model, texts)
    monkeypatch.setattr(text_batches, "TEXTS_AT_ONCE", 4)
    np.testing.assert_allclose(embed.embed_texts(tiny_model, texts), whole, atol=1e-6)
    assert embed.embed_texts(tiny_model, []).shape == (0, 16)


def test_equal_texts_are_embedded_once(tiny_model):
    texts, embedded = ["a dog", "two cats", "a dog", "a dog", "two cats"], []

    def encode(token_ids, text_mask):
        embedded.extend(token_ids.numpy().tolist())
        return tiny_model.dual_encoder.encode_text(token_ids, text_mask)

    found = text_batches.embed_by_length(encode, tiny_model.tokenizer, texts, 16)
    assert len(embedded) == 2
    for text, row in zip(texts, found, strict=True):
        expected = tiny_model.dual_encoder.encode_text(**tiny_model.tokenizer([text]))[0]
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_pictures_of_records_in_order_and_every_view_by_hand(tiny_model, voc_records):
    views = record_views(voc_records, "test", SIZE, tile_boxes("1+4"))
    rows, embeddings = embed.embed_pictures(tiny_model, views, total=40)
    assert rows.tolist() == list(range(40))
    assert embeddings.shape == (40, 5, 16)
    for row, record in enumerate(read_split(voc_records, "test").take(3).as_numpy_iterator()):
        picture = np.asarray(Image.open(io.BytesIO(record["image/encoded"])))
        height, width = picture.shape[:2]
        near_y, far_y, near_x, far_x = (
            round(share * side) for side in (height, width) for share in (0.6, 0.4)
        )
        crops = [
            picture,
            picture[:near_y, :near_x],
            picture[:near_y, far_x:],
            picture[far_y:, :near_x],
            picture[far_y:, far_x:],
        ]
        for view, crop in enumerate(crops):
            expected = encode_one(tiny_model, crop)
            np.testing.assert_allclose(embeddings[row, view], expected, atol=1e-5)


def test_files_that_do_not_decode_are_left_out_and_known_by_their_row(
    tiny_model, picture_bytes, tmp_path
):
    contents = [picture_bytes["alpha"], b"no picture", picture_bytes["turned"], b""]
    paths = [tmp_path / f"{at}" for at in range(4)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    rows, embeddings = embed.embed_pictures(tiny_model, file_views(paths, SIZE))
    assert rows.tolist() == [0, 2]
    alone = file_views(paths[2:3], SIZE)
    np.testing.assert_allclose(
        embeddings[1], embed.embed_pictures(tiny_model, alone)[1][0], atol=1e-6
    )
    with pytest.raises(ValueError, match="none of the files could be decoded"):
        embed.embed_pictures(tiny_model, file_views(paths[1:2], SIZE))


def test_a_model_is_traced_once_whatever_the_sizes(tiny_model):
    def pictures(count, tiles):
        return tf.data.Dataset.from_tensor_slices(
            np.zeros((count, tiles, SIZE, SIZE, 3), np.uint8)
        ).enumerate()

    for count, tiles in ((3, 1), (70, 1), (15, 5)):
        embed.embed_pictures(tiny_model, pictures(count, tiles))
        embed.embed_texts(tiny_model, ["a"] * count)
    for graph in embed._graphs(tiny_model.dual_encoder, "float32", False):
        assert graph.experimental_get_tracing_count() == 1
