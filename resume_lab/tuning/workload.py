"""The vectors under test, the queries held out of them, and the exact answers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from psycopg2 import sql
from sqlalchemy.engine import Engine

from resume_lab.database import copy
from resume_lab.database.indexes import MAX_INDEXED_DIM, raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.models import EMBEDDING_DIM, ChunkEmbedding
from resume_lab.errors import DataError
from resume_lab.tuning.results import WorkloadInfo
from resume_lab.vectors import (
    Kind,
    Metric,
    Neighbours,
    exact_neighbours,
    generate,
    load_vectors,
    validate_vectors,
)

DEFAULT_QUERIES = 200
DEFAULT_K = 10
MAX_HELD_OUT_SHARE = 0.2
"""Of a given set of vectors, at most this share becomes queries."""


@dataclass(frozen=True, eq=False)
class Workload:
    """Rows to index, shape (n_rows, dim), and held-out queries, shape (n_queries, dim).

    `truth` holds the exact k nearest rows of each query, found in `exact_s` seconds. Stored rows
    name their `embedding_model`, and whether the table holds other models too.
    """

    vectors: NDArray[np.float32] = field(repr=False)
    queries: NDArray[np.float32] = field(repr=False)
    truth: Neighbours = field(repr=False)
    k: int
    metric: Metric
    source: str
    exact_s: float
    embedding_model: str | None = None
    shares_table: bool = False

    @property
    def info(self) -> WorkloadInfo:
        """Return what a table or figure says of the data."""
        rows, dim = self.vectors.shape
        return WorkloadInfo(rows, dim, len(self.queries), self.k, self.metric.value, self.source)

    @cached_property
    def query_texts(self) -> list[str]:
        """Return the queries as pgvector reads them; nine digits carry a float32 whole."""
        return ["[" + ",".join(f"{x:.9g}" for x in query) + "]" for query in self.queries.tolist()]

    @classmethod
    def of(
        cls,
        vectors: NDArray[np.float32],
        queries: NDArray[np.float32],
        *,
        k: int = DEFAULT_K,
        metric: Metric | str = Metric.COSINE,
        source: str = "given vectors",
        embedding_model: str | None = None,
    ) -> Workload:
        """Find the exact answers; raises DataError for vectors that pgvector cannot index."""
        metric = Metric(metric)
        if vectors.ndim == 2 and vectors.shape[1] > MAX_INDEXED_DIM:
            raise DataError(
                f"The vectors have {vectors.shape[1]} dimensions; "
                f"pgvector indexes at most {MAX_INDEXED_DIM} of type vector.",
                hint="halfvec goes to 4,000 dimensions; MIGRATION_GUIDE.md shows how.",
            )
        start = time.perf_counter()
        truth = exact_neighbours(vectors, queries, k, metric)
        exact_s = time.perf_counter() - start
        return cls(vectors, queries, truth, k, metric, source, exact_s, embedding_model)

    @classmethod
    def holding_out(
        cls,
        vectors: NDArray[np.float32],
        *,
        n_queries: int = DEFAULT_QUERIES,
        seed: int = 0,
        k: int = DEFAULT_K,
        metric: Metric | str = Metric.COSINE,
        source: str = "given vectors",
        embedding_model: str | None = None,
    ) -> Workload:
        """Lay a random sample aside as queries, which the index then does not hold.

        A query that is still in the table finds itself, and recall looks better than it is. At
        most a fifth of the vectors is laid aside.
        """
        validate_vectors(vectors, what=source)
        held_out = min(n_queries, int(len(vectors) * MAX_HELD_OUT_SHARE))
        if n_queries < 1 or held_out < 1 or len(vectors) - held_out < k:
            raise DataError(
                f"{len(vectors)} vectors are too few for {n_queries} held-out queries and k = {k}.",
                hint="Give at least k + 5 vectors, and at least one query.",
            )
        chosen = np.random.default_rng(seed).choice(len(vectors), held_out, replace=False)
        keep = np.ones(len(vectors), dtype=bool)
        keep[chosen] = False
        return cls.of(
            np.ascontiguousarray(vectors[keep]),
            np.ascontiguousarray(vectors[np.sort(chosen)]),
            k=k,
            metric=metric,
            source=source,
            embedding_model=embedding_model,
        )

    @classmethod
    def generated(
        cls,
        kind: Kind | str,
        rows: int,
        *,
        n_queries: int = DEFAULT_QUERIES,
        seed: int = 0,
        k: int = DEFAULT_K,
        dim: int = EMBEDDING_DIM,
    ) -> Workload:
        """Generate rows, and queries from the same source that are not among them."""
        kind = Kind(kind)
        made = generate(kind, rows + n_queries, dim=dim, seed=seed)
        source = f"{kind} vectors, generated (seed {seed})"
        return cls.of(made[:rows], made[rows:], k=k, source=source)

    @classmethod
    def from_file(
        cls,
        path: Path,
        *,
        n_queries: int = DEFAULT_QUERIES,
        seed: int = 0,
        k: int = DEFAULT_K,
        metric: Metric | str = Metric.COSINE,
    ) -> Workload:
        """Read the vectors of a `.npy`, `.npz` or `.parquet` file, of any dimension."""
        return cls.holding_out(
            load_vectors(path),
            n_queries=n_queries,
            seed=seed,
            k=k,
            metric=metric,
            source=f"file {path.name}",
        )

    @classmethod
    def stored(
        cls,
        engine: Engine,
        *,
        embedding_model: str | None = None,
        n_queries: int = DEFAULT_QUERIES,
        seed: int = 0,
        k: int = DEFAULT_K,
    ) -> Workload:
        """Read the stored embeddings of one model, by default the one with the most rows."""
        model, vectors = read_stored(engine, embedding_model)
        workload = cls.holding_out(
            vectors,
            n_queries=n_queries,
            seed=seed,
            k=k,
            source=f"stored embeddings of {model}",
            embedding_model=model,
        )
        return replace(workload, shares_table=len(stored_models(engine)) > 1)


def stored_models(engine: Engine) -> dict[str, int]:
    """Return the rows of each embedding model in the database, most first."""
    rows = sa.func.count().label("rows")
    model = ChunkEmbedding.embedding_model
    with engine.connect() as connection:
        found = connection.execute(
            sa.select(model, rows).group_by(model).order_by(rows.desc(), model)
        )
        return {row.embedding_model: row.rows for row in found}


def read_stored(
    engine: Engine, embedding_model: str | None = None
) -> tuple[str, NDArray[np.float32]]:
    """Return a model's name and its vectors, shape (n_rows, 1536), in order of chunk."""
    models = stored_models(engine)
    model = embedding_model or next(iter(models), None)
    if model is None or model not in models:
        there = ", ".join(models) or "none"
        raise DataError(
            f"No embeddings of {model!r} are stored." if model else "No embeddings are stored.",
            hint=f"Stored models: {there}. `resume-lab seed` adds one.",
        )
    query = sql.SQL(
        "SELECT embedding FROM chunk_embeddings WHERE embedding_model = {} ORDER BY chunk_id"
    ).format(sql.Literal(model))
    repeatable = engine.execution_options(isolation_level="REPEATABLE READ")
    with repeatable.connect() as connection:
        count = connection.scalar(
            sa.select(sa.func.count()).where(ChunkEmbedding.embedding_model == model)
        )
        raw = raw_connection(connection)
        rows = int(count or 0)
        vectors = interruptible(raw, lambda: copy.read_vectors(raw, query, rows, EMBEDDING_DIM))
    return model, vectors
