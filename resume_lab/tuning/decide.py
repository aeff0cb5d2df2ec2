"""From measured points to a recommendation, or to the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from resume_lab.tuning import advice
from resume_lab.tuning.prove import Z_95, Target, queries_for_perfect, queries_needed
from resume_lab.tuning.results import Exact, Point, Rebuild, Recommendation, WorkloadInfo
from resume_lab.tuning.trial import USE_INDEX
from resume_lab.vectors import RecallSummary

LITTLE_STRUCTURE = 0.5
"""An index that reads more of the rows than this has found little to leave out."""


def decide(
    points: tuple[Point, ...], exact: Exact, target_recall: float, workload: WorkloadInfo
) -> tuple[Recommendation | None, str]:
    """Return the cheapest point of a grid that meets the target, and the verdict in sentences."""
    answered = [point for point in points if point.used_index_forced]
    meeting = [point for point in answered if point.meets(target_recall)]
    if not meeting:
        return None, _none_meets(answered, f"recall {target_recall:g}", workload)
    best = min(meeting, key=lambda point: point.latency.p50_ms)
    if best.latency.p50_ms >= exact.latency.p50_ms:
        return None, _no_faster(best, exact, f"with recall {target_recall:g}")
    said = [
        f"{_setting(best, workload)}, is the cheapest measured setting with recall "
        f"{target_recall:g}."
    ]
    if best.recall_low < target_recall:
        said.append(_what_is_sure(points, target_recall))
    said += _of_the_plan(best, best.probes / best.lists, workload)
    return recommendation(best, workload), " ".join(said)


@dataclass(frozen=True)
class Evidence:
    """What a run of the tuner has to show for its winner.

    `target` is None for a run on a latency budget, `max_ms`. `read_share` is the predicted share of
    the rows that a query reads.
    """

    winner: Point
    read_share: float
    indexes_built: int
    indexes_predicted: int
    rebuilds: tuple[Rebuild, ...]
    confirmed: RecallSummary | None
    target: Target | None = None
    max_ms: float | None = None


def conclude(
    evidence: Evidence, exact: Exact, workload: WorkloadInfo
) -> tuple[Recommendation | None, str]:
    """Return the recommendation that the evidence supports, and the verdict in sentences."""
    point = evidence.winner
    if point.latency.p50_ms >= exact.latency.p50_ms:
        return None, _no_faster(point, exact, "that reaches the aim")
    said = [
        f"{_setting(point, workload)}, is {_claim(evidence)}.",
        *_of_the_target(evidence, workload),
        *_of_rebuilds(evidence),
        *_of_confirmation(evidence),
        *_of_the_plan(point, evidence.read_share, workload),
    ]
    return _with_proof(recommendation(point, workload), evidence), " ".join(said)


def none_reaches(
    points: Iterable[Point], aim: str, workload: WorkloadInfo, *, max_ms: float | None = None
) -> str:
    """Say that no index reached the aim, a recall or `max_ms`, and how near the best came."""
    answered = [point for point in points if point.used_index_forced]
    if max_ms is None or not answered:
        return _none_meets(answered, aim, workload)
    fastest = min(answered, key=lambda point: point.latency.p50_ms)
    return (
        f"No measured setting keeps {aim}. The fastest is lists {fastest.lists}, probes "
        f"{fastest.probes} with {fastest.latency.p50_ms:.3g} ms and recall@{workload.k} "
        f"{fastest.recall:.3f}. Allow more time, or search fewer rows."
    )


def recommendation(point: Point, workload: WorkloadInfo) -> Recommendation:
    """Return a point as advice, with the statements that follow it."""
    partial = workload.table is not None and workload.table.partial
    needs = USE_INDEX if partial or not point.used_index else None
    return Recommendation(
        lists=point.lists,
        probes=point.probes,
        recall=point.recall,
        recall_low=point.recall_low,
        p50_ms=point.latency.p50_ms,
        speedup_vs_exact=point.speedup_vs_exact,
        ddl=advice.index_statements(point.lists, workload),
        query_settings=advice.query_settings(point.probes, needs=needs),
        query=advice.query(workload),
        recall_high=point.recall_high,
        n_queries=point.n_queries,
        used_index=point.used_index,
        predicted_recall=point.predicted_recall,
    )


def _with_proof(advised: Recommendation, evidence: Evidence) -> Recommendation:
    advised = replace(advised, rebuilds=evidence.rebuilds)
    confirmed = evidence.confirmed
    if confirmed is None:
        return advised
    return replace(
        advised,
        confirmed_recall=confirmed.mean,
        confirmed_low=confirmed.low,
        confirmed_high=confirmed.high,
        confirmed_queries=confirmed.n_queries,
    )


def _setting(point: Point, workload: WorkloadInfo) -> str:
    return (
        f"lists {point.lists}, probes {point.probes}: recall@{workload.k} {point.recall:.3f} "
        f"(95% interval {point.recall_low:.3f} to {point.recall_high:.3f}, "
        f"{point.n_queries:,} queries) at {point.latency.p50_ms:.3g} ms, "
        f"{point.speedup_vs_exact:.1f} times as fast as the exact scan"
    )


def _claim(evidence: Evidence) -> str:
    built = evidence.indexes_built
    of = (
        f"of {built} index{'es' if built > 1 else ''} built "
        f"and {evidence.indexes_predicted} predicted"
    )
    target, point = evidence.target, evidence.winner
    if target is None:
        claim = f"the highest recall within {evidence.max_ms:g} ms, {of}"
        if point.latency.p50_ms <= (evidence.max_ms or math.inf):
            return claim
        return f"{claim}, though it took longer when it was built and timed again"
    if not target.certain:
        return f"the fastest that reaches recall {target.recall:g} on average, {of}"
    claim = f"the fastest whose interval lies above recall {target.recall:g}, {of}"
    if target.holds(point):
        return claim
    return f"{claim}, though built again its interval reaches below"


def _of_the_target(evidence: Evidence, workload: WorkloadInfo) -> Sequence[str]:
    target = evidence.target
    if target is None or target.certain:
        return ()
    needed = queries_for_perfect(target.recall)
    least = (
        f"that takes at least {needed:,} that choose"
        if math.isfinite(needed)
        else "no number of queries can"
    )
    return (
        f"{workload.n_queries:,} queries cannot show recall {target.recall:g} with certainty, "
        f"however good their answers: {least}.",
    )


def _of_rebuilds(evidence: Evidence) -> Sequence[str]:
    if not evidence.rebuilds:
        return ()
    found = [str(built.probes) if built.probes else "none" for built in evidence.rebuilds]
    count = len(found)
    again = (
        f"Built {count} more time{'s' if count > 1 else ''}, because every build draws other "
        f"centroids, "
    )
    if not all(built.probes for built in evidence.rebuilds):
        return (
            f"{again}it needed probes {', '.join(found)}: not every build can be made to hold.",
        )
    kept = f"{evidence.winner.probes} holds for all"
    if evidence.target is None:
        return (f"{again}probes {', '.join(found)} were the most within the budget; {kept}.",)
    return (f"{again}it needed probes {', '.join(found)}; {kept}.",)


def _of_confirmation(evidence: Evidence) -> Sequence[str]:
    found, target = evidence.confirmed, evidence.target
    if found is None:
        return ("There were no queries left to confirm it.",)
    said = (
        f"{found.n_queries:,} other queries, which had no part in choosing, "
        f"give recall {found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
    )
    if target is None or found.low >= target.recall:
        return (f"{said}.",)
    if found.mean < target.recall:
        return (f"{said}: below the target. Give more queries, or take a few more probes.",)
    deviation = (found.high - found.low) / (2 * Z_95) * math.sqrt(found.n_queries)
    needed = queries_needed(found.mean, deviation, target.recall)
    reached = f"{said}: the target is reached, but not for certain"
    if math.isinf(needed):
        return (f"{reached}.",)
    return (f"{reached}; about {needed:,.0f} such queries would tell.",)


def _of_the_plan(point: Point, read_share: float, workload: WorkloadInfo) -> list[str]:
    said = []
    if read_share > LITTLE_STRUCTURE:
        said.append(
            f"It reads about {read_share:.0%} of the rows, so the index finds little structure in "
            "these vectors; what it gains over the exact scan comes from how it stores them, not "
            "from neighbours it finds."
        )
    if not point.used_index:
        said.append(
            "Left free, the planner reads the whole table instead: "
            "it needs enable_sort = off in the query's transaction."
        )
    if workload.table is not None and workload.table.embedding_model and workload.table.partial:
        said.append(
            "The table holds other models too: the general index gives way to one of this model, "
            "and the others are searched exactly until they get their own."
        )
    if workload.sampled_from is not None:
        said.append(
            f"Measured on a sample of {workload.rows:,} of about {workload.sampled_from:,} rows: "
            "on all of them lists and probes will differ; tune again with more of them."
        )
    return said


def _what_is_sure(points: tuple[Point, ...], target_recall: float) -> str:
    sure = [p for p in points if p.recall_low >= target_recall and p.used_index_forced]
    if not sure:
        return "Its interval reaches below the target: more queries would tell."
    point = min(sure, key=lambda p: p.latency.p50_ms)
    return (
        "Its interval reaches below the target; the cheapest whose interval does not is "
        f"lists {point.lists}, probes {point.probes} at {point.latency.p50_ms:.3g} ms."
    )


def _no_faster(point: Point, exact: Exact, which: str) -> str:
    return (
        f"The cheapest setting {which} (lists {point.lists}, probes {point.probes}, "
        f"{point.latency.p50_ms:.3g} ms) is no faster than the exact scan "
        f"({exact.latency.p50_ms:.3g} ms): search exactly, without an index."
    )


def _none_meets(points: Sequence[Point], aim: str, workload: WorkloadInfo) -> str:
    if not points:
        return "PostgreSQL used the index at no setting, even when told to; read the plans."
    best = max(points, key=lambda point: point.recall)
    return (
        f"No measured setting reaches {aim}. The highest recall@{workload.k} is "
        f"{best.recall:.3f} at lists {best.lists}, probes {best.probes}, which reads about "
        f"{best.probes / best.lists:.0%} of the table in {best.latency.p50_ms:.3g} ms. "
        "If recall grows no faster than the share read, the vectors have little structure "
        "for an index to find; otherwise try more probes."
    )
