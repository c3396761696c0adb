"""Scores of captions, against one picture and one text at a time."""

import numpy as np

from tfclip.evaluation.embedding.features.feature_cache import Storage
from tfclip.evaluation.tasks import caption_cosines as module
from tfclip.evaluation.tasks.caption_cosines import caption_cosines
from tfclip.inputs.images import decode_record_jpeg, picture_views
from tfclip.inputs.tiles import tile_boxes
from tfclip.records import schema
from tfclip.records.reader import read_split
from tfclip.training.data import stored_cosines as stored_module
from tfclip.training.data.stored_cosines import stored_cosines


def test_each_caption_is_compared_with_its_picture(tiny_model, flickr8k_records, monkeypatch):
    monkeypatch.setattr(module, "CAPTIONS_AT_ONCE", 7)
    counts, scores = caption_cosines(tiny_model, flickr8k_records, "dev")
    model, expected, agreements, listed = tiny_model.dual_encoder, [], [], []
    for record in read_split(flickr8k_records, "dev").as_numpy_iterator():
        view = picture_views(decode_record_jpeg(record[schema.IMAGE]), tile_boxes("1"), 32)
        image = model.encode_image(view)[0].numpy()
        listed.append(len(record[schema.CAPTION]))
        texts = [
            model.encode_text(**tiny_model.tokenizer([caption]))[0].numpy()
            for caption in record[schema.CAPTION]
        ]
        expected += [image @ text for text in texts]
        agreements += [
            np.mean([text @ other for o, other in enumerate(texts) if o != at])
            for at, text in enumerate(texts)
        ]
    assert counts.tolist() == listed and len(expected) > 14
    np.testing.assert_allclose(scores.cosines, expected, atol=1e-5)
    np.testing.assert_allclose(scores.agreements, agreements, atol=1e-5)


def test_stored_features_give_the_same(
    tiny_model, flickr8k_records, training_records, tmp_path, monkeypatch
):
    # Several parts, none of which ends within the captions of a picture.
    monkeypatch.setattr(stored_module, "ROWS_AT_ONCE", 7)
    # The second set has phrases too, which are texts of a record and no captions.
    for records, split in ((flickr8k_records, "dev"), (training_records, "train")):
        counts, scores = caption_cosines(tiny_model, records, split)
        where = Storage("float32", tmp_path)
        stored = stored_cosines(tiny_model, records, split, "1", where)
        assert stored[0].tolist() == counts.tolist()
        np.testing.assert_allclose(stored[1].cosines, scores.cosines, atol=1e-5)
        np.testing.assert_allclose(stored[1].agreements, scores.agreements, atol=1e-5)
