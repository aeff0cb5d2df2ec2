"""From measured points to a recommendation, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from resume_lab.database.indexes import DISTANCES, MIB, IVFFlat, literal
from resume_lab.database.models import EMBEDDING_INDEX
from resume_lab.database.schema import LAB_PREFIX
from resume_lab.tuning.measure import USE_INDEX
from resume_lab.tuning.results import Exact, Point, Recommendation
from resume_lab.tuning.workload import Workload

MIN_BUILD_MIB = 256
PLACEHOLDER_TABLE = "your_table"


def decide(
    points: tuple[Point, ...], exact: Exact, target_recall: float, workload: Workload
) -> tuple[Recommendation | None, str]:
    """Return the cheapest measured point that meets the target, and the verdict in a sentence."""
    answered = [point for point in points if point.used_index_forced]
    meeting = [point for point in answered if point.meets(target_recall)]
    if not meeting:
        return None, _none_meets(answered, target_recall, workload)
    best = min(meeting, key=lambda point: point.latency.p50_ms)
    if best.latency.p50_ms >= exact.latency.p50_ms:
        return None, (
            f"The cheapest setting with recall {target_recall:g} (lists {best.lists}, "
            f"probes {best.probes}, {best.latency.p50_ms:.3g} ms) is no faster than the exact scan "
            f"({exact.latency.p50_ms:.3g} ms): search exactly, without an index."
        )
    return _recommendation(best, workload), _verdict(best, points, target_recall, workload)


def _recommendation(point: Point, workload: Workload) -> Recommendation:
    settings = f"SET LOCAL ivfflat.probes = {point.probes};"
    if not point.used_index or workload.shares_table:
        settings += f" {USE_INDEX};"
    return Recommendation(
        lists=point.lists,
        probes=point.probes,
        recall=point.recall,
        recall_low=point.recall_low,
        p50_ms=point.latency.p50_ms,
        speedup_vs_exact=point.speedup_vs_exact,
        ddl=index_statements(point.lists, workload),
        query_settings=settings,
        query=_query(workload),
    )


def index_statements(lists: int, workload: Workload) -> str:
    """Return the SQL that builds the index, and drops the one that would compete with it.

    Several vector indexes on one column compete, so for stored embeddings the general index gives
    way: replaced under its own name when the table holds one model, otherwise dropped for a partial
    one whose name says that migrations leave it alone. Vectors from elsewhere get a placeholder.
    """
    index = IVFFlat(lists)
    mib = max(MIN_BUILD_MIB, index.build_memory_bytes(workload.vectors.shape[1]) // MIB + 1)
    statements = [f"SET maintenance_work_mem = '{mib}MB'"]
    name, table, where = f"ix_embedding_ivfflat_{lists}", PLACEHOLDER_TABLE, None
    if workload.embedding_model is not None:
        name, table = EMBEDDING_INDEX, "chunk_embeddings"
        statements.append(f"DROP INDEX IF EXISTS {EMBEDDING_INDEX}")
        if workload.shares_table:
            model = workload.embedding_model
            name = f"{LAB_PREFIX}ivfflat_{sha256(model.encode()).hexdigest()[:8]}"
            statements.append(f"DROP INDEX IF EXISTS {name}")
            where = f"embedding_model = {literal(model)}"
    distance = workload.metric.value
    statements.append(index.ddl((table,), "embedding", distance, name=name, where=where))
    return ";\n".join(statements)


def _query(workload: Workload) -> str:
    column, table, where = "id", PLACEHOLDER_TABLE, ""
    if workload.embedding_model is not None:
        column, table = "chunk_id", "chunk_embeddings"
        where = f"WHERE embedding_model = {literal(workload.embedding_model)}"
    operator = DISTANCES[workload.metric.value].operator
    order = f"ORDER BY embedding {operator} :query LIMIT {workload.k};"
    return " ".join(part for part in ("SELECT", column, "FROM", table, where, order) if part)


def _verdict(
    best: Point, points: tuple[Point, ...], target_recall: float, workload: Workload
) -> str:
    n = len(workload.queries)
    said = (
        f"lists {best.lists}, probes {best.probes}: recall@{workload.k} {best.recall:.3f} "
        f"(95% interval {best.recall_low:.3f} to {best.recall_high:.3f}, {n} queries) "
        f"at {best.latency.p50_ms:.3g} ms, {best.speedup_vs_exact:.1f} times as fast as the exact "
        f"scan, is the cheapest measured setting with recall {target_recall:g}."
    )
    if best.recall_low < target_recall:
        said += _what_is_sure(points, target_recall)
    if best.probes > best.lists / 2:
        said += (
            f" It reads about {best.probes / best.lists:.0%} of the rows, so the index finds "
            "little structure in these vectors; what it gains over the exact scan comes from how "
            "it stores them, not from neighbours it finds."
        )
    if not best.used_index:
        said += (
            " Left free, the planner reads the whole table instead: "
            "it needs enable_sort = off in the query's transaction."
        )
    if workload.shares_table:
        said += (
            " The table holds other models too: the general index gives way to one of this model, "
            "and the others are searched exactly until they get their own."
        )
    return said


def _what_is_sure(points: tuple[Point, ...], target_recall: float) -> str:
    sure = [p for p in points if p.recall_low >= target_recall and p.used_index_forced]
    if not sure:
        return " Its interval reaches below the target: more queries would tell."
    point = min(sure, key=lambda p: p.latency.p50_ms)
    return (
        " Its interval reaches below the target; the cheapest whose interval does not is "
        f"lists {point.lists}, probes {point.probes} at {point.latency.p50_ms:.3g} ms."
    )


def _none_meets(points: Sequence[Point], target_recall: float, workload: Workload) -> str:
    if not points:
        return "PostgreSQL used the index at no setting, even when told to; read the plans."
    best = max(points, key=lambda point: point.recall)
    return (
        f"No measured setting reaches recall@{workload.k} {target_recall:g}. The highest is "
        f"{best.recall:.3f} at lists {best.lists}, probes {best.probes}, which reads about "
        f"{best.probes / best.lists:.0%} of the table in {best.latency.p50_ms:.3g} ms. "
        "If recall grows no faster than the share read, the vectors have little structure "
        "for an index to find; otherwise try more probes."
    )
