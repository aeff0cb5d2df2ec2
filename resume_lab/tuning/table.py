"""Vectors of a user's own table: read in one read-only transaction, nothing ever written to it.

SELECT on the table is all it takes; ACCESS SHARE, the lock of any SELECT, is all that it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg2
from numpy.typing import NDArray
from psycopg2.errors import LockNotAvailable
from psycopg2.extensions import connection as RawConnection  # noqa: N812
from sqlalchemy.engine import Connection, Engine

from resume_lab.database.indexes import raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.session import LOCK_WAIT
from resume_lab.database.vector_column import (
    UNCHANGED,
    VectorColumn,
    find_vector_column,
    require_column,
    split_name,
    words,
)
from resume_lab.database.vector_rows import VectorRows, at_most, check_condition, count, read
from resume_lab.errors import DatabaseError, DataError, ExperimentError, SchemaError
from resume_lab.given import whole
from resume_lab.tuning.results import TableInfo
from resume_lab.tuning.workload import DEFAULT_K, DEFAULT_QUERIES, Workload, embeddings_of
from resume_lab.vectors import Metric

DEFAULT_MAX_ROWS = 200_000
"""Of a table with more rows a random sample is read.

At 1536 dimensions so many take 1.2 GB, twice that while queries are laid aside, and as much again
in the scratch copy on the server, where an index of them is still built within minutes.
"""

SPARE_ROWS = 5
"""Beside k rows there must be so many, because a fifth of all, at most, becomes queries."""


@dataclass(frozen=True)
class TableSource:
    """Which vectors to read. Names are as in SQL: quoted where they need it, schema optional.

    `where` is a condition in SQL for the rows meant. `id_column` names a row in the advised query,
    by default the first column of the primary key, else one called id, else the first other one.
    `queries_from` is TABLE.COLUMN with real queries; without it, rows are laid aside as queries.
    """

    table: str
    column: str
    id_column: str | None = None
    where: str | None = None
    queries_from: str | None = None


@dataclass(frozen=True, eq=False)
class _Found:
    """What was read: vectors (n_rows, dim), and queries (n, dim) where they have their own column.

    `there` is about how many rows there are where only a sample was read.
    """

    rows: VectorRows
    id_column: str
    vectors: NDArray[np.float32]
    there: int | None
    asked: VectorColumn | None
    queries: NDArray[np.float32] | None


def read_table(
    engine: Engine,
    source: TableSource,
    *,
    metric: Metric | str = Metric.COSINE,
    k: int = DEFAULT_K,
    n_queries: int = DEFAULT_QUERIES,
    seed: int = 0,
    max_rows: int = DEFAULT_MAX_ROWS,
) -> Workload:
    """Read the vectors of a table or view, at most `max_rows`, and find the exact answers.

    NULL and zero vectors are left out: NULL is in no index, a zero vector in none by cosine
    distance, and it points nowhere by any. At most `n_queries` queries come from `queries_from`,
    or from the rows, which are then without them.

    Raises SchemaError for names and types, DataError for too few vectors, DatabaseError for what
    the server refuses, ExperimentError for numbers that cannot be.
    """
    metric = Metric(metric)
    k, n_queries = whole(k, "k", least=0), whole(n_queries, "n_queries", least=0)
    max_rows, seed = whole(max_rows, "max_rows", least=0), whole(seed, "seed", least=0)
    if min(k, n_queries) < 1 or max_rows < k + SPARE_ROWS:
        raise ExperimentError(
            f"k is {k}, n_queries {n_queries}, max_rows {max_rows}; k and n_queries are at least "
            f"1, max_rows at least k + {SPARE_ROWS}."
        )
    read_only = engine.execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )
    with _refusals(source), read_only.begin() as connection:
        raw = raw_connection(connection)
        found = interruptible(raw, lambda: _find(raw, source, n_queries, seed, max_rows))
    return _workload(found, metric, k, n_queries, seed)


def check_rows(connection: Connection, table: TableInfo, *, comments: bool = False) -> None:
    """Refuse a condition that would change the statements it goes into, as `check_condition` does.

    That of a stored model is a literal of our own, whatever its name holds.
    """
    model = table.embedding_model
    if model is not None and table.where == embeddings_of(model).where:
        return
    with raw_connection(connection).cursor() as cursor:
        column = find_vector_column(cursor, table.table, table.column)
        check_condition(cursor, VectorRows(column, table.where), comments=comments)


def _find(
    connection: RawConnection, source: TableSource, n_queries: int, seed: int, max_rows: int
) -> _Found:
    with connection.cursor() as cursor:
        _be_gentle(cursor, seed)
        column, id_column = _column(cursor, source)
        asked = _asked_column(cursor, source.queries_from, column)
        rows = VectorRows(column, source.where)
        check_condition(cursor, rows)
        chosen, n_rows, there = at_most(cursor, rows, max_rows, seed)
        queries = None if asked is None else _drawn(cursor, VectorRows(asked), n_queries)
        return _Found(rows, id_column, read(cursor, chosen, n_rows), there, asked, queries)


def _be_gentle(cursor: Any, seed: int) -> None:
    """Take one process of the server, wait little for a lock, and draw and read as last time."""
    cursor.execute(
        "SET LOCAL statement_timeout = 0; "  # some hosts allow two minutes
        f"SET LOCAL lock_timeout = '{LOCK_WAIT}'; "
        "SET LOCAL max_parallel_workers_per_gather = 0; "
        "SET LOCAL synchronize_seqscans = off"
    )
    cursor.execute("SELECT setseed(%s)", [np.random.default_rng(seed).uniform(-1, 1)])


def _column(cursor: Any, source: TableSource) -> tuple[VectorColumn, str]:
    """Return the column to read, and the name of the one that names a row."""
    table = split_name(cursor, source.table, parts=(1, 2), what="table")
    (name,) = split_name(cursor, source.column, parts=(1,), what="column")
    column = find_vector_column(cursor, table, name)
    if source.id_column is None:
        return column, column.key
    (id_column,) = split_name(cursor, source.id_column, parts=(1,), what="column")
    require_column(cursor, column, id_column)
    return column, id_column


def _asked_column(cursor: Any, name: str | None, rows: VectorColumn) -> VectorColumn | None:
    """Return the column of the queries, one that fits the rows and does not hold them."""
    if name is None:
        return None
    names = split_name(cursor, name, parts=(2, 3), what="table with its column")
    asked = find_vector_column(cursor, names[:-1], names[-1])
    if asked.place == rows.place:
        raise SchemaError(
            f"{asked} holds the rows; as queries they would find themselves. {UNCHANGED}",
            hint="Leave queries_from out: then some rows are laid aside as queries.",
        )
    if asked.dim != rows.dim:
        raise SchemaError(
            f"The queries of {asked} have {asked.dim} dimensions, the rows of {rows} {rows.dim}. "
            f"{UNCHANGED}",
            hint="Take queries that the same embedding model made.",
        )
    return asked


def _drawn(cursor: Any, rows: VectorRows, most: int) -> NDArray[np.float32]:
    return read(cursor, rows.drawn(most), min(most, count(cursor, rows)))


def _workload(found: _Found, metric: Metric, k: int, n_queries: int, seed: int) -> Workload:
    rows = found.rows
    vectors = _without_zeros(found.vectors)
    _check_enough(rows, len(vectors), k if found.asked else k + SPARE_ROWS, k)
    source = _description(found, len(found.vectors) - len(vectors))
    table = TableInfo(
        rows.column.table,
        rows.column.column,
        found.id_column,
        rows.where,
        partial=rows.where is not None,
    )
    if found.asked is None or found.queries is None:
        n_queries = min(n_queries, len(vectors) - k)
        workload = Workload.holding_out(
            vectors, n_queries=n_queries, seed=seed, k=k, metric=metric, source=source, table=table
        )
    else:
        queries = _without_zeros(found.queries)
        _check_enough(VectorRows(found.asked), len(queries), 1, k)
        workload = Workload.of(vectors, queries, k=k, metric=metric, source=source, table=table)
    return replace(workload, sampled_from=found.there)


def _without_zeros(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    not_zero = vectors.any(axis=1)
    return vectors if not_zero.all() else vectors[not_zero]


def _check_enough(rows: VectorRows, there: int, needed: int, k: int) -> None:
    if there < needed:
        raise DataError(
            f"{rows} has {there or 'no'} usable vectors; for k = {k} it takes {needed} or more. "
            f"{UNCHANGED}",
            hint="NULL and zero vectors do not count, nor do rows that row-level security hides "
            "from this role. Take a smaller k or a wider condition, or add rows.",
        )


def _description(found: _Found, zeros: int) -> str:
    parts = [str(found.rows)]
    if found.there is not None:
        parts.append(f"a random sample of {len(found.vectors):,} of about {found.there:,} rows")
    if zeros:
        parts.append(f"without {zeros:,} zero vectors")
    if found.asked is not None:
        parts.append(f"queries from {found.asked}")
    return ", ".join(parts)


@contextmanager
def _refusals(source: TableSource) -> Iterator[None]:
    """Say what the driver's errors mean, whether they come bare or as DatabaseError."""
    try:
        yield
    except (psycopg2.Error, DatabaseError) as error:
        cause = error if isinstance(error, psycopg2.Error) else error.__cause__
        if not isinstance(cause, psycopg2.Error):
            raise
        if isinstance(cause, LockNotAvailable):
            raise DatabaseError(
                f"Another session has kept {source.table} locked for {LOCK_WAIT}. {UNCHANGED}",
                hint="Wait until its ALTER TABLE or the like has ended, then try again.",
            ) from None
        raise DatabaseError(
            f"Reading {source.table} ended early: {words(cause)}. {UNCHANGED}",
            hint="Run the same command again."
            if cause.pgcode is None
            else "Correct what the server names, then run the same command again.",
        ) from None
