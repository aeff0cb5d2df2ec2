"""From measured points to a recommendation, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence

from resume_lab.database.indexes import IVFFlat, literal
from resume_lab.tuning.results import Exact, Point, Recommendation
from resume_lab.tuning.workload import Workload


def decide(
    points: tuple[Point, ...], exact: Exact, target_recall: float, workload: Workload
) -> tuple[Recommendation | None, str]:
    """Return the cheapest measured point that meets the target, and the verdict in a sentence."""
    answered = [point for point in points if point.used_index_forced]
    meeting = [point for point in answered if point.recall >= target_recall]
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
    if not point.used_index:
        settings += " SET LOCAL enable_seqscan = off;"
    return Recommendation(
        lists=point.lists,
        probes=point.probes,
        recall=point.recall,
        recall_low=point.recall_low,
        p50_ms=point.latency.p50_ms,
        speedup_vs_exact=point.speedup_vs_exact,
        ddl=index_statement(point.lists, workload),
        query_settings=settings,
    )


def index_statement(lists: int, workload: Workload) -> str:
    """Return CREATE INDEX for the table of embeddings, for one embedding model if it is known."""
    model = workload.embedding_model
    return IVFFlat(lists).ddl(
        ("chunk_embeddings",),
        "embedding",
        workload.metric.value,
        name=f"ix_chunk_embeddings_embedding_{lists}",
        where=None if model is None else f"embedding_model = {literal(model)}",
    )


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
            "it needs enable_seqscan = off in the query's transaction."
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
