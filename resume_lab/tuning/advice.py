"""The statements of a recommendation: what builds the index, and how a query uses it."""

from __future__ import annotations

from hashlib import sha256

from resume_lab.database.indexes import DISTANCES, MIB, IVFFlat, quoted
from resume_lab.database.models import EMBEDDING_INDEX
from resume_lab.database.schema import LAB_PREFIX
from resume_lab.tuning.results import TableInfo, WorkloadInfo

MIN_BUILD_MIB = 256
PLACEHOLDER = TableInfo(("your_table",), "embedding", "id")


def build_memory_mib(lists: int, dim: int) -> int:
    """Return the maintenance_work_mem to set for a build, in MiB."""
    return max(MIN_BUILD_MIB, IVFFlat(lists).build_memory_bytes(dim) // MIB + 1)


def index_name(lists: int, workload: WorkloadInfo) -> str:
    """Return the name of the tuned index.

    For the only model of `chunk_embeddings` that of its general index, so that migrations know it;
    an index for one of several starts with the prefix that migrations leave alone.
    """
    table = workload.table
    if table is None:
        return f"ix_embedding_ivfflat_{lists}"
    if table.embedding_model is not None and not table.partial:
        return EMBEDDING_INDEX
    of = table.embedding_model or repr((table.table, table.column, table.where))
    return f"{LAB_PREFIX}ivfflat_{sha256(of.encode()).hexdigest()[:8]}"


def competing_indexes(lists: int, workload: WorkloadInfo) -> list[str]:
    """Return the indexes to drop first: several vector indexes on one column compete."""
    if workload.table is None:
        return []
    names = [EMBEDDING_INDEX] if workload.table.embedding_model is not None else []
    own = index_name(lists, workload)
    return names if own in names else [*names, own]


def qualified(table: TableInfo, index: str) -> str:
    """Return an index's name in the schema of its table, quoted."""
    return ".".join(map(quoted, (*table.table[:-1], index)))


def create_index(lists: int, workload: WorkloadInfo, *, name: str | None = None) -> str:
    """Return CREATE INDEX with the operator class named, partial where the table is shared."""
    table = workload.table or PLACEHOLDER
    return IVFFlat(lists).ddl(
        table.table,
        table.column,
        workload.distance,
        name=name or index_name(lists, workload),
        where=table.where if table.partial else None,
    )


def index_statements(lists: int, workload: WorkloadInfo) -> str:
    """Return the SQL that builds the index, and drops what would compete with it."""
    statements = [f"SET maintenance_work_mem = '{build_memory_mib(lists, workload.dim)}MB'"]
    statements += [
        f"DROP INDEX IF EXISTS {qualified(workload.table or PLACEHOLDER, name)}"
        for name in competing_indexes(lists, workload)
    ]
    return ";\n".join([*statements, create_index(lists, workload)])


def query(workload: WorkloadInfo) -> str:
    """Return the query that the index serves, its vector as a parameter."""
    table = workload.table or PLACEHOLDER
    parts = [
        f"SELECT {quoted(table.id_column)} FROM {'.'.join(map(quoted, table.table))}",  # noqa: S608 - shown, with quoted names
        f"WHERE {table.where}" if table.where else "",
        f"ORDER BY {quoted(table.column)} {DISTANCES[workload.distance].operator} :query",
        f"LIMIT {workload.k};",
    ]
    return " ".join(part for part in parts if part)


def query_settings(probes: int, *, needs: str | None) -> str:
    """Return what a query sets first in its own transaction; `needs` makes the planner agree."""
    settings = f"SET LOCAL ivfflat.probes = {probes};"
    return f"{settings} {needs};" if needs else settings
