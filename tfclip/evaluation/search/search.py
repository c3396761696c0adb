"""Answers queries with the nearest pictures of an index, and draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfclip.evaluation.embedding.embed import embed_encoded, embed_texts
from tfclip.evaluation.search.index import SearchIndex
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
    """The hits of a query, the nearest first."""

    query: Query
    hits: tuple[Hit, ...]


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
    whole = tile_boxes("1")
    for group, embeddings, valid in embed_encoded(model, contents, lambda one: one[1], whole):
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
) -> list[Answer]:
    """Return the pictures nearest to each query.

    Raises:
        ValueError: the records changed since indexing, a text is too long, or a file is no picture.
        OSError: a collection is not there.
    """
    index.check_sources()
    terms = list(dict.fromkeys(term for query in queries for term in query.terms))
    embedded = dict(zip(terms, embed_terms(model, terms), strict=True))
    sample = None
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
        answers.append(Answer(query, tuple(hits)))
    return answers


def draw_answers(index: SearchIndex, answers: Sequence[Answer], out: Path) -> int:
    """Draw a contact sheet: each query, and its hits, the nearest first; return their number.

    The part of the picture that was found is framed, where the index has parts.
    """
    boxes = tile_boxes(index.tiles)
    sections = []
    for one in answers:
        records = [_record(hit, boxes[hit.view]) for hit in one.hits]
        headings = tuple(f"{hit.score:.3f}" for hit in one.hits)
        sections.append(Section(str(one.query), tuple(records), headings))
    return draw_sections(sections, out)


def _record(hit: Hit, box: np.ndarray) -> dict:
    """Return a hit as the contact sheet draws it."""
    picture = hit.picture
    y0, x0, y1, x1 = box.tolist()
    framed = [] if hit.view == 0 else [x0, y0, x1, y1]
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
