"""What row level security costs a search: the rows that come back for each k, and the recall.

A policy hides rows after the index has found them. Measured here as a reader of one source of
several: `search_vector`, and beside it the same index asked once, without reading on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from resume_lab import seeding
from resume_lab.database import copy
from resume_lab.database.indexes import (
    IVFFlat,
    allow_build,
    drop_vector_indexes,
    execute,
    literal,
    raw_connection,
)
from resume_lab.database.models import CHUNK_COLUMNS, EMBEDDING_COLUMNS
from resume_lab.database.role_trial import acting_as
from resume_lab.database.roles import READER
from resume_lab.database.row_security import let_read, taking_back
from resume_lab.retrieval.search import query_text, search_vector
from resume_lab.rollout.finding import Finding
from resume_lab.tuning import Workload
from resume_lab.tuning.predict import predict
from resume_lab.tuning.workload import embeddings_of
from resume_lab.vectors import RecallSummary, exact_neighbours, recall_at_k, summarise

MODEL = "trial/row security"
INDEX = "lab_row_security"
KS = (1, 10, 50)
SOURCES: Mapping[str, float] = {"half": 0.5, "a tenth": 0.1, "a fiftieth": 0.02, "the rest": 0.38}
"""The sources, and their shares of the rows."""

_NEEDS = {"enable_sort": "off", "enable_seqscan": "off"}
_ONCE = """
SELECT chunk_index FROM (
    SELECT chunk_id FROM chunk_embeddings WHERE embedding_model = %s
    ORDER BY embedding <=> %s::vector LIMIT %s
) AS nearest JOIN document_chunks USING (chunk_id)
"""


@dataclass(frozen=True)
class Found:
    """What came back: `rows` is the share of those that there were to return."""

    rows: float
    recall: RecallSummary


@dataclass(frozen=True)
class VisibleRows:
    """Searches for k as a reader of `source`, who may read `visible` rows.

    `found` is what search_vector returned, `once` what its index did when asked once, without
    reading on; `explanation` is what search says of its way.
    """

    source: str
    visible: int
    k: int
    found: Found
    once: Found
    explanation: str


def measure_visible(
    connection: Connection,
    workload: Workload,
    lists: int,
    *,
    target_recall: float,
    ks: Sequence[int] = KS,
) -> list[VisibleRows]:
    """Store a workload, tune an index for it, and search as a reader of each source.

    The tables are those of `role_trial.tried`. The probes are those predicted to reach the target
    where nothing is hidden. The first reader measured may read all sources.
    """
    curve = predict(workload, [lists]).curves[0]
    probes = curve.probes_for(target_recall) or lists
    of = _rows(len(workload.vectors))
    _store(connection, workload.vectors, of)
    _build(connection, workload, lists, probes, target_recall)
    measured = []
    for sources in (list(of), *([name] for name in list(of)[:-1])):
        name = sources[0] if len(sources) == 1 else "all"
        rows = np.concatenate([of[source] for source in sources])
        with _reading(connection, sources):
            measured += [_measure(connection, workload, probes, name, rows, k) for k in ks]
    return measured


def _rows(n_rows: int) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of the rows of each source; they stand in random order."""
    ends = np.round(np.cumsum([0, *SOURCES.values()]) * n_rows).astype(int)
    return {
        name: np.arange(start, stop)
        for name, start, stop in zip(SOURCES, ends, ends[1:], strict=False)
    }


def _store(
    connection: Connection, vectors: NDArray[np.float32], of: Mapping[str, NDArray[np.int64]]
) -> None:
    drop_vector_indexes(connection)
    raw, step = raw_connection(connection), seeding.BATCH_ROWS
    for source, rows in of.items():
        first, stop = int(rows[0]), int(rows[-1]) + 1
        chunks = seeding.chunk_batches(source, first + 1, first, stop)
        copy.copy_rows(raw, ("document_chunks",), CHUNK_COLUMNS, chunks)
    batches = (vectors[at : at + step] for at in range(0, len(vectors), step))
    embeddings = seeding.embedding_batches(MODEL, 1, batches, lambda _: None)
    copy.copy_rows(raw, ("chunk_embeddings",), EMBEDDING_COLUMNS, embeddings)
    execute(connection, "ANALYZE document_chunks, chunk_embeddings")


def _build(
    connection: Connection, workload: Workload, lists: int, probes: int, target_recall: float
) -> None:
    """Build a partial index that says its finding, as a rollout does."""
    table = embeddings_of(MODEL, partial=True)
    dim = workload.vectors.shape[1]
    finding = Finding(
        lists=lists, probes=probes, k=workload.k, distance=workload.metric.value,
        target_recall=target_recall, recall=target_recall, recall_low=target_recall,
        confirmed_recall=None, rows=len(workload.vectors), where=table.where, needs=_NEEDS,
        pgvector_version="", date=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    allow_build(connection, IVFFlat(lists), dim)
    ddl = IVFFlat(lists).ddl(
        table.table, table.column, finding.distance, name=INDEX, where=table.where
    )
    execute(connection, ddl)
    execute(connection, f"COMMENT ON INDEX {INDEX} IS {literal(finding.as_text())}")


@contextmanager
def _reading(connection: Connection, sources: Sequence[str]) -> Iterator[None]:
    """Act as a reader of these sources and no others."""
    for source in sources:
        let_read(connection, READER, source)
    with acting_as(connection, READER):
        yield
    for source in sources:
        execute(connection, taking_back(READER, source))


def _measure(
    connection: Connection,
    workload: Workload,
    probes: int,
    source: str,
    rows: NDArray[np.int64],
    k: int,
) -> VisibleRows:
    queries, wanted = workload.queries, min(k, len(rows))
    truth = rows[exact_neighbours(workload.vectors[rows], queries, wanted, workload.metric).ids]
    searched = [search_vector(connection, query, model=MODEL, k=k) for query in queries]
    found = [[hit.chunk_index for hit in hits] for hits in searched]
    explained = search_vector(connection, queries[0], model=MODEL, k=k, explain=True)
    return VisibleRows(
        source,
        len(rows),
        k,
        _found(found, truth),
        _found(_once(connection, queries, probes, k), truth),
        str(explained.explanation),
    )


def _once(
    connection: Connection, queries: NDArray[np.float32], probes: int, k: int
) -> list[list[int]]:
    """Search through the index without reading on; no setting stays."""
    settings = {"ivfflat.probes": str(probes), "ivfflat.iterative_scan": "off", **_NEEDS}
    savepoint = connection.begin_nested()
    try:
        for name, value in settings.items():
            connection.execute(sa.select(sa.func.set_config(name, value, True)))
        with raw_connection(connection).cursor() as cursor:
            found = []
            for query in queries:
                cursor.execute(_ONCE, [MODEL, query_text(query), k])
                found.append([number for (number,) in cursor.fetchall()])
            return found
    finally:
        savepoint.rollback()


def _found(found: Sequence[Sequence[int]], truth: NDArray[np.int64]) -> Found:
    wanted = truth.shape[1]
    ids = np.array([[*numbers, *[-1] * (wanted - len(numbers))] for numbers in found])
    rows = float((ids >= 0).mean())
    return Found(rows, summarise(recall_at_k(ids, truth)))
