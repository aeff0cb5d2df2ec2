"""Results as a run might find them, with no database behind them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from resume_lab.tuning.results import (
    Environment,
    Exact,
    Latency,
    Point,
    Recommendation,
    Timings,
    TuningResult,
    WorkloadInfo,
    pareto_frontier,
)


def latency(p50_ms: float, n: int = 400, seed: int = 0) -> Latency:
    """Return samples around a median, with a tail to the right."""
    noise = np.random.default_rng(seed).lognormal(0, 0.12, n)
    return Latency.of(p50_ms * noise / np.median(noise))


def point(
    lists: int = 100, probes: int = 8, *, recall: float | None = None, p50_ms: float | None = None,
    n: int = 400, used_index: bool = True, forced: bool = True, index: str = "ivfflat",
    plan: str = "Limit\n  ->  Index Scan using trial on rows", rows_returned: float = 1.0,
    exact_ms: float = 18.0,
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
        2.0 + lists / 50, 81 * 1024 * 1024 + lists * 8192,
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
