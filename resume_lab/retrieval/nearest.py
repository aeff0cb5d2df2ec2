"""The stored chunks nearest to a vector, through the tuned index where there is one.

A search takes its probes from the comment of the index and sets them in its own transaction, so it
works behind a transaction pooler and leaves no setting behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection, Engine

from resume_lab.database import EMBEDDING_DIM
from resume_lab.database.copy import vector_text
from resume_lab.database.indexes import literal
from resume_lab.errors import DataError
from resume_lab.rollout.finding import Finding, tuned_index, use
from resume_lab.vectors import validate_vectors

_SEARCH = """
SELECT chunk_id, content, source_file, document_title, distance
FROM (
    SELECT chunk_id, embedding <=> CAST(:query AS vector) AS distance
    FROM chunk_embeddings
    WHERE embedding_model = :model
    ORDER BY {order}
    LIMIT :k
) AS nearest
JOIN document_chunks USING (chunk_id)
"""
_BY_INDEX = sa.text(_SEARCH.format(order="embedding <=> CAST(:query AS vector)"))
# No index can order by a sum: every row of the model is compared.
_EXACT = sa.text(_SEARCH.format(order="(embedding <=> CAST(:query AS vector)) + 0"))


@dataclass(frozen=True)
class NearChunk:
    """A stored chunk and its cosine distance to the query, 0 to 2, lower is nearer."""

    chunk_id: int
    content: str
    source_file: str
    document_title: str | None
    distance: float

    @property
    def similarity(self) -> float:
        """Return the cosine similarity, -1 to 1, higher is nearer."""
        return 1.0 - self.distance


@dataclass(frozen=True)
class Nearest:
    """The nearest chunks, nearest first. `finding` is that of the index; None: search was exact."""

    chunks: tuple[NearChunk, ...]
    finding: Finding | None

    @property
    def how(self) -> str:
        """Say how they were found."""
        if self.finding is None:
            return "exact search: no tuned index for this model"
        found = self.finding
        return (
            f"tuned index, {found.probes} of {found.lists} lists probed "
            f"(recall@{found.k} was {found.recall:.3f})"
        )


def nearest_chunks(
    bind: Engine | Connection,
    vector: Sequence[float] | NDArray[np.floating[Any]],
    *,
    embedding_model: str,
    k: int = 5,
) -> Nearest:
    """Return the k stored chunks of one model nearest to `vector`, shape (1536,), by cosine.

    With a tuned index there may be fewer than k, and recall is that of its finding for as many
    neighbours as that names. Without one every row is compared. On a connection the search is
    undone to a savepoint, so that no setting stays in its transaction. Raises DataError for a
    vector that cannot be searched for.
    """
    query = query_text(vector)
    if k < 1:
        raise DataError(f"k is {k}; it must be at least 1.")
    with _transaction(bind) as connection:
        where = f"embedding_model = {literal(embedding_model)}"
        tuned = tuned_index(connection, ("chunk_embeddings",), "embedding", where)
        finding = tuned[1] if tuned else None
        if finding is not None:
            use(connection, finding)
        rows = connection.execute(
            _EXACT if finding is None else _BY_INDEX,
            {"query": query, "model": embedding_model, "k": k},
        )
        # Sorted here: `needs` may have forbidden the server to sort.
        chunks = sorted((NearChunk(*row) for row in rows), key=lambda c: (c.distance, c.chunk_id))
    return Nearest(tuple(chunks), finding)


@contextlib.contextmanager
def _transaction(bind: Engine | Connection) -> Iterator[Connection]:
    if isinstance(bind, Engine):
        with bind.begin() as connection:
            yield connection
        return
    savepoint = bind.begin_nested()
    try:
        yield bind
    finally:
        savepoint.rollback()


def query_text(vector: Sequence[float] | NDArray[np.floating[Any]]) -> str:
    """Return the vector as pgvector reads it; raises DataError for one it would not take."""
    try:
        array = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("The query is no vector of numbers.") from None
    if array.ndim != 1:
        raise DataError(f"The query has shape {array.shape}; permitted: ({EMBEDDING_DIM},).")
    validate_vectors(array[None], dim=EMBEDDING_DIM, what="query")
    return vector_text(array.astype(np.float32))
