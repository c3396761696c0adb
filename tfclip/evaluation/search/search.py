"""Answers queries with the nearest pictures of an index, and draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfclip.evaluation.embedding.embed import embed_encoded, embed_texts
from tfclip.evaluation.search.cut_off import learnt_cut_off
from tfclip.evaluation.search.index import SearchIndex
from tfclip.evaluation.search.near_duplicates import COPIED, altered, limit_of
from tfclip.evaluation.search.nearest import CHUNK
from tfclip.evaluation.search.picture_bytes import decodable
from tfclip.evaluation.search.pictures import IndexedPicture, read_picture
from tfclip.evaluation.search.queries import Query, combine, is_picture, sample_rows
from tfclip.inputs.text import check_lengths
from tfclip.inputs.tiles import tile_boxes
from tfclip.models.saving import TrainedModel
from tfclip.records import schema
from tfclip.records.check import BadPicture
from tfclip.records.contact_sheet import Section, draw_sections


@dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Attributes:
        row: its number in the index.
        score: the cosine with the query; with several terms the sum of their standard scores.
        cosines: the cosine with each term.
        view: the view that is nearest; 0 is the whole picture.
        picture: what is known of it.
    """

    row: int
    score: float
    cosines: tuple[float, ...]
    view: int
    picture: IndexedPicture


@dataclass(frozen=True)
class Answer:
    """The answer to a query.

    Attributes:
        query: the query.
        hits: the pictures, the nearest first.
        cut_off: the cosine below which nothing looks like a text; None for pictures, and for
            several terms.
    """

    query: Query
    hits: tuple[Hit, ...]
    cut_off: float | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether no picture looks like the text."""
        return self.cut_off is not None and self.hits[0].score < self.cut_off


def embed_terms(model: TrainedModel, terms: Sequence[str]) -> np.ndarray:
    """Embed texts and picture files: (M,D) float32 of unit norm.

    Raises:
        ValueError: a text is too long, or a file is no picture.
    """
    texts = [term for term in terms if not is_picture(term)]
    files = [term for term in terms if is_picture(term)]
    check_lengths(texts, model.tokenizer)
    embedded = dict(zip(texts, embed_texts(model, texts), strict=True)) if texts else {}
    contents = [(term, _content(term)) for term in files]
    for group, embeddings, valid in embed_encoded(model, contents, lambda one: one[1]):
        for (term, _), embedding, is_valid in zip(group, embeddings, valid, strict=True):
            if not is_valid:
                raise ValueError(f"{term} is no picture that decodes")
            embedded[term] = embedding[0]
    return np.stack([embedded[term] for term in terms])


def _content(term: str) -> bytes:
    try:
        return decodable(Path(term).read_bytes())
    except BadPicture as error:
        raise ValueError(f"{term} {error}") from None


def answer(
    index: SearchIndex,
    model: TrainedModel,
    queries: Sequence[Query],
    *,
    top: int,
    chunk: int = CHUNK,
    cut_off: float | None = None,
) -> list[Answer]:
    """Return the pictures nearest to each query.

    Args:
        index: an opened index.
        model: its model.
        queries: the queries.
        top: the number of pictures.
        chunk: rows of the index in memory at a time.
        cut_off: the cosine below which nothing looks like a text; None learns it from the index.

    Raises:
        ValueError: the records changed since indexing, a text is too long, or a file is no picture.
        OSError: a collection is not there.
    """
    index.check_sources()
    terms = list(dict.fromkeys(term for query in queries for term in query.terms))
    embedded = dict(zip(terms, embed_terms(model, terms), strict=True))
    sample = None
    if cut_off is None and any(map(_has_cut_off, queries)):
        cut_off = learnt_cut_off(index)
    answers = []
    for query in queries:
        vectors = np.stack([embedded[term] for term in query.terms]).astype(np.float64)
        if len(vectors) == 1:
            vector, offset = vectors[0], 0.0
        else:
            if sample is None:
                sample = sample_rows(index.embeddings)
            vector, offset = combine(vectors, query.weights, sample)
        rows, scores, views = index.nearest(vector, top, chunk)
        hits = []
        for row, score, view in zip(rows.tolist(), scores.tolist(), views.tolist(), strict=True):
            own = index.view_embeddings(np.array([row]))[0, view].astype(np.float64)
            cosines = tuple((vectors @ own).tolist())
            picture = read_picture(index, row)
            hits.append(Hit(row, score - offset, cosines, view, picture))
        answers.append(Answer(query, tuple(hits), cut_off if _has_cut_off(query) else None))
    return answers


def _has_cut_off(query: Query) -> bool:
    return len(query.terms) == 1 and not is_picture(query.first)


def copies_limit(index: SearchIndex, model: TrainedModel) -> float:
    """Return the cosine that nearly all copies of pictures of the index have with their original.

    Raises:
        ValueError: no picture of the index can be read.
    """
    rows = np.unique(np.linspace(0, len(index) - 1, COPIED).astype(int)).tolist()
    copies = [
        (row, copy)
        for row in rows
        if (jpeg := read_picture(index, row).jpeg) is not None
        for copy in altered(jpeg)
    ]
    cosines = []
    for group, embeddings, _ in embed_encoded(model, copies, lambda one: one[1]):
        own = index.view_embeddings(np.array([row for row, _ in group]))[:, 0]
        cosines += np.sum(own * embeddings[:, 0], axis=1).tolist()
    if not cosines:
        raise ValueError(f"no picture of {index.collection} can be read; {index.moved()}")
    return limit_of(np.array(cosines))


def draw_groups(index: SearchIndex, groups: Sequence[Sequence[int]], out: Path) -> int:
    """Draw a contact sheet of groups of pictures; return the number of pictures."""
    sections = []
    for number, group in enumerate(groups, start=1):
        pictures = [read_picture(index, row) for row in group]
        records = [_record(picture, 0, np.zeros(4)) for picture in pictures]
        sections.append(Section(f"group {number}: {len(group)} pictures", tuple(records)))
    return draw_sections(sections, out)


def draw_answers(index: SearchIndex, answers: Sequence[Answer], out: Path) -> int:
    """Draw a contact sheet: each query, and its hits, the nearest first; return their number.

    The part of the picture that was found is framed, where the index has parts.
    """
    boxes = tile_boxes(index.tiles)
    sections = []
    for one in answers:
        records = [_record(hit.picture, hit.view, boxes[hit.view]) for hit in one.hits]
        headings = tuple(f"{hit.score:.3f}" for hit in one.hits)
        title = f"{one.query} (nothing here looks like this)" if one.is_nothing else str(one.query)
        sections.append(Section(title, tuple(records), headings))
    return draw_sections(sections, out)


def _record(picture: IndexedPicture, view: int, box: np.ndarray) -> dict:
    """Return a picture as the contact sheet draws it, with a frame around a part."""
    y0, x0, y1, x1 = box.tolist()
    framed = [] if view == 0 else [x0, y0, x1, y1]
    return {
        schema.IMAGE: picture.jpeg or b"",
        schema.KEY: picture.key.encode(),
        **{name: framed[at : at + 1] for at, name in enumerate(schema.BOX)},
        schema.PHRASE: [b""] * bool(framed),
        schema.LABEL: [label.encode() for label in picture.labels],
        schema.DIFFICULT: [],
        schema.CAPTION: [
            *(caption.encode() for caption in picture.captions),
            *([picture.problem.encode()] if picture.problem else []),
        ],
    }
