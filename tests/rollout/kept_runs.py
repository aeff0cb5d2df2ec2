"""Results of a run, as they are kept, and a copy of the project's migrations to write into."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from tuning.factory import exact, stored_table

from resume_lab.config import project_root
from resume_lab.database import schema
from resume_lab.database.indexes import execute
from resume_lab.rollout.finding import Finding
from resume_lab.tuning import Recommendation, TuningResult
from resume_lab.tuning.results import Environment, TableInfo, Timings, WorkloadInfo

MODEL = "synthetic/clustered/seed=0"


def tuned(
    table: TableInfo | None = None, *, lists: int = 4, probes: int = 2, dim: int = 1536,
    needs: str = "", k: int = 10,
) -> TuningResult:  # fmt: skip
    """A result that recommends an index on a table, by default on the embeddings of MODEL."""
    table = table or stored_table(MODEL)
    settings = f"SET LOCAL ivfflat.probes = {probes};{needs}"
    return TuningResult(
        workload=WorkloadInfo(240, dim, 30, k, "cosine", "stored", 30, table),
        environment=Environment("2026-02-13T09:00:00+00:00", "18.4", "0.8.5", {}, "here", "warm"),
        target_recall=0.9, exact=exact(), points=(), why="Because.",
        recommendation=Recommendation(
            lists, probes, 0.95, 0.93, 1.0, 20.0, "DDL", settings, "QUERY", confirmed_recall=0.94
        ),
        timings=Timings(0.1, 0.1, 0.1, 0.4),
    )  # fmt: skip


def kept(result: TuningResult | None = None, **changes: Any) -> dict[str, Any]:
    """The same as it is read back from its file."""
    result = dataclasses.replace(result or tuned(), **changes)
    return json.loads(json.dumps(result.as_dict()))


def finding(**changes: Any) -> Finding:
    values = Finding(
        lists=4, probes=2, k=10, distance="cosine", target_recall=0.9, recall=0.95,
        recall_low=0.93, confirmed_recall=None, rows=300,
        where=f"embedding_model = '{MODEL}'", pgvector_version="0.8.5", date="2026-02-13",
    )  # fmt: skip
    return dataclasses.replace(values, **changes)


def copy_migrations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let migrations be written to a copy of the project's; return its versions folder."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(project_root() / "migrations", folder / "migrations", ignore=ignore)
    shutil.copy(project_root() / "alembic.ini", folder)
    monkeypatch.setattr(schema, "project_root", lambda: folder)
    return folder / "migrations" / "versions"


def run(bind: Engine | Connection, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    engine = bind.engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            execute(connection, statement)


def add_rows(engine: Engine, model: str, rows: int) -> None:
    """Store chunks with embeddings of small whole numbers, no two alike."""
    chunks = sa.text(
        "INSERT INTO document_chunks (content, source_file, chunk_index) "
        "SELECT 'text', :model, n FROM generate_series(1, :rows) n"
    )
    embeddings = sa.text(
        "INSERT INTO chunk_embeddings (chunk_id, embedding, embedding_model) "
        "SELECT chunk_id, (ARRAY[sin(chunk_index), cos(chunk_index)] || "
        "array_fill(0, ARRAY[1534]))::vector, source_file FROM document_chunks "
        "WHERE source_file = :model"
    )
    with engine.begin() as connection:
        connection.execute(chunks, {"model": model, "rows": rows})
        connection.execute(embeddings, {"model": model})


def vector_indexes(engine: Engine, table: str = "chunk_embeddings") -> dict[str, tuple[Any, ...]]:
    """Return definition, comment and validity of each vector index."""
    query = sa.text(
        "SELECT i.relname, pg_get_indexdef(i.oid), obj_description(i.oid), x.indisvalid "
        "FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam "
        "WHERE x.indrelid = to_regclass(:t) AND m.amname IN ('ivfflat', 'hnsw')"
    )
    with engine.connect() as connection:
        return {row[0]: tuple(row[1:]) for row in connection.execute(query, {"t": table})}
