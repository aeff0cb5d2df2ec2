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
from resume_lab.database.failures import translated_errors
from resume_lab.database.indexes import MAX_INDEXED_DIM, literal, raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.models import EMBEDDING_DIM, ChunkEmbedding
from resume_lab.errors import DataError
from resume_lab.given import whole
from resume_lab.tuning.results import TableInfo, WorkloadInfo
from resume_lab.vectors import (
    Difficulty,
    Kind,
    Metric,
    Neighbours,
    difficulty_of,
    exact_neighbours,
    generate,
    load_vectors,
    plant,
    validate_vectors,
)
from resume_lab.vectors.files import check_is_array

DEFAULT_QUERIES = 400
DEFAULT_K = 10
MAX_HELD_OUT_SHARE = 0.2
"""Of a given set of vectors, at most this share becomes queries."""


@dataclass(frozen=True, eq=False)
class Workload:
    """Rows to index, shape (n_rows, dim), and held-out queries, shape (n_queries, dim).

    `neighbours` holds the exact k + 1 nearest rows of each query (k where there are no more rows),
    found in `exact_s` seconds; `truth` is the first k of them. `table` is where the rows were read
    from, None for a file or generated ones; `sampled_from` is how many it holds where they are a
    sample.
    """

    vectors: NDArray[np.float32] = field(repr=False)
    queries: NDArray[np.float32] = field(repr=False)
    neighbours: Neighbours = field(repr=False)
    k: int
    metric: Metric
    source: str
    exact_s: float
    table: TableInfo | None = None
    sampled_from: int | None = None

    @property
    def info(self) -> WorkloadInfo:
        """Return what a table or figure says of the data."""
        rows, dim = self.vectors.shape
        return WorkloadInfo(
            rows,
            dim,
            len(self.queries),
            self.k,
            self.metric.value,
            self.source,
            table=self.table,
            sampled_from=self.sampled_from,
        )

    @property
    def truth(self) -> Neighbours:
        """Return the exact k nearest rows of each query."""
        return Neighbours(self.neighbours.ids[:, : self.k], self.neighbours.distances[:, : self.k])

    @cached_property
    def difficulty(self) -> Difficulty:
        """Return what the vectors are like for an index."""
        return difficulty_of(self.vectors, self.queries, self.neighbours, self.metric)

    def asked_near(self, strength: float, *, seed: int = 0) -> Workload:
        """Return the same rows, asked for by planted queries instead, as many as there were.

        They are rows turned away from themselves by the cosine distance `strength`, 0 to 1.
        """
        planted = plant(self.vectors, len(self.queries), strength, seed=seed)
        asked = Workload.of(
            self.vectors,
            planted.queries,
            k=self.k,
            metric=self.metric,
            source=f"{self.source}, queries planted at distance {strength:g} from rows",
            table=self.table,
        )
        return replace(asked, sampled_from=self.sampled_from)

    def part(self, queries: slice) -> Workload:
        """Return the same rows with some of the queries."""
        of = self.neighbours
        kept = Neighbours(of.ids[queries], of.distances[queries])
        return replace(self, queries=self.queries[queries], neighbours=kept)

    def split(self) -> tuple[Workload, Workload]:
        """Return the queries that choose a setting, and as many or one fewer that confirm it.

        They were laid aside, or made, in random order, so each half is a sample of all. A single
        query chooses, and none confirms.
        """
        half = -(-len(self.queries) // 2)
        return self.part(slice(half)), self.part(slice(half, None))

    @cached_property
    def query_texts(self) -> list[str]:
        """Return the queries as pgvector reads them."""
        return [copy.vector_text(query) for query in self.queries]

    @classmethod
    def of(
        cls,
        vectors: NDArray[np.float32],
        queries: NDArray[np.float32],
        *,
        k: int = DEFAULT_K,
        metric: Metric | str = Metric.COSINE,
        source: str = "given vectors",
        table: TableInfo | None = None,
    ) -> Workload:
        """Find the exact answers; raises DataError for vectors that pgvector cannot index."""
        metric = Metric(metric)
        k = whole(k, "k")
        check_is_array(vectors, "vectors")
        _check_dimensions(vectors, metric)
        start = time.perf_counter()
        wanted = k + 1 if k < len(vectors) else k  # more than the rows is refused there
        neighbours = exact_neighbours(vectors, queries, wanted, metric)
        exact_s = time.perf_counter() - start
        return cls(vectors, queries, neighbours, k, metric, source, exact_s, table)

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
        table: TableInfo | None = None,
    ) -> Workload:
        """Lay a random sample aside as queries, which the index then does not hold.

        A query that is still in the table finds itself, and recall looks better than it is. At
        most a fifth of the vectors is laid aside.
        """
        k, n_queries = whole(k, "k"), whole(n_queries, "n_queries", least=0)
        seed = whole(seed, "seed", least=0)
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
            np.ascontiguousarray(vectors[chosen]),
            k=k,
            metric=metric,
            source=source,
            table=table,
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
        rows, n_queries = whole(rows, "rows"), whole(n_queries, "n_queries")
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
        table = embeddings_of(model, partial=len(stored_models(engine)) > 1)
        return cls.holding_out(
            vectors,
            n_queries=n_queries,
            seed=seed,
            k=k,
            source=f"stored embeddings of {model}",
            table=table,
        )


def _check_dimensions(vectors: NDArray[np.float32], metric: Metric) -> None:
    if vectors.ndim != 2:
        return  # refused with the queries
    dim = vectors.shape[1]
    if dim > MAX_INDEXED_DIM:
        raise DataError(
            f"The vectors have {dim} dimensions; "
            f"pgvector indexes at most {MAX_INDEXED_DIM} of type vector.",
            hint="halfvec goes to 4,000 dimensions; MIGRATION_GUIDE.md shows how.",
        )
    if dim == 1 and metric is not Metric.L2:
        raise DataError(
            "The vectors have 1 dimension; pgvector indexes 2 or more by this distance.",
            hint="Euclidean distance takes one: metric='l2'.",
        )


def embeddings_of(model: str, *, partial: bool = False) -> TableInfo:
    """Return the stored embeddings of one model as a table, `partial` if others stand there too."""
    return TableInfo(
        ("chunk_embeddings",),
        "embedding",
        "chunk_id",
        where=f"embedding_model = {literal(model)}",
        partial=partial,
        embedding_model=model,
    )


def stored_models(engine: Engine) -> dict[str, int]:
    """Return the rows of each embedding model in the database, most first."""
    rows = sa.func.count().label("rows")
    model = ChunkEmbedding.embedding_model
    with translated_errors(engine), engine.connect() as connection:
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
    with translated_errors(engine), repeatable.connect() as connection:
        count = connection.scalar(
            sa.select(sa.func.count()).where(ChunkEmbedding.embedding_model == model)
        )
        raw = raw_connection(connection)
        rows = int(count or 0)
        vectors = interruptible(raw, lambda: copy.read_vectors(raw, query, rows, EMBEDDING_DIM))
    return model, vectors
