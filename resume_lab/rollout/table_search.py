"""Searches on a table as it stands: sampled rows as queries, exact distances, what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2 import sql
from sqlalchemy.engine import Connection

from resume_lab.database.copy import vector_text
from resume_lab.database.indexes import DISTANCES, raw_connection
from resume_lab.tuning.plans import explain
from resume_lab.tuning.results import TableInfo
from resume_lab.vectors import Metric, distances, exact_neighbours

BLOCK_ROWS = 4096
"""Rows held at a time while the exact answers are found."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of the table: where each stands, (n,), and its vector, (n, dim)."""

    places: NDArray[np.str_]
    vectors: NDArray[np.float32]


class TableSearch:
    """Searches of one table in one snapshot, where no row moves: its place is its name."""

    def __init__(self, connection: Connection, table: TableInfo, metric: Metric) -> None:
        self._connection = raw_connection(connection)
        self._metric = metric
        self._parts = {
            "table": sql.Identifier(*map(_doubled, table.table)),
            "column": sql.Identifier(_doubled(table.column)),
            # the line break ends a comment
            "where": sql.SQL(_doubled(table.where or "true") + "\n"),
            "operator": sql.SQL(DISTANCES[metric.value].operator),
        }
        self._name = ".".join((*table.table, table.column))

    def __str__(self) -> str:
        return self._name

    def _sql(self, text: str, **parts: Any) -> sql.Composed:
        literals = {name: sql.Literal(value) for name, value in parts.items()}
        return sql.SQL(text).format(**self._parts, **literals)

    def count(self) -> int:
        """Return how many rows have a vector."""
        with self._connection.cursor() as cursor:
            cursor.execute(self._sql("SELECT count({column}) FROM {table} WHERE ({where})"), [])
            return int(cursor.fetchone()[0])

    def sample(self, n_queries: int) -> Rows:
        """Draw rows, the same from the same table; a zero vector is no query by cosine."""
        drawn = self._sql(
            "SELECT place::text, vector_send({column}) FROM ("
            "SELECT (tableoid, ctid) AS place, {column} FROM {table} "
            "WHERE {column} IS NOT NULL AND ({where}) "
            "ORDER BY md5((tableoid, ctid)::text) LIMIT {n}) drawn",
            n=n_queries,
        )
        with self._connection.cursor() as cursor:
            cursor.execute(drawn, [])
            rows = _rows(cursor.fetchall())
        usable = rows.vectors.any(axis=1) | (self._metric != Metric.COSINE)
        return Rows(rows.places[usable], rows.vectors[usable])

    def kth_distances(self, queries: Rows, k: int) -> NDArray[np.float64]:
        """Return the distance of the k-th nearest other row of each query, (n_queries,)."""
        best = np.full((len(queries.places), k), np.inf)
        for block in self._blocks():
            wanted = min(k + 1, len(block.places))
            near = exact_neighbours(block.vectors, queries.vectors, wanted, self._metric)
            is_itself = block.places[near.ids] == queries.places[:, None]
            far = np.where(is_itself | np.isnan(near.distances), np.inf, near.distances)
            best = np.sort(np.concatenate([best, far], axis=1), axis=1)[:, :k]
        return np.asarray(best[:, -1])

    def _blocks(self) -> Iterator[Rows]:
        """Read all rows through a cursor on the server, BLOCK_ROWS at a time."""
        everything = self._sql(
            "SELECT (tableoid, ctid)::text, vector_send({column}) FROM {table} "
            "WHERE {column} IS NOT NULL AND ({where})"
        )
        with self._connection.cursor("resume_lab_drift") as cursor:
            cursor.execute(everything, [])
            while rows := cursor.fetchmany(BLOCK_ROWS):
                yield _rows(rows)

    def _search(self, k: int) -> sql.Composed:
        """Return the search for one more than k: a query finds itself."""
        return self._sql(
            "SELECT place::text, vector_send({column}) FROM ("
            "SELECT (tableoid, ctid) AS place, {column} FROM {table} WHERE ({where}) "
            "ORDER BY {column} {operator} %s::vector LIMIT {n}) nearest",
            n=k + 1,
        )

    def indexes_used(self, queries: Rows, k: int) -> frozenset[str]:
        """Return the indexes that the planner takes for the search."""
        with self._connection.cursor() as cursor:
            return explain(cursor, self._search(k), vector_text(queries.vectors[0])).indexes

    def answers(self, queries: Rows, k: int) -> NDArray[np.float64]:
        """Return the distances of what a search finds, (n_queries, k), nan where nothing came."""
        found = np.full((len(queries.places), k), np.nan)
        with self._connection.cursor() as cursor:
            search = self._search(k).as_string(cursor)
            for number, (place, vector) in enumerate(
                zip(queries.places, queries.vectors, strict=True)
            ):
                cursor.execute(search, [vector_text(vector)])
                others = [row for row in cursor.fetchall() if row[0] != place][:k]
                if others:
                    rows = _rows(others).vectors
                    found[number, : len(rows)] = distances(vector[None], rows[None], self._metric)
        return found


def _doubled(text: str) -> str:
    """Return what psycopg2 makes the text of: it reads %% as %."""
    return text.replace("%", "%%")


def _rows(fetched: list[tuple[str, memoryview]]) -> Rows:
    """Read rows of a place and a vector in the binary form of pgvector."""
    values = [bytes(value) for _, value in fetched]
    dim = (len(values[0]) - 4) // 4 if values else 1
    row = np.dtype([("head", "V4"), ("value", ">f4", (dim,))])
    vectors = np.frombuffer(b"".join(values), row)["value"].astype(np.float32)
    return Rows(np.array([place for place, _ in fetched], dtype=np.str_), vectors)
