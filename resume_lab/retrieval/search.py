"""Stored chunks that answer a question: by vector, or by vector and words together."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Connection, Engine

from resume_lab.config import Settings
from resume_lab.database import EMBEDDING_DIM
from resume_lab.database.copy import vector_text
from resume_lab.database.interrupt import interruptible
from resume_lab.database.session import lent_engine
from resume_lab.embedding import Embedder, embed, make_embedder
from resume_lab.errors import DataError
from resume_lab.given import is_text
from resume_lab.printable import printable
from resume_lab.retrieval.connection import borrowed
from resume_lab.retrieval.filters import nothing_matches
from resume_lab.retrieval.hit import Hit, SearchResult
from resume_lab.retrieval.route import explain as explain_route
from resume_lab.retrieval.route import find_route
from resume_lab.retrieval.statements import By, Query
from resume_lab.vectors import validate_vectors

MAX_QUESTION_CHARS = 20_000
MAX_K = 1_000
_SHOWN_MODELS = 10
_TAKE_ONE = "Take one vector, as the model that embedded the chunks makes it."
_DISTANCE = 7
"""Which column of a row is its distance; NaN, of a vector of zeros, comes last."""


def search(
    question: str,
    *,
    engine: Engine | None = None,
    k: int = 5,
    category: str | None = None,
    tags: Sequence[str] | None = None,
    model: str | None = None,
    source: str | None = None,
    by: By | str = By.VECTORS,
    explain: bool = False,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
) -> SearchResult:
    """Return the k chunks nearest to a question among those that one model embedded.

    The model is that of `embedder`, else `model`, else that of the settings. Only chunks of
    `category`, with all of `tags`, from `source` (the name of an ingested folder, or a folder below
    it) are looked at. `by` is "vectors", "words", or "hybrid", which fuses the ranks of both; the
    score is the cosine similarity in any case. `explain` says how the rows were found.

    Raises DataError for a question or option that cannot be used, or where the model embedded no
    chunk; SchemaError without the tables; ServiceError where a server of models fails.
    """
    check_question(question)
    _check_options(model, k, category, tags, source)
    by = _by(by)
    embedder = embedder or make_embedder(model, settings)
    with lent_engine(engine, settings) as engine:
        _check_embedded(engine, embedder.model)
        (vector,) = embed(embedder, [question])
        found = search_vector(
            engine,
            vector,
            model=embedder.model,
            question=question,
            k=k,
            category=category,
            tags=tags,
            source=source,
            by=by,
            explain=explain,
        )
        if found.hits or not (category or tags or source):
            return found
        by_tags = bool(tags)
        note = nothing_matches(engine, by_category=category is not None, by_tags=by_tags)
        return replace(found, note=note)


def search_vector(
    bind: Engine | Connection,
    vector: Sequence[float] | NDArray[np.floating[Any]],
    *,
    model: str,
    question: str = "",
    k: int = 5,
    category: str | None = None,
    tags: Sequence[str] | None = None,
    source: str | None = None,
    by: By | str = By.VECTORS,
    explain: bool = False,
) -> SearchResult:
    """Return the k chunks of `model` nearest to `vector`, shape (1536,), as `search` does.

    Takes the tuned index with the probes of its finding, or compares all rows where there is none
    or a filter leaves few. k rows come back wherever k exist. No setting stays behind, and work
    under way on a connection is left as it is. Words are those of `question`.
    """
    _check_options(model, k, category, tags, source)
    by = _by(by)
    if by is not By.VECTORS:
        check_question(question)
    query = Query(
        query_text(vector),
        model,
        question,
        _whole(k),
        category,
        tuple(tags or ()),
        source and source.rstrip("/"),
        by,
    )
    with borrowed(bind) as raw, raw.cursor() as cursor:
        route = find_route(cursor, query)
        statements = route.statements(query)
        if by is By.VECTORS:
            cursor.execute(statements, query.parameters)
        else:  # many common words take seconds
            interruptible(raw, lambda: cursor.execute(statements, query.parameters))
        rows = cursor.fetchall()
        said = explain_route(cursor, query, route) if explain else None
    if by is By.VECTORS:  # relaxed order is not sorted, and `needs` may forbid the server to sort
        rows.sort(key=lambda row: (math.isnan(row[_DISTANCE]), row[_DISTANCE], row[0]))
    hits = [_hit(row) for row in rows]
    if by is not By.VECTORS and said is not None:
        said = _worded(said, hits, by)
    return SearchResult(question, model, tuple(hits), said)


def query_text(vector: Sequence[float] | NDArray[np.floating[Any]]) -> str:
    """Return the vector as pgvector reads it; raises DataError for one it would not take."""
    try:
        array = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError("The query is no vector of numbers.", hint=_TAKE_ONE) from None
    if array.ndim != 1:
        raise DataError(
            f"The query has shape {array.shape}; permitted: ({EMBEDDING_DIM},).", hint=_TAKE_ONE
        )
    validate_vectors(array[None], dim=EMBEDDING_DIM, what="query")
    return vector_text(array.astype(np.float32))


def check_question(question: str) -> None:
    """Raise DataError for a question that cannot be searched for."""
    _check_text(question, "The question")
    if not question.strip():
        raise DataError("The question is blank.", hint="Ask something, in a few words or more.")
    if len(question) > MAX_QUESTION_CHARS:
        raise DataError(
            f"The question has {len(question):,} characters; permitted: {MAX_QUESTION_CHARS:,}.",
            hint="Ask about one thing; a whole document is no question.",
        )


def _by(value: By | str) -> By:
    try:
        return By(value)
    except ValueError:
        raise DataError(
            f"A search goes by {value!r}; permitted: {', '.join(By)}.", hint="Correct by."
        ) from None


def _check_options(
    model: str | None,
    k: int,
    category: str | None,
    tags: Sequence[str] | None,
    source: str | None,
) -> None:
    if not 1 <= _whole(k) <= MAX_K:
        raise DataError(
            f"k is {k!r}; permitted: 1 to {MAX_K:,}.", hint="k is how many chunks to return."
        )
    if isinstance(tags, str) or not isinstance(tags, Iterable | None):
        raise DataError(f"tags is {tags!r}.", hint=f"Give a list: tags=[{tags!r}].")
    names = (
        ("model", model),
        ("category", category),
        ("source", source),
        *(("tag", tag) for tag in tags or ()),
    )
    for what, name in names:
        if name is not None:
            _check_name(name, what)


def _whole(k: SupportsIndex) -> int:
    try:
        return operator.index(k)
    except TypeError:
        raise DataError(f"k is {k!r}; it must be a whole number.", hint="Such as k=5.") from None


def _check_name(name: str, what: str) -> None:
    _check_text(name, f"The {what}")
    if not name.strip():
        raise DataError(f"The {what} is blank.", hint=f"Name one, or leave the {what} out.")


def _check_text(text: Any, what: str) -> None:
    """Refuse what is no text, or none that PostgreSQL can take."""
    if not isinstance(text, str):
        raise DataError(f"{what} is {text!r}; it must be a text.", hint="Put it in quotes.")
    if not is_text(text):
        raise DataError(
            f"{what} holds a character that is no text.",
            hint="Type it anew instead of pasting it.",
        )


def _check_embedded(engine: Engine, model: str) -> None:
    with borrowed(engine) as raw, raw.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM chunk_embeddings WHERE embedding_model = %s)", [model]
        )
        if cursor.fetchone() == (True,):
            return
        cursor.execute(
            "SELECT embedding_model, count(*) FROM chunk_embeddings GROUP BY 1 ORDER BY 1"
        )
        stored = [f"{printable(name)} ({count:,})" for name, count in cursor.fetchall()]
        cursor.execute("SELECT row_security_active('chunk_embeddings')")
        is_secured = cursor.fetchone() == (True,)
    if not stored and is_secured:
        raise DataError(
            "No chunk is stored, or none that this role may read.",
            hint="An administrator lets it read a source: `resume-lab roles --let ROLE --read "
            "NAME`, and GRANT resume_lab_reader TO ROLE;",
        )
    if not stored:
        raise DataError("No chunk is stored yet.", hint="Run `resume-lab ingest FOLDER` first.")
    more = ", ..." if len(stored) > _SHOWN_MODELS else ""
    raise DataError(
        f"No chunk is embedded by {model}. Models and how many chunks they embedded: "
        f"{', '.join(stored[:_SHOWN_MODELS])}{more}.",
        hint="Name one of these, or run `resume-lab ingest FOLDER` with this model.",
    )


def _hit(row: tuple[Any, ...]) -> Hit:
    (chunk_id, content, source_file, category, title, index, stored, distance, *ranks) = row
    metadata = dict(stored) if isinstance(stored, dict) else {}
    own = metadata.pop("resume_lab", None)
    headings = own.get("headings") if isinstance(own, dict) else None
    return Hit(
        chunk_id,
        content,
        source_file,
        category,
        title,
        headings if isinstance(headings, str) else "",
        index,
        metadata,
        0.0 if math.isnan(distance) else 1.0 - distance,  # zeros have no direction
        *ranks,
    )


def _worded(said: str, hits: Sequence[Hit], by: By) -> str:
    """Add what the words did."""
    worded = sum(hit.word_rank is not None for hit in hits)
    if by is By.WORDS:
        return f"Full-text search: hits that share words with the question: {worded}."
    return (
        f"{said} "
        "Fused with full-text search by reciprocal rank: "
        f"{worded} of the {len(hits)} hits share words with the question."
    )
