"""Retrieval figures against a matrix ranked by hand and a ranking done one query at a time."""

import tracemalloc

import numpy as np
import pytest

from tfclip.evaluation.metrics.retrieval import retrieval_metrics
from tfclip.evaluation.tasks.retrieval import HITS, _hits, _report_shared

# Rows are pictures, columns captions; captions 0 and 1 belong to picture 0, 2 and 3 to 1, ...
SIMILAR = np.array(
    [
        [0.9, 0.1, 0.2, 0.3, 0.4, 0.0, 0.1, 0.2],  # own .9 .1: best is first of all      rank 1
        [0.8, 0.7, 0.3, 0.5, 0.6, 0.1, 0.2, 0.4],  # own .3 .5: after .8 .7 .6            rank 4
        [0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.5, 0.4],  # own .1 .2: after the six others      rank 7
        [0.1, 0.2, 0.6, 0.0, 0.3, 0.2, 0.6, 0.5],  # own .6 .5: ties with another's .6    rank 2
    ]
)
OWNER = np.repeat(np.arange(4), 2)
# Down each column, the place of the caption's own picture:
# 0: .9 ties with picture 2's .9, rank 2          1: .1 after .7 .8 .2, rank 4
# 2: .3 after .7 .6, rank 3                       3: .5 after .6, rank 2
# 4: .1 after .4 .6 .3, rank 4                    5: .2 ties with picture 3's .2, rank 2
# 6: .6, rank 1                                   7: .5, rank 1
IMAGE_RANKS, TEXT_RANKS = [1, 4, 7, 2], [2, 4, 3, 2, 4, 2, 1, 1]


def figures_of(image_ranks, text_ranks):
    def summary(ranks):
        shares = {f"r{k}": np.mean([rank <= k for rank in ranks]) for k in (1, 5, 10)}
        return {**shares, "median_rank": np.median(ranks)}

    return {
        "image_to_text": summary(image_ranks),
        "text_to_image": summary(text_ranks),
        "images": len(image_ranks),
        "captions": len(text_ranks),
    }


def ranked_one_by_one(images, texts, owner):
    """Places in sorted lists, the right answer last among equals."""
    similar = images.astype(np.float64) @ texts.astype(np.float64).T
    image_ranks, text_ranks = [], []
    for image, row in enumerate(similar):
        order = sorted(range(len(texts)), key=lambda text: (-row[text], owner[text] == image))
        image_ranks.append(1 + [owner[text] for text in order].index(image))
    for text, column in enumerate(similar.T):
        order = sorted(range(len(images)), key=lambda i: (-column[i], owner[text] == i))
        text_ranks.append(1 + order.index(owner[text]))
    return image_ranks, text_ranks


@pytest.mark.parametrize("chunk", [1, 2, 3, 1024])
def test_a_matrix_ranked_by_hand(chunk):
    # With unit vectors as pictures, the similarities are the captions' coordinates.
    ours = retrieval_metrics(np.eye(4), SIMILAR.T, OWNER, chunk=chunk)
    assert ours == figures_of(IMAGE_RANKS, TEXT_RANKS)
    assert ours["image_to_text"] == {"r1": 0.25, "r5": 0.75, "r10": 1.0, "median_rank": 3.0}
    assert ours["text_to_image"] == {"r1": 0.25, "r5": 1.0, "r10": 1.0, "median_rank": 2.0}


@pytest.mark.parametrize("seed", range(4))
def test_ranking_one_query_at_a_time_gives_the_same(seed):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(23), rng.integers(1, 7, 23))
    rng.shuffle(owner)
    # Few different coordinates: many ties, exact in any order of summing.
    images, texts = (
        rng.integers(-2, 3, (count, 6)).astype(np.float32) / 4 for count in (23, len(owner))
    )
    expected = figures_of(*ranked_one_by_one(images, texts, owner))
    for chunk in (1, 7, 23, 1000):
        assert retrieval_metrics(images, texts, owner, chunk=chunk) == expected


def test_real_numbers_do_not_depend_on_the_chunk():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(60), 5)
    images = rng.normal(size=(60, 48)).astype(np.float32)
    texts = images[owner] + 3 * rng.normal(size=(300, 48)).astype(np.float32)
    images, texts = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (images, texts))
    expected = figures_of(*ranked_one_by_one(images, texts, owner))
    assert 0 < expected["text_to_image"]["r1"] < expected["text_to_image"]["r10"] < 1
    for chunk in (13, 64, 1024):
        assert retrieval_metrics(images, texts, owner, chunk=chunk) == expected


def ranked_with_shared_texts(images, texts, owner, text_id):
    """One query at a time: a text is right for all pictures that have it, and counts once."""
    similar = images.astype(np.float64) @ texts.astype(np.float64).T
    texts_of = [
        {text_id[c] for c in range(len(texts)) if owner[c] == i} for i in range(len(images))
    ]
    image_ranks, text_ranks = [], []
    for image in range(len(images)):
        if not texts_of[image]:
            continue
        best = max(similar[image, c] for c in range(len(texts)) if owner[c] == image)
        others = set(text_id) - texts_of[image]
        nearest = [max(similar[image, np.equal(text_id, one)]) for one in others]
        image_ranks.append(1 + sum(one >= best - 1e-12 for one in nearest))
    for text in range(len(texts)):
        right = [text_id[text] in texts_of[image] for image in range(len(images))]
        best = max(similar[right, text])
        wrong = similar[np.logical_not(right), text]
        text_ranks.append(1 + sum(one >= best - 1e-12 for one in wrong))
    return image_ranks, text_ranks


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("different", [3, 20, 1])
def test_captions_of_many_pictures_are_right_for_all_of_them(seed, different):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(23), rng.integers(0, 5, 23))
    text_id = rng.integers(0, different, len(owner)) * 1000 - 5
    # Captions of one id are alike or nearly: "A dog." and "a dog".
    images = rng.integers(-2, 3, (23, 6)).astype(np.float32) / 4
    texts = rng.integers(-2, 3, (different, 6))[(text_id + 5) // 1000].astype(np.float32) / 4
    texts[::5] += 0.25
    image_ranks, text_ranks = ranked_with_shared_texts(images, texts, owner, text_id)
    for chunk in (1, 4, 7, 1000):
        ours = retrieval_metrics(images, texts, owner, text_id, chunk=chunk)
        expected = figures_of(image_ranks, text_ranks) | {"images": 23}
        assert ours["image_to_text"] == expected["image_to_text"]
        # Means of the same ranks in another order.
        assert ours["text_to_image"] == pytest.approx(expected["text_to_image"])
    if different == 1:
        assert image_ranks == [1] * len(image_ranks)


def test_class_captions_are_found_where_their_class_is():
    # 40 pictures of 4 classes, each at its class: everything is right, whichever picture comes.
    classes = np.repeat(np.arange(4), 10)
    ours = retrieval_metrics(np.eye(4)[classes], np.eye(4)[classes], np.arange(40), classes)
    assert ours == figures_of([1] * 40, [1] * 40)
    alone = retrieval_metrics(np.eye(4)[classes], np.eye(4)[classes], np.arange(40))
    assert alone["text_to_image"]["r5"] == 0


def test_ids_of_another_number_are_refused():
    with pytest.raises(ValueError, match="received text ids"):
        retrieval_metrics(np.eye(2), np.eye(2), np.arange(2), np.arange(3))


def test_equal_embeddings_find_nothing():
    # A length that matrix products sum in blocks, where rounding differs from place to place.
    one = np.random.default_rng(1).normal(size=(1, 301)).astype(np.float32)
    one /= np.linalg.norm(one)
    owner = np.repeat(np.arange(30), 5)
    ours = retrieval_metrics(np.tile(one, (30, 1)), np.tile(one, (150, 1)), owner)
    assert ours == figures_of([146] * 30, [30] * 150)


def test_a_picture_without_captions_asks_nothing_but_can_be_found():
    images, texts = np.eye(3), np.array([[0.5, 0.9, 0.0], [0.0, 0.1, 0.8]])
    ours = retrieval_metrics(images, texts, np.array([0, 2]))
    assert ours == figures_of([1, 1], [2, 1]) | {"images": 3}


def test_one_picture_with_one_caption():
    ours = retrieval_metrics([[1.0]], [[-1.0]], [0])
    assert ours == figures_of([1], [1])


def test_memory_is_bounded_by_the_chunk():
    rng = np.random.default_rng(2)
    images, texts = (rng.normal(size=(count, 4)).astype(np.float32) for count in (3000, 9000))
    owner = np.repeat(np.arange(3000), 3)
    tracemalloc.start()
    retrieval_metrics(images, texts, owner, chunk=128)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 3000 x 128 similarities would take 3 MB, all of them 216 MB.
    assert peak < 2e6


@pytest.mark.parametrize(
    ("images", "texts", "owner", "message"),
    [
        (np.eye(2), np.zeros((0, 2)), [], "received 2 pictures and 0 captions; need both"),
        (np.eye(2), np.eye(3), [0, 1, 1], "allowed: \\(N,D\\), \\(M,D\\), \\(M,\\)"),
        (np.eye(2), np.eye(2), [0], "owners \\(1,\\)"),
        (np.eye(2), np.eye(2), [0, 2], "an owner outside 0..1"),
        (np.eye(2), np.eye(2), [-1, 0], "an owner outside 0..1"),
        (np.eye(2), np.full((2, 2), np.nan), [0, 1], "must be finite"),
    ],
)
def test_what_cannot_be_ranked_is_refused(images, texts, owner, message):
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(images, texts, np.array(owner, int))


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ValueError, match="received chunk 0; allowed: 1 or more"):
        retrieval_metrics(np.eye(2), np.eye(2), np.arange(2), chunk=0)


def test_a_caption_whose_picture_is_missed_shows_it_with_its_rank():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(30, 8)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    order = np.argsort(-(images @ images[0]))
    for place in (0, HITS - 1, HITS, 29):
        hits = _hits(images, images[0], order[place], "a caption")
        assert [hit["row"] for hit in hits[:HITS]] == order[:HITS].tolist()
        (right,) = [hit for hit in hits if hit["right"]]
        assert right["row"] == order[place]
        assert right.get("rank") == (place + 1 if place >= HITS else None)
        assert len(hits) == HITS + (place >= HITS)


def test_shared_captions_are_reported_once_for_each_split(capsys):
    for records in ("a:val", "a:val", "b:val"):
        _report_shared(2, 1656, records)
    _report_shared(0, 10, "c:val")
    assert capsys.readouterr().err.count("2 of 1,656 captions belong to several pictures") == 2
