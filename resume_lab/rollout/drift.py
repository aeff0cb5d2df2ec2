"""What the index in use is worth today: its recall on stored rows, against exact search."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg2.errors import ReadOnlySqlTransaction
from sqlalchemy.engine import Connection, Engine

from resume_lab.database.failures import translated_driver_errors
from resume_lab.database.indexes import raw_connection
from resume_lab.database.interrupt import interruptible
from resume_lab.database.vector_column import find_vector_column, split_name
from resume_lab.errors import DatabaseError, DataError
from resume_lab.given import whole
from resume_lab.rollout.finding import Finding, StandingIndex, standing_indexes, tuned_index, use
from resume_lab.rollout.table_search import TableSearch
from resume_lab.tuning.results import INTERVAL_LEVEL, ROUNDING, TableInfo
from resume_lab.tuning.table import check_rows
from resume_lab.tuning.workload import DEFAULT_K, embeddings_of, stored_models
from resume_lab.vectors import Metric, RecallSummary, recall_tie_aware, summarise

DEFAULT_QUERIES = 200


@dataclass(frozen=True)
class Drift:
    """The recall of today beside that of the finding.

    `recall` is a share in [0, 1], higher is better; None where no vector index was used, so that
    every answer is exact. `index` is the one PostgreSQL used, `tuned` the one with the finding.
    """

    of: str
    k: int
    recall: RecallSummary | None
    target_recall: float | None
    index: str | None
    tuned: str | None
    finding: Finding | None
    rows: int
    pgvector_version: str

    @property
    def is_below_target(self) -> bool:
        """Say whether the recall, not only its lower bound, is below the target."""
        return (
            self.recall is not None
            and self.target_recall is not None
            and self.recall.mean < self.target_recall - ROUNDING
        )

    @property
    def verdict(self) -> str:
        """Say in a sentence or two how it stands."""
        return " ".join(part for part in (self._on_the_index(), self._on_the_recall()) if part)

    def _on_the_index(self) -> str:
        if self.index is None and self.tuned is None:
            return "No vector index is used: every answer is exact."
        if self.index is None:
            return f"The planner does not use {self.tuned}: it reads every row, which is exact."
        if self.tuned is None:
            return f"{self.index} has no finding, so it answers with the server's own probes."
        if self.index != self.tuned:
            return f"The planner takes {self.index} instead of the tuned {self.tuned}."
        return ""

    def _on_the_recall(self) -> str:
        if self.recall is None:
            return ""
        if self.target_recall is None:
            return "There is no target to hold its recall against."
        if self.is_below_target:
            return (
                f"Recall is below the target of {self.target_recall:g}: "
                "`resume-lab tune`, then `resume-lab rollout`."
            )
        if self.recall.low < self.target_recall - ROUNDING:
            return (
                f"Recall reaches the target of {self.target_recall:g}, but its interval goes "
                "below: more --queries would tell."
            )
        return f"Fine: recall reaches the target of {self.target_recall:g}."

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **dataclasses.asdict(self),
            "is_below_target": self.is_below_target,
            "verdict": self.verdict,
        }

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [f"{self.of}: {self.rows:,} rows, pgvector {self.pgvector_version}."]
        if self.recall is not None:
            found = self.recall
            lines.append(
                f"recall@{self.k} {found.mean:.3f} ({found.low:.3f} to {found.high:.3f}) "
                f"on {found.n_queries} stored rows as queries, with {self.index}."
            )
        if (then := self.finding) is not None:
            lines.append(
                f"At the rollout: recall@{then.k} {then.recall:.3f}, at least "
                f"{then.recall_low:.3f}, with {then.probes} of {then.lists} lists probed; "
                f"{then.rows:,} rows, pgvector {then.pgvector_version}, {then.date}."
            )
        return "\n".join([*lines, self.verdict])


def stored_table(engine: Engine, model: str | None = None) -> TableInfo:
    """Return the stored embeddings of one model.

    By default that of the tuned index with the most rows, or without any the most rows.
    """
    models = stored_models(engine)
    name = model or _tuned_model(engine, models) or next(iter(models), None)
    if name not in models or name is None:
        raise DataError(
            f"No embeddings of {name!r} are stored." if name else "No embeddings are stored.",
            hint=f"Stored models: {', '.join(models) or 'none'}.",
        )
    return embeddings_of(name)


def _tuned_model(engine: Engine, models: Iterable[str]) -> str | None:
    with engine.connect() as connection:
        for name in models:
            of = embeddings_of(name)
            if tuned_index(connection, of.table, of.column, of.where) is not None:
                return name
    return None


def own_table(engine: Engine, table: str, column: str, where: str | None = None) -> TableInfo:
    """Return the rows of any table, by default those that its newest tuned index is for.

    Names are as in SQL. Raises SchemaError for a column that is not there, or no vector.
    """
    with translated_driver_errors(), engine.connect() as connection:
        with raw_connection(connection).cursor() as cursor:
            names = split_name(cursor, table, parts=(1, 2), what="table")
            (name,) = split_name(cursor, column, parts=(1,), what="column")
            find_vector_column(cursor, names, name)
        if where is None:
            found = [i.finding for i in standing_indexes(connection, names, name) if i.valid]
            where = next((f.where for f in reversed(found) if f is not None), None)
    return TableInfo(names, name, "", where, partial=where is not None)


def measure_drift(
    engine: Engine,
    table: TableInfo,
    *,
    n_queries: int = DEFAULT_QUERIES,
    k: int | None = None,
    target_recall: float | None = None,
) -> Drift:
    """Ask for the neighbours of sampled rows as a search would, and hold them against all rows.

    The same rows are drawn each time, and a row is no neighbour of itself. An answer counts that is
    as near as the k-th exact one. k and target are by default those of the finding. One read-only
    snapshot is read, a block at a time. Raises DataError for too few rows and for numbers that
    cannot be, DatabaseError for a condition that is none.
    """
    n_queries, k = whole(n_queries, "n_queries"), None if k is None else whole(k, "k")
    if target_recall is not None and not 0 < target_recall <= 1:
        raise DataError(f"The target recall is {target_recall}; it is above 0, at most 1.")
    snapshot = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    try:
        with translated_driver_errors(), snapshot.begin() as connection:
            return interruptible(
                raw_connection(connection),
                lambda: _measured(connection, table, n_queries, k, target_recall),
            )
    except DatabaseError as error:
        if not isinstance(error.__cause__, ReadOnlySqlTransaction):
            raise
        raise DatabaseError(
            f"The condition {table.where!r} writes; drift is measured in a read-only transaction.",
            hint="Give --where a condition that only reads.",
        ) from None


def _measured(
    connection: Connection,
    table: TableInfo,
    n_queries: int,
    k: int | None,
    target_recall: float | None,
) -> Drift:
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))  # some hosts allow two minutes
    check_rows(connection, table, comments=True)
    standing = standing_indexes(connection, table.table, table.column)
    tuned, finding = tuned_index(connection, table.table, table.column, table.where) or (None, None)
    metric = _metric(table, finding, standing)
    k = k or (finding.k if finding else DEFAULT_K)
    search = TableSearch(connection, table, metric)
    rows = search.count()
    sample = search.sample(n_queries)
    if rows <= k or not len(sample.places):
        raise DataError(
            f"{rows} rows are too few to ask for {k} neighbours of each.",
            hint="Give a smaller --k, or add rows.",
        )
    if finding is not None:
        use(connection, finding)
    index = search.indexes_used(sample, k) & {index.name for index in standing}
    recall = None
    if index:
        kth = search.kth_distances(sample, k)
        found = search.answers(sample, k)
        recall = summarise(recall_tie_aware(found, kth), confidence=INTERVAL_LEVEL)
    return Drift(
        of=table.embedding_model or str(search),
        k=k,
        recall=recall,
        target_recall=target_recall or (finding.target_recall if finding else None),
        index=next(iter(index), None),
        tuned=tuned.name if tuned else None,
        finding=finding,
        rows=rows,
        pgvector_version=_pgvector_version(connection),
    )


def _metric(table: TableInfo, finding: Finding | None, standing: Sequence[StandingIndex]) -> Metric:
    """Return the distance that searches of the table go by, as far as is known."""
    if table.embedding_model is not None:
        return Metric.COSINE
    found = [finding.distance] if finding else [index.distance for index in standing]
    return Metric(next(iter(found), None) or Metric.COSINE)


def _pgvector_version(connection: Connection) -> str:
    query = sa.text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    return str(connection.scalar(query))
