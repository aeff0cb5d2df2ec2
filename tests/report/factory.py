"""Results as a run might find them, with no database behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from resume_lab.tuning.results import (
    CostModel,
    Environment,
    Exact,
    Latency,
    Point,
    Rebuild,
    Recommendation,
    Timings,
    TuningResult,
    WorkloadInfo,
    pareto_frontier,
)
from resume_lab.vectors import Curve, Difficulty, Metric


def latency(p50_ms: float, n: int = 400, seed: int = 0) -> Latency:
    """Return samples around a median, with a tail to the right."""
    noise = np.random.default_rng(seed).lognormal(0, 0.12, n)
    return Latency.of(p50_ms * noise / np.median(noise))


def point(
    lists: int = 100, probes: int = 8, *, recall: float | None = None, p50_ms: float | None = None,
    n: int = 400, used_index: bool = True, forced: bool = True, index: str = "ivfflat",
    plan: str = "Limit\n  ->  Index Scan using trial on rows", rows_returned: float = 1.0,
    exact_ms: float = 18.0, predicted: float | None = None, n_queries: int = 0,
    shuffled: bool = True,
) -> Point:  # fmt: skip
    """Return one operating point; recall and latency follow from probes unless given."""
    share = probes / lists
    recall = 1 - (1 - share) ** 9 * 0.75 if recall is None else recall
    p50_ms = 0.6 + 0.0022 * lists + 17 * share if p50_ms is None else p50_ms
    half = 0.03 * float(np.sqrt(max(recall * (1 - recall), 0)) * 2)
    times = latency(p50_ms, n, seed=lists + probes)
    return Point(
        index, lists, probes, recall, max(recall - half, 0), min(recall + half, 1), recall,
        max(recall - 0.3, 0), max(recall - 0.5, 0), rows_returned, times, p50_ms * 0.8,
        exact_ms / p50_ms, used_index, plan, forced, "Limit\n  ->  Index Scan using trial",
        2.0 + lists / 50, 81 * 1024 * 1024 + lists * 8192, predicted, n_queries, shuffled,
    )  # fmt: skip


def grid(lists: Iterable[int] = (20, 50, 100, 141), n: int = 400) -> tuple[Point, ...]:
    """Return the points of several lists, probes doubling from 1 to all of them."""
    return tuple(
        point(some, probes, n=n, used_index=probes / some < 0.6)
        for some in lists
        for probes in sorted({*(2**i for i in range(some.bit_length())), some})
    )


def result(
    points: tuple[Point, ...] | None = None, *, target: float = 0.95, recommend: bool = True,
    source: str = "synthetic/clustered/seed=0", plan: str = "Limit\n  ->  Seq Scan", n: int = 400,
    rows: int = 10_000,
) -> TuningResult:  # fmt: skip
    """Return a result whose recommendation is the first frontier point to meet the target."""
    points = grid(n=n) if points is None else points
    meeting = [p for p in pareto_frontier(points) if p.recall_low >= target and recommend]
    chosen = meeting[0] if meeting else None
    advice = chosen and Recommendation(
        chosen.lists, chosen.probes, chosen.recall, chosen.recall_low, chosen.latency.p50_ms,
        chosen.speedup_vs_exact,
        "CREATE INDEX CONCURRENTLY chunk_embeddings_embedding_ivfflat\n"
        "  ON chunk_embeddings USING ivfflat (embedding vector_cosine_ops)\n"
        f"  WITH (lists = {chosen.lists})",
        f"SET LOCAL ivfflat.probes = {chosen.probes};",
        "SELECT chunk_id FROM chunk_embeddings ORDER BY embedding <=> :query LIMIT 10;",
    )  # fmt: skip
    why = "No measured setting is sure to reach the target: the data has no clusters to probe."
    if chosen:
        why = (
            f"The cheapest of {len(points)} measured settings whose recall is surely at least "
            f"{target:g}: its interval starts at {chosen.recall_low:.3f}."
        )
    environment = Environment(
        "2026-02-13 14:05 UTC", "16.4", "0.8.1",
        {"shared_buffers": "512MB", "jit": "off", "max_parallel_workers_per_gather": "0"},
        "2 cores, 8 GiB, Linux",
        "Warm: each query runs once unmeasured. One connection, prepared statements, queries in "
        "random order.",
    )  # fmt: skip
    return TuningResult(
        WorkloadInfo(rows, 1536, 200, 10, "cosine", source), environment, target,
        Exact(latency(18.0, n), 17.2, plan), points, advice, why, Timings(1.4, 22.8, 61.0, 88.2),
    )  # fmt: skip


def curve(lists: int, rows: int = 10_000) -> Curve:
    """Return a plausible curve: the more lists, the fewer rows to read."""
    share = np.arange(1, lists + 1) / lists
    share = share ** (1 - 0.08 * (1 - share))
    recall = 1 - np.exp(-0.9 * (share * lists**0.75) ** 0.7) * (1 - share)
    return Curve(lists, recall, share * rows, 1.0 + 0.15 * np.log10(lists + 1))


COST = CostModel(0.4, 0.0021, 0.0016, 0.043, 12)
DIFFICULTY = Difficulty(
    Metric.COSINE, 10_000, 1536, 100, 11, 2.51, 2.48, 2.22, 1.09, 21.4, 3.2, 0.0, 0.001, 0,
    1.0, 1.0, 1.0,
)  # fmt: skip


def measured(lists: int, probes: int, *, shuffled: bool = True, off: float = 0.006) -> Point:
    """Return the point of a setting that was predicted by `curve`, a little off."""
    of_lists = curve(lists)
    predicted = float(of_lists.recall[probes - 1])
    return point(
        lists, probes, recall=predicted - off, p50_ms=float(COST.p50_ms(of_lists)[probes - 1]),
        predicted=predicted, n_queries=100 if shuffled else 40, shuffled=shuffled,
        n=200 if shuffled else 40,
    )  # fmt: skip


def tuned(
    *, target: float | None = 0.95, max_ms: float | None = None, recommend: bool = True,
    confirmed: float | None = 0.957, rebuilds: tuple[int | None, ...] = (6, 8, 7),
    source: str = "synthetic/clustered/seed=0",
) -> TuningResult:  # fmt: skip
    """Return what a search finds that predicts, builds a few and decides."""
    curves = tuple(curve(lists) for lists in (10, 20, 40, 80, 100, 160, 250, 400))
    wanted = [(c, c.probes_for(0.95 if target is None else target) or c.lists) for c in curves]
    alone = [
        measured(c.lists, max(1, round(probes * factor)), shuffled=False)
        for c, probes in wanted[3:7] for factor in (0.6, 1.0)
    ]  # fmt: skip
    survivors = [measured(c.lists, min(c.lists, round(1.1 * p) + 1)) for c, p in wanted[3:7]]
    points = (*alone, *survivors)
    found = result(points, target=target or 0.9, source=source, recommend=False)
    best = min(survivors, key=lambda p: p.latency.p50_ms)
    bounds = confirmed is not None and (confirmed, confirmed - 0.016, confirmed + 0.013, 100)
    advice = Recommendation(
        best.lists, best.probes, best.recall, best.recall_low, best.latency.p50_ms,
        best.speedup_vs_exact, f"CREATE INDEX ON t USING ivfflat (e) WITH (lists = {best.lists})",
        f"SET LOCAL ivfflat.probes = {best.probes};", "SELECT id FROM t ORDER BY e <=> :query;",
        best.recall_high, 100, True, best.predicted_recall, *(bounds or (None, None, None, 0)),
        tuple(Rebuild(p, 0.956 + 0.002 * i, 0.951 + i / 1000, 5.0) for i, p in enumerate(rebuilds)),
    )  # fmt: skip
    return dataclasses.replace(
        found, target_recall=target, max_ms=max_ms, curves=curves, cost=COST,
        difficulty=DIFFICULTY, expectation="Expect recall 0.95 from about 3 % of the rows.",
        recommendation=advice if recommend else None,
        workload=dataclasses.replace(found.workload, n_queries=100, n_confirming=100),
        timings=dataclasses.replace(found.timings, predict_s=1.3),
        why=f"lists {best.lists}, probes {best.probes} is the cheapest proven setting."
        if recommend else found.why,
    )  # fmt: skip
